// Stage 2, what is charged: one limiter made concrete for a request. Next: limit_lease.
#pragma once

#include <type_traits>

#include "common/lease.h"
#include "common/resp.h"
#include "ngx_module/conf.h"
#include "ngx_module/request_ctx.h"

namespace headgate::edge {

struct LimitTake;

// Which buckets, which windows, how much. In the request's pool.
struct LimitCharge {
    const LimitConf* limiter = nullptr;
    const LimitWindows* windows = nullptr;
    bool passing = false;       // the windows live no longer than the request
    std::string_view key;       // of Redis
    std::int64_t cost = 1;      // 1 to the smallest burst
    ZoneKey zone_key{};         // of what this host knows of it
    LimitTake* take = nullptr;  // what is asked for on this charge's behalf, when it is left for the publish stage
};
static_assert(std::is_trivially_destructible_v<LimitCharge>);

enum class ChargeKind : std::uint8_t { kCharge, kBypass, kForbidden, kTooExpensive };
// May throw std::bad_alloc.
[[nodiscard]] ChargeKind make_charge(ngx_http_request_t* r, const RequestCtx* ctx, const LimitConf& conf,
                                     LimitCharge& charge);

// The limit script's ARGV, and how many there are.
[[nodiscard]] std::size_t limit_arguments(const LimitWindows& windows) noexcept;
void write_limit_arguments(RespWriter& writer, const LeaseTake& take, const LimitWindows& windows);
// What is asked for with a charge: its lease's take, or just its cost.
[[nodiscard]] LeaseTake take_of(const LimitCharge& charge) noexcept;
// A call of the limit script alone.
[[nodiscard]] std::string limit_command(std::string_view key, const LeaseTake& take, const LimitWindows& windows);

// A value that a client may choose as part of a key of Redis: bytes that could be taken for a hash tag, a separator or
// RESP's line ends are %-encoded, and long values hashed, so that none reaches another's bucket or another slot.
// `out` has encoded_bytes_max(value) bytes. Returns the new end.
[[nodiscard]] std::size_t encoded_bytes_max(std::string_view value) noexcept;
[[nodiscard]] char* encode_key_value(char* out, std::string_view value);

}  // namespace headgate::edge
