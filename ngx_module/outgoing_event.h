// Stage 3: one event that has been scanned and is ready to be sent. Of the request's pool, borrows from it, and needs
// no destructor.
#pragma once

#include "common/event_id.h"
#include "common/event_scanner.h"
#include "common/hmac.h"
#include "ngx_module/ngx.h"
#include "ngx_module/redis_pipeline.h"

namespace headgate::edge {

struct RequestCtx;

struct OutgoingEvent {
    char id[kEventIdBytes] = {};
    int shard = -1;
    std::int64_t at_ms = 0;
    ngx_str_t type{}, source{}, ordering_key{};
    ByteRange payload;                       // in the request's body
    ngx_str_t idempotency_key{};             // of Redis; empty without an Idempotency-Key
    Sha256Digest body_digest{};              // of the event's raw bytes; only with a key
    std::uint64_t payload_bytes_copied = 0;  // by the command that was built last
    bool resent = false;                     // after NOSCRIPT
    bool brings_script = false;              // EVAL: there is no NOSCRIPT to be healed
    RedisHops hops;                          // of its command through a cluster

    [[nodiscard]] bool idempotent() const noexcept { return idempotency_key.len != 0; }
};
static_assert(std::is_trivially_destructible_v<OutgoingEvent>);

// Gives the event an id, a time and a shard, and keeps what the scanner has read of it. `payload` lies in the whole
// body; `client_key` is the Idempotency-Key, empty without one (with one, body_digest is the caller's to set). False:
// no memory or no randomness.
[[nodiscard]] bool prepare_event(ngx_http_request_t* r, const RequestCtx* ctx, const EventScanner& scanner,
                                 ByteRange payload, std::string_view client_key, OutgoingEvent& event);

}  // namespace headgate::edge
