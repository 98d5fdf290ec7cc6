// Results on standard output. For people on a terminal: `name: value` lines and aligned tables.
// For scripts: the same lines, and tables as tab-separated lines under a header; or, with --json, one
// JSON object or array on one line.
#pragma once

#include <boost/json/fwd.hpp>
#include <string>
#include <vector>

#include "common/result.h"
#include "sidecar/api/reply.h"

namespace headgate {

void print_record(bool as_json, const boost::json::object& record);
void print_table(bool as_json, const std::vector<std::string>& columns, const boost::json::array& rows);
// A problem's errors as one Error, a line each.
[[nodiscard]] Error as_error(const std::vector<FieldError>& errors);

}  // namespace headgate
