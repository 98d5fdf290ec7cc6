// Stage 1: credentials -> principal. Runs in the access phase. A token is verified on the spot; an
// API key is looked up in Redis, so the request may wait.
#pragma once

#include "ngx_module/conf.h"
#include "ngx_module/request_ctx.h"

namespace headgate::edge {

// NGX_OK: let in (or nothing to do: NGX_DECLINED). NGX_AGAIN: waits for Redis. Else: answered.
[[nodiscard]] ngx_int_t authenticate(ngx_http_request_t* r, RequestCtx* ctx, const LocConf* conf);

// What became of a refusal under `satisfy any`: let in by another check (auth_basic, say), it is neither counted nor
// does its WWW-Authenticate stay in the response. Harmless without one.
void settle_refusal(ngx_http_request_t* r, RequestCtx* ctx, bool let_in) noexcept;

}  // namespace headgate::edge
