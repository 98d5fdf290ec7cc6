// See status_snapshot.h.
#include "ngx_module/status_snapshot.h"

#include <signal.h>

namespace headgate::edge {

namespace {

#define HEADGATE_COUNTER(field) [](const StatusSnapshot& s) { return s.counters.field; }

#define HEADGATE_AUTH(field) [](const StatusSnapshot& s) { return s.auth.field; }

constexpr StatusRow kRows[] = {
    {"requests", "total", "requests_total", "Requests that met a stage of the module.", HEADGATE_COUNTER(requests)},
    {"requests", "accepted", "requests_accepted_total", "Requests that passed authentication and limits.",
     HEADGATE_COUNTER(accepted)},
    {"requests", "limited", "requests_limited_total", "Requests refused by a rate limit.", HEADGATE_COUNTER(limited)},

    {"auth", "token_hits", "token_cache_hits_total", "Tokens that had been verified before.",
     HEADGATE_COUNTER(token_hits)},
    {"auth", "token_misses", "token_cache_misses_total", "Tokens that were verified.", HEADGATE_COUNTER(token_misses)},
    {"auth", "tokens", "token_cache_entries", "Verified tokens in the zone.", HEADGATE_AUTH(tokens)},
    {"auth", "key_hits", "key_cache_hits_total", "API keys whose record was in the zone.", HEADGATE_COUNTER(key_hits)},
    {"auth", "key_misses", "key_cache_misses_total", "API keys that Redis was asked for.",
     HEADGATE_COUNTER(key_misses)},
    {"auth", "keys", "key_cache_entries", "API keys in the zone.", HEADGATE_AUTH(keys)},
    {"auth", "evictions", "zone_evictions_total", "Entries of the zone that made room for others.",
     HEADGATE_AUTH(evictions)},
    {"auth", "revocations", "revocations", "Revocations that the zone holds.", HEADGATE_AUTH(revocations)},
    {"auth", "revocations_max", "revocations_max", "Revocations that it has room for.", HEADGATE_AUTH(revocations_max)},
    {"auth", "control_entries", "control_entries_total", "Entries of headgate:control that workers have read.",
     HEADGATE_COUNTER(control_entries)},
    {"auth", "resyncs", "revocation_resyncs_total", "Readings of all revocations.", HEADGATE_COUNTER(resyncs)},
    {"auth", "resync_age_s", "revocation_resync_age_seconds", "Age of the last reading of all revocations.",
     HEADGATE_AUTH(resync_age_s)},
    {"auth", "redis_silent_ms", "redis_silent_milliseconds",
     "How long the Redis of keys has not been heard; headgate_auth_stale is compared with it.",
     HEADGATE_AUTH(redis_silent_ms)},

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
#undef HEADGATE_AUTH

StatusSnapshot::Auth auth_snapshot(const ZoneShared& shared) noexcept {
    ZoneLock lock(shared.pool);
    const AuthShared& auth = shared.auth;
    const std::int64_t since_ms =
        auth.synced != 0 ? auth.schedule.finished_ms : static_cast<std::int64_t>(auth.made_ms);
    const std::int64_t age_ms = static_cast<std::int64_t>(ngx_current_msec) - since_ms;
    return {.tokens = shared.cache.entries(ZoneKind::kToken),
            .keys = shared.cache.entries(ZoneKind::kApiKey),
            .evictions = shared.cache.evictions(),
            .revocations = auth.revoked.size(),
            .revocations_max = auth.revoked.size_max(),
            .resync_age_s = age_ms < 0 ? 0 : static_cast<ngx_atomic_uint_t>(age_ms / 1000),
            .redis_silent_ms = auth.silent_ms()};
}

}  // namespace

std::span<const StatusRow> status_rows() noexcept { return kRows; }

StatusSnapshot status_snapshot(const ZoneShared& shared) noexcept {
    StatusSnapshot snapshot;
    snapshot.counters = shared.total();
    const std::int64_t uptime_ms = now_ms() - static_cast<std::int64_t>(shared.started_at_ms);
    snapshot.uptime_ms = uptime_ms < 0 ? 0 : static_cast<ngx_atomic_uint_t>(uptime_ms);  // the clock may step back
    snapshot.auth = auth_snapshot(shared);
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
