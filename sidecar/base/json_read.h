// JSON as it came, with numbers as exact as a double can be. Pure.
#pragma once

#include <boost/json/fwd.hpp>
#include <boost/json/storage_ptr.hpp>
#include <boost/system/error_code.hpp>
#include <cstddef>
#include <string_view>

namespace headgate {

// As boost::json::parse, which in 1.81 may miss the nearest double by a bit when a fraction has more than 15 digits:
// then 9007199254740991.0 is not 9007199254740991, and what is written in two ways differs. At most `depth_max` deep.
[[nodiscard]] boost::json::value read_json(std::string_view text, std::size_t depth_max,
                                           boost::system::error_code& error, boost::json::storage_ptr storage = {});

}  // namespace headgate
