// Building answers; see reply.h.
#include "sidecar/api/reply.h"

#include <spdlog/spdlog.h>

#include <boost/json.hpp>

#include "common/problem.h"
#include "sidecar/base/json_text.h"
#include "sidecar/base/log.h"

namespace headgate {
namespace {

ServerResponse problem_with(int status, std::string_view detail, std::string_view extra_members) {
    return ServerResponse{
        status, std::string(kProblemContentType), {}, problem_json(status, {}, detail, extra_members)};
}

}  // namespace

ServerResponse bare_response(int status, std::string json) {
    ServerResponse response;
    response.status = status;
    response.body = std::move(json);
    return response;
}

ServerResponse envelope(int status, const boost::json::value& data, std::string_view message) {
    std::string json = "{\"success\":true,\"data\":" + json_text(data);
    if (!message.empty()) {
        json += ",\"message\":";
        append_json_string(json, message);
    }
    return bare_response(status, json + "}");
}

ServerResponse problem_response(int status, std::string_view detail) { return problem_with(status, detail, {}); }

ServerResponse field_problem(const std::vector<FieldError>& errors) {
    boost::json::array list;
    for (const auto& error : errors) {
        boost::json::array loc;
        for (const auto& part : error.loc) loc.emplace_back(part);
        list.push_back({{"loc", std::move(loc)}, {"msg", error.msg}});
    }
    std::string detail = "The request has " + (errors.size() == 1 ? std::string("an error: ") + errors.front().msg
                                                                  : std::to_string(errors.size()) + " errors");
    return problem_with(422, detail, "\"errors\":" + json_text(list));
}

ServerResponse query_problem(std::string_view name, const Error& error) {
    return field_problem({{{"query", std::string(name)}, std::string(name) + " " + error.message}});
}

ServerResponse error_response(const Error& error) {
    auto traits = error_traits(error.code);
    if (traits.http_status < 500) return problem_response(traits.http_status, error.message);
    spdlog::error("request_failed code={} error={}", traits.name, log_value(error.message));
    auto response =
        problem_response(traits.http_status, traits.retryable ? "Temporarily unavailable; try again"
                                                              : "An unexpected error; the log of the server has more");
    if (traits.retryable) response.headers.emplace_back("Retry-After", "1");
    return response;
}

}  // namespace headgate
