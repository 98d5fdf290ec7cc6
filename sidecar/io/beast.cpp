// Beast's own code (BOOST_BEAST_SEPARATE_COMPILATION): this file is the one that compiles it. Only the HTTP server needs it.
#include <boost/beast/src.hpp>
