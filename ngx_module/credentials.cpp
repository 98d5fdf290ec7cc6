// See credentials.h.
#include "ngx_module/credentials.h"

#include <algorithm>

namespace headgate::edge {

namespace {

constexpr std::string_view kAuthorization = "authorization";

// The value after `Bearer` (any case, RFC 9110 section 11.1) and at least one space; empty for another scheme.
std::string_view bearer_value(std::string_view header) noexcept {
    constexpr std::string_view kScheme = "bearer";
    if (header.size() <= kScheme.size() || header[kScheme.size()] != ' ' ||
        ngx_strncasecmp(bytes_of(header), bytes_of(kScheme), kScheme.size()) != 0) {
        return {};
    }
    header.remove_prefix(kScheme.size());
    header.remove_prefix(std::min(header.find_first_not_of(' '), header.size()));
    return header;
}

bool header_has_place_name(const ngx_table_elt_t& header, std::string_view name) noexcept {
    return header.key.len == name.size() &&
           std::equal(name.begin(), name.end(), header.lowcase_key,
                      [](char wanted, u_char c) { return static_cast<u_char>(wanted) == (c == '-' ? '_' : c); });
}

// A second credential of whatever kind makes the request ambiguous. Nothing is no credential.
void take(Credentials& found, const CredentialPlace& place, std::string_view value) noexcept {
    if (value.empty()) {
        return;
    }
    const bool is_key = place.kinds == kAuthApiKey || (place.kinds != kAuthJwt && value.starts_with("hg_"));
    found.ambiguous = found.ambiguous || !found.token.empty() || !found.api_key.empty();
    (is_key ? found.api_key : found.token) = value;
}

// Cookie: a=b; c=d (RFC 6265, section 4.2.1). Names are case-sensitive; quotes are part of the value.
void take_cookies(Credentials& found, const CredentialPlace& place, std::string_view header) noexcept {
    while (!header.empty()) {
        const std::size_t end = std::min(header.find(';'), header.size());
        std::string_view pair = header.substr(0, end);
        header.remove_prefix(std::min(end + 1, header.size()));
        pair.remove_prefix(std::min(pair.find_first_not_of(" \t"), pair.size()));
        pair = pair.substr(0, pair.find_last_not_of(" \t") + 1);
        if (pair.size() > place.name.size() && pair.starts_with(place.name) && pair[place.name.size()] == '=') {
            take(found, place, pair.substr(place.name.size() + 1));
        }
    }
}

std::string_view unescaped(ngx_http_request_t* r, std::string_view value) noexcept {
    if (value.find('%') == std::string_view::npos) {
        return value;
    }
    const ngx_str_t copy = copy_to_pool(r->pool, value);
    if (copy.data == nullptr) {
        return value;  // no key looks like that: it is refused
    }
    u_char* from = copy.data;
    u_char* to = copy.data;
    ngx_unescape_uri(&to, &from, copy.len, 0);
    return {reinterpret_cast<const char*>(copy.data), static_cast<std::size_t>(to - copy.data)};
}

void take_arguments(Credentials& found, const CredentialPlace& place, ngx_http_request_t* r) noexcept {
    for (std::string_view args = view(r->args); !args.empty();) {
        const std::size_t end = std::min(args.find('&'), args.size());
        const std::string_view pair = args.substr(0, end);
        args.remove_prefix(std::min(end + 1, args.size()));
        if (pair.size() > place.name.size() && pair.starts_with(place.name) && pair[place.name.size()] == '=') {
            take(found, place, unescaped(r, pair.substr(place.name.size() + 1)));
        }
    }
}

}  // namespace

std::string header_place_name(std::string_view name) {
    std::string out(name);
    for (char& c : out) {
        c = c == '-' ? '_' : static_cast<char>(ngx_tolower(static_cast<u_char>(c)));
    }
    return out;
}

Credentials find_credentials(ngx_http_request_t* r, const AuthConf& conf) noexcept {
    Credentials found;
    std::size_t authorizations = 0;
    for_each_header(r->headers_in.headers, [&](const ngx_table_elt_t& header) {
        const std::string_view value = view(header.value);
        for (const CredentialPlace& place : conf.places) {
            switch (place.kind) {
                case CredentialPlace::kBearer:
                    if (header_is(header, kAuthorization)) {
                        found.ambiguous = found.ambiguous || ++authorizations > 1;
                        take(found, place, bearer_value(value));
                    }
                    break;
                case CredentialPlace::kHeader:
                    if (header_has_place_name(header, place.name)) {
                        const std::string_view bare = bearer_value(value);
                        take(found, place, bare.empty() ? value : bare);
                    }
                    break;
                case CredentialPlace::kCookie:
                    if (header_is(header, "cookie")) {
                        take_cookies(found, place, value);
                    }
                    break;
                case CredentialPlace::kArgument:
                    break;  // not in a header
            }
        }
    });
    for (const CredentialPlace& place : conf.places) {
        if (place.kind == CredentialPlace::kArgument) {
            take_arguments(found, place, r);
        }
    }
    return found;
}

}  // namespace headgate::edge
