// GET /live and GET /health. The checks themselves are the app's: see app.cpp.
#include "sidecar/api/call.h"
#include "sidecar/api/reply.h"

namespace headgate {

boost::asio::awaitable<ServerResponse> get_live(const ApiServices&, Call) {
    co_return bare_response(200, R"({"status":"ok"})");
}

boost::asio::awaitable<ServerResponse> get_health(const ApiServices& services, Call) {
    HealthReport report = services.health();
    auto response = bare_response(report.is_healthy ? 200 : 503, std::string(R"({"status":")") +
                                                                     (report.is_healthy ? "ok" : "unavailable") +
                                                                     R"(","checks":)" + report.checks + "}");
    response.headers.emplace_back("Cache-Control", "no-store");
    co_return response;
}

}  // namespace headgate
