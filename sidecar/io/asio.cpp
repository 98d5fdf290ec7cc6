// Asio's own code (BOOST_ASIO_SEPARATE_COMPILATION): this file is the one that compiles it.
#include <boost/asio/impl/src.hpp>
#include <boost/asio/ssl/impl/src.hpp>
