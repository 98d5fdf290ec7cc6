// JSON as it is sent and printed. Pure.
#pragma once

#include <boost/json/fwd.hpp>
#include <string>

namespace headgate {

// One line. Like boost::json::serialize, but numbers in their shortest ordinary form: 92.6 and 2, not 9.26E1 and 2E0.
[[nodiscard]] std::string json_text(const boost::json::value& value);

}  // namespace headgate
