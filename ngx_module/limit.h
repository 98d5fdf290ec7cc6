// Stage 2: principal -> allowed or not. Runs in the precontent phase, before the body is read.
#pragma once

#include <string>

#include "common/resp.h"
#include "ngx_module/conf.h"
#include "ngx_module/request_ctx.h"

struct redisReply;

namespace headgate::edge {

// NGX_DECLINED: let pass. NGX_AGAIN: waits for Redis. Else: answered. With `may_fuse` the last limiter
// is left for the publish stage (ctx->fused), which charges it in the same call as its XADD.
[[nodiscard]] ngx_int_t limit(ngx_http_request_t* r, RequestCtx* ctx, const LocConf* conf, bool may_fuse);

// One limiter, made concrete for a request: which buckets, which windows, how much.
struct LimitCharge {
    std::string key;  // of Redis
    std::string name;
    std::vector<RateWindow> windows;
    std::int64_t cost = 1;
};
enum class ChargeKind : std::uint8_t { kCharge, kBypass, kForbidden, kTooExpensive };
[[nodiscard]] ChargeKind make_charge(ngx_http_request_t* r, const RequestCtx* ctx, const LimitConf& conf,
                                     LimitCharge& charge);

// The script's ARGV for a charge, and how many there are.
[[nodiscard]] std::size_t charge_arguments(const LimitCharge& charge) noexcept;
void write_charge_arguments(RespWriter& writer, const LimitCharge& charge);
// The part of them behind need, ahead, ret and its age.
void write_charge_windows(RespWriter& writer, const LimitCharge& charge);
// The whole command that charges and does nothing else.
[[nodiscard]] std::string charge_command(const LimitCharge& charge);
// Sends it, suspends the request, and calls `after` once: `known` when Redis decided (the context then says
// what), after healing a flushed script cache. `charge` lives in the request's pool. False: nothing was sent.
[[nodiscard]] bool start_charge(RequestCtx* ctx, const LimitCharge* charge,
                                void (*after)(RequestCtx* ctx, void* data, bool known), void* data);

// Reads the script's reply into the context: reports for the headers, refused or not. False: not such a reply.
[[nodiscard]] bool read_charge_reply(RequestCtx* ctx, const LimitCharge& charge, const redisReply* reply);
[[nodiscard]] bool is_noscript(const redisReply* reply) noexcept;

// The answer to a request that was refused: the limit's status with Retry-After and quota-exceeded.
[[nodiscard]] ngx_int_t respond_limited(ngx_http_request_t* r, RequestCtx* ctx);

}  // namespace headgate::edge
