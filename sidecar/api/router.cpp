// The route table and its matching; see router.h. Next files: authenticate.cpp, then the handlers.
#include "sidecar/api/router.h"

#include <array>

#include "sidecar/api/form.h"

namespace headgate {
namespace {

constexpr auto kRoutes = std::to_array<Route>({
    {"GET", "/live", "", get_live},
    {"GET", "/health", "", get_health},
    {"GET", "/metrics", "", get_metrics},
    {"POST", "/token", "", post_token},
    {"GET", "/inbox", "inbox:read", get_inbox},
    {"POST", "/inbox/{id}/ack", "inbox:ack", post_inbox_ack},
    {"GET", "/api/webhooks", "webhooks:read", list_webhooks},
    {"POST", "/api/webhooks", "webhooks:write", post_webhook},
    {"POST", "/api/webhooks/test", "webhooks:write", post_webhook_test},
    {"GET", "/api/webhooks/explain-url", "webhooks:read", get_explain_url},
    {"POST", "/api/webhooks/explain-url", "webhooks:read", post_explain_url},
    {"POST", "/api/webhooks/{id}/test", "webhooks:write", post_webhook_test},
    {"GET", "/api/webhooks/{id}", "webhooks:read", get_webhook},
    {"PATCH", "/api/webhooks/{id}", "webhooks:write", patch_webhook},
    {"PUT", "/api/webhooks/{id}", "webhooks:write", put_webhook},
    {"POST", "/api/webhooks/{id}/rotate-secret", "webhooks:write", post_webhook_secret},
    {"POST", "/api/webhooks/{id}/rotate-key-pair", "webhooks:write", post_webhook_key_pair},
    {"GET", "/.well-known/webhooks/{id}/jwks.json", "", get_webhook_jwks},
    {"DELETE", "/api/webhooks/{id}", "webhooks:write", delete_webhook},

    {"GET", "/api/deliveries", "webhooks:read", list_deliveries},
    {"GET", "/api/deliveries/{id}", "webhooks:read", get_delivery},
    {"GET", "/api/deliveries/{id}/attempts", "webhooks:read", list_attempts},
    {"POST", "/api/deliveries/{id}/retry", "webhooks:write", retry_delivery},
    {"POST", "/api/deliveries/{id}/cancel", "webhooks:write", cancel_delivery},
    {"POST", "/api/webhooks/{id}/replay", "webhooks:write", post_replay},
    {"GET", "/api/webhooks/{id}/replays", "webhooks:read", list_replays},
    {"GET", "/api/replays/{id}", "webhooks:read", get_replay},
    {"POST", "/api/replays/{id}/pause", "webhooks:write", pause_replay},
    {"POST", "/api/replays/{id}/resume", "webhooks:write", resume_replay},
    {"POST", "/api/replays/{id}/cancel", "webhooks:write", cancel_replay},
    {"GET", "/api/events", "events:read", list_events},
    {"GET", "/api/events/{id}", "events:read", get_event},
    {"GET", "/api/events/{id}/explain", "events:read", explain_event},
});

std::string_view next_segment(std::string_view& path) {
    path.remove_prefix(1);  // the slash
    auto slash = path.find('/');
    auto segment = path.substr(0, slash);
    path.remove_prefix(slash == std::string_view::npos ? path.size() : slash);
    return segment;
}

// Fills params when the path fits.
bool fits(std::string_view pattern, std::string_view path, std::vector<std::string>& params) {
    params.clear();
    while (!pattern.empty() && !path.empty()) {
        auto wanted = next_segment(pattern);
        auto segment = next_segment(path);
        if (wanted.starts_with('{')) {
            auto decoded = percent_decode(segment);
            if (!decoded || decoded->empty()) return false;
            params.push_back(std::move(*decoded));
        } else if (wanted != segment) {
            return false;
        }
    }
    return pattern.empty() && path.empty();
}

}  // namespace

std::span<const Route> api_routes() noexcept { return kRoutes; }

RouteMatch find_route(std::span<const Route> routes, std::string_view method, std::string_view path) {
    RouteMatch match;
    if (path.size() > 1 && path.ends_with('/')) path.remove_suffix(1);
    if (!path.starts_with('/')) return match;
    for (const auto& route : routes) {
        std::vector<std::string> params;
        if (!fits(route.pattern, path, params)) continue;
        if (route.method == method || (method == "HEAD" && route.method == "GET")) {
            match.route = &route;
            match.params = std::move(params);
            return match;
        }
        if (!match.allow.empty()) match.allow += ", ";
        match.allow += route.method;
        if (route.method == "GET") match.allow += ", HEAD";
    }
    return match;
}

bool path_is_protected(std::string_view path) noexcept {
    for (std::string_view root : {"/api", "/inbox"})
        if (path.starts_with(root) && (path.size() == root.size() || path[root.size()] == '/')) return true;
    return false;
}

}  // namespace headgate
