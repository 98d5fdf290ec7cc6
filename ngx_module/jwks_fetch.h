// Stage 1, remote key sets: a JWKS by subrequest. The request that finds a set missing, old or without its token's kid
// carries the fetch; what comes of it goes into the zone, for all workers. Input: jwks_wait. Output: jwks_zone.
#pragma once

#include "ngx_module/conf.h"
#include "ngx_module/request_ctx.h"

namespace headgate::edge {

struct ZoneShared;

// The control op `jwks`: every remote set counts as expired, so that the next request that needs it fetches it again;
// until then, and where that fails, the old keys stay. Any worker.
void jwks_refetch(ZoneShared& shared) noexcept;

// Begins a fetch unless another request was faster. std::bad_alloc: there is no memory for it.
void start_jwks_fetch(ngx_http_request_t* r, RequestCtx* ctx, const RemoteKeys& remote, const JwtConf& conf,
                      bool for_kid);
// Is one of the request's fetches still under way?
[[nodiscard]] bool carries_jwks_fetch(const RequestCtx* ctx) noexcept;

// Filters: is r a subrequest that fetches keys? Then its header and body are taken here, and go nowhere else.
[[nodiscard]] bool is_jwks_fetch(ngx_http_request_t* r) noexcept;
[[nodiscard]] ngx_int_t capture_jwks_header(ngx_http_request_t* r) noexcept;
[[nodiscard]] ngx_int_t capture_jwks_body(ngx_http_request_t* r, ngx_chain_t* in) noexcept;

// The request that carries them ends: fetches under way are given up.
void abandon_jwks_fetches(RequestCtx* ctx) noexcept;

}  // namespace headgate::edge
