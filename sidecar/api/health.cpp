// GET /live, /health and /metrics. What they say is the app's: see monitor.cpp.
#include "common/ip_network.h"
#include "sidecar/api/api.h"
#include "sidecar/api/call.h"
#include "sidecar/api/reply.h"

namespace headgate {
namespace {

// From this machine, and by nobody's order: a proxy on this machine says so in a header, and passes a credential on.
// The numbers are of all organizations, so that no credential opens them.
bool is_from_this_machine(const ServerRequest& request) {
    for (std::string_view name : {"x-forwarded-for", "x-real-ip", "forwarded", "via", "authorization", "x-api-key"})
        if (request.header_count(name) > 0) return false;
    if (request.peer.empty()) return true;  // a unix socket
    auto peer = parse_ip(request.peer);
    return peer && (parse_network("127.0.0.0/8")->contains(*peer) || parse_network("::1/128")->contains(*peer));
}

ServerResponse health_response(const HealthReport& report) {
    std::string body = R"({"status":")";
    body += report.is_healthy ? "ok" : "unavailable";
    body += R"(","reasons":)" + report.reasons + R"(,"checks":)" + report.checks + "}";
    auto response = bare_response(report.is_healthy ? 200 : 503, std::move(body));
    response.headers.emplace_back("Cache-Control", "no-store");
    return response;
}

constexpr const char* kAlive = R"({"status":"ok"})";

}  // namespace

boost::asio::awaitable<ServerResponse> get_live(const ApiServices&, Call) { co_return bare_response(200, kAlive); }

boost::asio::awaitable<ServerResponse> get_health(const ApiServices& services, Call) {
    co_return health_response(services.health());
}

boost::asio::awaitable<ServerResponse> answer_without_store(ServerRequest request,
                                                            std::chrono::steady_clock::time_point since) {
    if (request.path == "/live") co_return bare_response(200, kAlive);
    const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - since);
    const std::string number = std::to_string(ms.count());
    if (request.path == "/health") {
        co_return health_response({.is_healthy = false,
                                   .checks = R"({"store":{"ok":false,"silent_ms":)" + number + "}}",
                                   .reasons = R"(["the store could not be opened for )" + number + R"( ms"])"});
    }
    ServerResponse response = problem_response(503, "The store cannot be reached");
    response.headers.emplace_back("Retry-After", "2");
    co_return response;
}

boost::asio::awaitable<ServerResponse> get_metrics(const ApiServices& services, Call call) {
    if (!is_from_this_machine(call.request))
        co_return problem_response(403, "Metrics are given to this machine only, or at the address of metrics.listen");
    ServerResponse response;
    response.content_type = "text/plain; version=0.0.4; charset=utf-8";
    response.headers.emplace_back("Cache-Control", "no-store");
    response.body = services.metrics();
    co_return response;
}

}  // namespace headgate
