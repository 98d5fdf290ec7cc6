// Stage 2: principal -> allowed or not. Runs in the precontent phase, before the body is read. limit_charge says what a
// limiter charges, limit_lease who decides, limit_headers what the client is told.
#pragma once

#include "ngx_module/conf.h"
#include "ngx_module/limit_charge.h"
#include "ngx_module/request_ctx.h"

struct redisReply;

namespace headgate::edge {

// NGX_DECLINED: let pass. NGX_AGAIN: waits for Redis. Else: answered. With `may_fuse` the last limiter
// is left for the publish stage (ctx->fused), which charges it in the same call as its XADD.
[[nodiscard]] ngx_int_t limit(ngx_http_request_t* r, RequestCtx* ctx, const LocConf* conf, bool may_fuse);

// ---- for a charge that was left for the publish stage ----

// Charges it alone, suspends the request, and calls `after` once: `known` when Redis decided (the context then says
// what). False: nothing was sent.
[[nodiscard]] bool start_charge(RequestCtx* ctx, LimitCharge* charge,
                                void (*after)(RequestCtx* ctx, void* data, bool known), void* data);
// Reads the script's reply into the context: reports for the headers, refused or not. False: not such a reply.
[[nodiscard]] bool read_charge_reply(RequestCtx* ctx, LimitCharge& charge, const redisReply* reply);
// Nothing will come of ctx->fused any more; again is harmless.
void give_up_charge(RequestCtx* ctx) noexcept;

// The answer to a request that was refused: the limit's status with Retry-After and quota-exceeded.
[[nodiscard]] ngx_int_t respond_limited(ngx_http_request_t* r, RequestCtx* ctx);

}  // namespace headgate::edge
