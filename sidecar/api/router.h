// Which route a request takes. Pure: method and path in, a route or the reason there is none out.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "sidecar/api/call.h"

namespace headgate {

struct Route {
    std::string_view method;
    std::string_view pattern;  // "/api/webhooks/{id}"; without a trailing slash
    std::string_view scope;    // empty: no credential is asked for
    Handler handler;
};

// The table of the management API.
[[nodiscard]] std::span<const Route> api_routes() noexcept;

struct RouteMatch {
    const Route* route = nullptr;  // null: 404, or 405 when `allow` is not empty
    std::string allow;             // the methods that the path knows: "GET, HEAD, POST"
    std::vector<std::string> params;
};

// A trailing slash makes no difference. HEAD takes GET's route. A pattern that comes first wins.
[[nodiscard]] RouteMatch find_route(std::span<const Route> routes, std::string_view method, std::string_view path);

// May nobody without a credential learn anything under this path, not even whether it exists?
[[nodiscard]] bool path_is_protected(std::string_view path) noexcept;

}  // namespace headgate
