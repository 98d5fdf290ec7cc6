// See credentials.h.
#include "ngx_module/credentials.h"

#include <algorithm>

namespace headgate::edge {

namespace {

// The value after `Bearer` (any case, RFC 9110 section 11.1) and at least one space; empty for another scheme.
std::string_view bearer_value(std::string_view header) noexcept {
    constexpr std::string_view kScheme = "bearer";
    if (header.size() <= kScheme.size() || header[kScheme.size()] != ' ' ||
        ngx_strncasecmp(reinterpret_cast<u_char*>(const_cast<char*>(header.data())),
                        reinterpret_cast<u_char*>(const_cast<char*>(kScheme.data())), kScheme.size()) != 0) {
        return {};
    }
    header.remove_prefix(kScheme.size());
    header.remove_prefix(std::min(header.find_first_not_of(' '), header.size()));
    return header;
}

}  // namespace

Credentials find_credentials(ngx_http_request_t* r, const AuthConf& conf) noexcept {
    const ngx_uint_t accepted = conf.kinds;
    Credentials found;
    std::size_t authorizations = 0;
    std::size_t keys = 0;
    for (ngx_list_part_t* part = &r->headers_in.headers.part; part != nullptr; part = part->next) {
        auto* headers = static_cast<ngx_table_elt_t*>(part->elts);
        for (ngx_uint_t i = 0; i < part->nelts; ++i) {
            if (header_is(headers[i], "authorization")) {
                ++authorizations;
                const std::string_view value = bearer_value(view(headers[i].value));
                const bool is_key =
                    (accepted & kAuthApiKey) != 0 && (value.starts_with("hg_") || (accepted & kAuthJwt) == 0);
                if (value.empty()) {
                    continue;  // another scheme, perhaps meant for the upstream
                }
                (is_key ? found.api_key : found.token) = value;
                keys += is_key ? 1 : 0;
            } else if ((accepted & kAuthApiKey) != 0 && header_is(headers[i], "x-api-key")) {
                found.api_key = view(headers[i].value);
                ++keys;
            }
        }
    }
    found.ambiguous = authorizations > 1 || keys > 1 || (keys == 1 && !found.token.empty());
    return found;
}

}  // namespace headgate::edge
