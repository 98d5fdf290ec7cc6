// The implementations of Asio and Beast (BOOST_ASIO_SEPARATE_COMPILATION): this file is the one that compiles them.
#include <boost/asio/impl/src.hpp>
#include <boost/asio/ssl/impl/src.hpp>
#include <boost/beast/src.hpp>
