// How the sidecar is: what /health answers and what stands in headgate:status:sidecar:…. Pure; the
// app samples the numbers once a second.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "sidecar/api/call.h"

namespace headgate {

// Sampled by the app. Ages in ms; 0 = nothing waits.
struct Vitals {
    std::int64_t uptime_ms = 0;
    std::int64_t redis_silent_ms = 0;
    std::int64_t store_silent_ms = 0;
    std::int64_t store_refusing_ms = 0;  // for how long events, results or leases could not be written
    std::int64_t oldest_undrained_ms = 0;
    std::int64_t oldest_due_ms = 0;
    bool is_projected = false;
    std::uint64_t drained = 0, delivered = 0, failed = 0, retried = 0, dead = 0, duplicates = 0, quarantined = 0;
    std::int64_t in_flight = 0, in_memory = 0;
    std::int64_t retrying = 0;  // now, in the store
    int shards = 0, lanes = 0;  // owned
};

inline constexpr std::int64_t kBacklogAgeMsMax = 60'000;
inline constexpr std::int64_t kSilenceMsMax = 5'000;

[[nodiscard]] HealthReport health_report(const Vitals& vitals);
// <prefix>status:sidecar:<host>:<pid>
[[nodiscard]] std::string status_key(std::string_view prefix);
// One HSET and PEXPIRE of the status hash, in MULTI, as RESP; four replies.
inline constexpr std::size_t kStatusReplies = 4;
[[nodiscard]] std::string status_commands(const Vitals& vitals, std::string_view key);

}  // namespace headgate
