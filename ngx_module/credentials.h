// Where a request carries its credentials.
#pragma once

#include "ngx_module/conf.h"

namespace headgate::edge {

// Borrowed from the request's headers, or from its pool.
struct Credentials {
    std::string_view token;
    std::string_view api_key;
    bool ambiguous = false;  // credentials in two places, or two in one
};

// Of the kinds that the location accepts, in the places that it names. At most one of `token` and `api_key` is set
// unless it is ambiguous.
[[nodiscard]] Credentials find_credentials(ngx_http_request_t* r, const AuthConf& conf) noexcept;

// A header's name as places are compared: lowercase, `_` for `-`, as nginx makes $http_… of it.
[[nodiscard]] std::string header_place_name(std::string_view name);

}  // namespace headgate::edge
