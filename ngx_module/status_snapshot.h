// The numbers that headgate_status shows, read once, and the one table that names them. What is new in zone.h's
// counters gets a row here; the JSON and the Prometheus text follow.
#pragma once

#include <array>
#include <span>
#include <string>
#include <string_view>

#include "ngx_module/redis_conn.h"
#include "ngx_module/zone.h"

namespace headgate::edge {

inline constexpr std::size_t kRedisStateCount = 5;
static_assert(static_cast<std::size_t>(RedisState::kBackoff) + 1 == kRedisStateCount);

struct StatusSnapshot {
    CounterValues counters{};
    ngx_atomic_uint_t uptime_ms = 0;  // since the zone was made: reloads go on
    ngx_atomic_uint_t workers = 0;    // that live, those that are quitting included
    ngx_atomic_uint_t inflight_bytes = 0;
    struct Auth {
        ngx_atomic_uint_t tokens, keys, evictions;  // of the zone
        ngx_atomic_uint_t revocations, revocations_max;
        ngx_atomic_uint_t resync_age_s;  // since all revocations were read; since the zone was made if they never were
        ngx_atomic_uint_t redis_silent_ms;
    };
    Auth auth{};
    std::array<ngx_atomic_uint_t, kRedisStateCount>
        redis_states{};  // workers whose worst connection is in each RedisState
};

// Reads the zone; looks up whether each worker is alive.
[[nodiscard]] StatusSnapshot status_snapshot(const ZoneShared& shared) noexcept;

// One number. Rows of one `group` follow each other.
struct StatusRow {
    std::string_view group;   // JSON: the object it is a member of
    std::string_view name;    // JSON: the member
    std::string_view metric;  // Prometheus: after `headgate_edge_`; a counter's ends in _total
    std::string_view help;
    ngx_atomic_uint_t (*value)(const StatusSnapshot& snapshot);

    [[nodiscard]] bool is_counter() const noexcept { return metric.ends_with("_total"); }
};
[[nodiscard]] std::span<const StatusRow> status_rows() noexcept;

// `idle`, `connecting`, `ready`, `backoff`: the words for connections to Redis.
[[nodiscard]] std::string_view redis_state_name(RedisState state) noexcept;

enum class MetricsFormat : std::uint8_t { kPrometheus, kOpenMetrics };

[[nodiscard]] std::string status_json(const StatusSnapshot& snapshot);
// https://prometheus.io/docs/instrumenting/exposition_formats/ (text, 0.0.4) or OpenMetrics 1.0.
[[nodiscard]] std::string status_metrics(const StatusSnapshot& snapshot, MetricsFormat format);

}  // namespace headgate::edge
