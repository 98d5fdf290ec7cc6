// How a TargetReport is shown as JSON; shared by the API and the command line. Pure.
#pragma once

#include <boost/json/fwd.hpp>
#include <string_view>

#include "sidecar/deliver/target_report.h"

namespace headgate {

// {"url", "allowed", "conclusion", "steps": [{"step", "allowed": true | false | null, "detail"}]}
[[nodiscard]] boost::json::object target_report_json(std::string_view url, const TargetReport& report);

}  // namespace headgate
