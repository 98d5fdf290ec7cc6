// From request to response; see api.h.
#include "sidecar/api/api.h"

#include <spdlog/spdlog.h>

#include <algorithm>

#include "common/scopes.h"
#include "sidecar/api/reply.h"
#include "sidecar/api/router.h"
#include "sidecar/base/log.h"
#include "sidecar/base/measures.h"

namespace headgate {

Api::Api(ApiServices services) : services_(std::move(services)), authenticator_(services_) {}

boost::asio::awaitable<ServerResponse> Api::handle(ServerRequest request) {
    auto began = std::chrono::steady_clock::now();
    std::string method = request.method;
    std::string path = request.path;
    Principal principal;
    const Route* route = nullptr;
    ServerResponse response = co_await answer(std::move(request), principal, route);
    const std::size_t place = route == nullptr ? 0 : static_cast<std::size_t>(route - api_routes().data()) + 1;
    add(measures().requests[std::min(place, kRoutesCountedMax)][status_class(response.status)]);
    auto duration = std::chrono::steady_clock::now() - began;
    spdlog::log(response.status >= 500 ? spdlog::level::warn : spdlog::level::debug,
                "request method={} path={} status={} duration_us={} org={} key={}", log_value(method), log_value(path),
                response.status, std::chrono::duration_cast<std::chrono::microseconds>(duration).count(),
                log_value(principal.org), log_value(principal.key_id));
    co_return response;
}

boost::asio::awaitable<ServerResponse> Api::answer(ServerRequest request, Principal& principal, const Route*& route) {
    RouteMatch match = find_route(api_routes(), request.method, request.path);
    route = match.route;
    bool needs_credential = match.route != nullptr ? !match.route->scope.empty() : path_is_protected(request.path);
    if (needs_credential) {
        Authentication authentication = co_await authenticator_.authenticate(request);
        if (!authentication.principal) co_return std::move(authentication.refusal);
        principal = *authentication.principal;
    }
    if (match.route == nullptr) {
        if (match.allow.empty()) co_return problem_response(404, "There is nothing at this path");
        auto response = problem_response(405, "This path answers " + match.allow + " only");
        response.headers.emplace_back("Allow", match.allow);
        co_return response;
    }
    if (needs_credential && !scopes_allow(principal.scopes, match.route->scope))
        co_return insufficient_scope(match.route->scope);
    Call call{std::move(request), principal, std::move(match.params)};
    co_return co_await match.route->handler(services_, std::move(call));
}

}  // namespace headgate
