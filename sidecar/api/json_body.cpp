// Reading JSON bodies; see json_body.h.
#include "sidecar/api/json_body.h"

#include <boost/json.hpp>

#include "common/limits.h"
#include "sidecar/api/reply.h"
#include "sidecar/base/json_read.h"
#include "sidecar/base/text.h"

namespace headgate {
namespace {

bool is_json_type(std::string_view content_type) {
    std::string type = to_lower(content_type.substr(0, content_type.find(';')));
    while (type.ends_with(' ') || type.ends_with('\t')) type.pop_back();
    return type == "application/json" || (type.starts_with("application/") && type.ends_with("+json"));
}

}  // namespace

JsonBody read_json_object(const ServerRequest& request) {
    if (!is_json_type(request.header("content-type")))
        return {{}, problem_response(415, "The Content-Type must be application/json")};
    auto encoding = request.header("content-encoding");
    if (!encoding.empty() && to_lower(encoding) != "identity")
        return {{}, problem_response(415, "A Content-Encoding is not accepted")};
    boost::system::error_code ec;
    auto value = read_json(request.body, limits::kJsonDepthMax, ec);
    if (ec) return {{}, problem_response(400, "The body is not valid JSON: " + ec.message())};
    if (!value.is_object()) return {{}, field_problem({{{"body"}, "The body must be a JSON object"}})};
    return {std::move(value.get_object()), {}};
}

JsonBody read_optional_json_object(const ServerRequest& request) {
    std::string body = request.body;
    std::erase_if(body, [](char c) { return std::string_view(" \t\r\n").find(c) != std::string_view::npos; });
    if (body.empty() || body == "{}") return {};
    return read_json_object(request);
}

}  // namespace headgate
