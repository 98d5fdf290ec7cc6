// Where a request carries its credentials.
#pragma once

#include "ngx_module/conf.h"

namespace headgate::edge {

// Borrowed from the request's headers.
struct Credentials {
    std::string_view token;
    std::string_view api_key;
    bool ambiguous = false;  // credentials in two places
};

// Of the kinds that the location accepts. At most one of `token` and `api_key` is set unless it is ambiguous.
[[nodiscard]] Credentials find_credentials(ngx_http_request_t* r, const AuthConf& conf) noexcept;

}  // namespace headgate::edge
