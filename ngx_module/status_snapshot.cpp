// See status_snapshot.h.
#include "ngx_module/status_snapshot.h"

#include <signal.h>

namespace headgate::edge {

namespace {

#define HEADGATE_COUNTER(field) [](const StatusSnapshot& s) { return s.counters.field; }

constexpr StatusRow kRows[] = {
    {"requests", "total", "requests_total", "Requests that met a stage of the module.", HEADGATE_COUNTER(requests)},
    {"requests", "accepted", "requests_accepted_total", "Requests that passed authentication and limits.",
     HEADGATE_COUNTER(accepted)},
    {"requests", "limited", "requests_limited_total", "Requests refused by a rate limit.", HEADGATE_COUNTER(limited)},

    {"published", "events", "events_published_total", "Events that Redis has acknowledged.",
     HEADGATE_COUNTER(events_published)},
    {"published", "replayed", "events_replayed_total", "Events that had been published under their Idempotency-Key.",
     HEADGATE_COUNTER(events_replayed)},
    {"published", "not_stored", "events_not_stored_total", "Events answered with 503.",
     HEADGATE_COUNTER(events_failed)},
    {"published", "payload_bytes", "payload_bytes_total", "Bytes of the payloads of published events.",
     HEADGATE_COUNTER(payload_bytes)},
    {"published", "payload_bytes_copied", "payload_copied_bytes_total",
     "Payload bytes that were copied on their way to Redis.", HEADGATE_COUNTER(payload_bytes_copied)},
    {"published", "inflight_bytes", "inflight_bytes", "Bytes of bodies that Redis has not yet acknowledged.",
     [](const StatusSnapshot& s) { return s.inflight_bytes; }},

    {"redis", "connects", "redis_connects_total", "Connections made to Redis.", HEADGATE_COUNTER(redis_connects)},
    {"redis", "writes", "redis_writes_total", "System calls that wrote to Redis.", HEADGATE_COUNTER(redis_writes)},
    {"redis", "commands", "redis_commands_total", "Commands sent to Redis.", HEADGATE_COUNTER(redis_commands)},
    {"redis", "replies", "redis_replies_total", "Replies from Redis.", HEADGATE_COUNTER(redis_replies)},
    {"redis", "errors", "redis_errors_total", "Connections to Redis that failed.", HEADGATE_COUNTER(redis_errors)},
};

#undef HEADGATE_COUNTER

}  // namespace

std::span<const StatusRow> status_rows() noexcept { return kRows; }

StatusSnapshot status_snapshot(const ZoneShared& shared) noexcept {
    StatusSnapshot snapshot;
    snapshot.counters = shared.total();
    const std::int64_t uptime_ms = now_ms() - static_cast<std::int64_t>(shared.started_at_ms);
    snapshot.uptime_ms = uptime_ms < 0 ? 0 : static_cast<ngx_atomic_uint_t>(uptime_ms);  // the clock may step back
    for (const ZoneShared::Worker& worker : shared.workers) {
        // A worker that was killed could not clear its slot.
        if (worker.pid == 0 || (kill(static_cast<pid_t>(worker.pid), 0) == -1 && errno == ESRCH)) {
            continue;
        }
        ++snapshot.workers;
        snapshot.inflight_bytes += worker.inflight_bytes;
        ++snapshot.redis_states[worker.redis_state % kRedisStateCount];
    }
    return snapshot;
}

std::string_view redis_state_name(RedisState state) noexcept {
    switch (state) {
        case RedisState::kIdle:
            return "idle";
        case RedisState::kConnecting:
        case RedisState::kHandshake:
            return "connecting";
        case RedisState::kReady:
            return "ready";
        case RedisState::kBackoff:
            break;
    }
    return "backoff";
}

}  // namespace headgate::edge
