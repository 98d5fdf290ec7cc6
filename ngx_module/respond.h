// Stage 4: what the client is told. Status, headers, and problem+json bodies.
#pragma once

#include <string_view>

#include "ngx_module/conf.h"
#include "ngx_module/request_ctx.h"

namespace headgate::edge {

// Adds a response header; nullptr when there is no memory. `name` is static text; `value` lives as long as the request.
ngx_table_elt_t* push_header(ngx_http_request_t* r, std::string_view name, std::string_view value) noexcept;
// The same with a copy of `value`.
ngx_table_elt_t* add_header(ngx_http_request_t* r, std::string_view name, std::string_view value) noexcept;

// Sends a whole response. Returns what ngx_http_finalize_request() wants.
[[nodiscard]] ngx_int_t respond_body(ngx_http_request_t* r, ngx_uint_t status, std::string_view content_type,
                                     std::string_view body);

struct Problem {
    ngx_uint_t status;
    std::string_view detail;
    std::string_view type{};   // about:blank when empty
    std::string_view extra{};  // further JSON members
};

// A problem as application/problem+json; where an error_page for the status applies, the bare status,
// which nginx then turns into that page. Returns what ngx_http_finalize_request() wants. The rest of
// the request's body is discarded.
[[nodiscard]] ngx_int_t respond_problem(ngx_http_request_t* r, const Problem& problem);

// From a phase handler: ends the request with `rc` and returns what the phase engine wants.
[[nodiscard]] ngx_int_t end_in_phase(ngx_http_request_t* r, ngx_int_t rc) noexcept;

// 401 and 403 of the access phase, with WWW-Authenticate (RFC 6750, section 3). Where `satisfy any` applies
// the bare status goes to nginx.
[[nodiscard]] ngx_int_t respond_unauthorized(ngx_http_request_t* r, RequestCtx* ctx, const LocConf* conf);

// 503 with Retry-After: not stored, or not known to be.
[[nodiscard]] ngx_int_t respond_unavailable(ngx_http_request_t* r, std::string_view detail);

}  // namespace headgate::edge
