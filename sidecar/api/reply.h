// The shapes of answers: the envelope of /api, bare bodies, problem+json. Pure.
#pragma once

#include <boost/json/fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "common/result.h"
#include "sidecar/io/http_server.h"

namespace headgate {

// One thing that is wrong with a request: where ("body", "url") and what. The message never holds a secret.
struct FieldError {
    std::vector<std::string> loc;
    std::string msg;
};

[[nodiscard]] ServerResponse bare_response(int status, std::string json);
// {"success":true,"data":…[,"message":…]}
[[nodiscard]] ServerResponse envelope(int status, const boost::json::value& data, std::string_view message = {});
[[nodiscard]] ServerResponse problem_response(int status, std::string_view detail);
// 422 with every error at once: `errors: [{loc, msg}]`.
[[nodiscard]] ServerResponse field_problem(const std::vector<FieldError>& errors);
// One wrong query parameter.
[[nodiscard]] ServerResponse query_problem(std::string_view name, const Error& error);
// By the error's traits. What is our own fault is logged whole and told in general words.
[[nodiscard]] ServerResponse error_response(const Error& error);

}  // namespace headgate
