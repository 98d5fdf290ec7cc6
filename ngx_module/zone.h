// The shared memory of `headgate_zone`: what all workers count and remember together. The counters are plain words
// changed by atomic operations; what is behind `cache` needs a ZoneLock.
#pragma once

#include "ngx_module/auth_shared.h"
#include "ngx_module/auth_status.h"
#include "ngx_module/ngx.h"
#include "ngx_module/zone_cache.h"

namespace headgate::edge {

inline constexpr std::size_t kWorkerSlotsMax = NGX_MAX_PROCESSES;

struct ZoneShared {
    // A reload hands the zone to the next cycle, whose module may be another build of this file.
    ngx_uint_t layout;
    ngx_atomic_t started_at_ms;

    ngx_atomic_t requests;  // that met a headgate stage
    ngx_atomic_t accepted;  // past every stage
    ngx_atomic_t limited;
    ngx_atomic_t refused[kAuthStatusCount];

    ngx_atomic_t events_published;  // acknowledged by Redis
    ngx_atomic_t events_failed;     // answered 503
    ngx_atomic_t payload_bytes;
    ngx_atomic_t payload_bytes_copied;

    ngx_atomic_t redis_connects;
    ngx_atomic_t redis_writes;  // system calls
    ngx_atomic_t redis_commands;
    ngx_atomic_t redis_replies;
    ngx_atomic_t redis_errors;

    // A gauge must not drift when a worker dies: each has a slot of its own, cleared when it starts.
    struct Worker {
        ngx_atomic_t pid;  // 0 = none
        ngx_atomic_t inflight_bytes;
        ngx_atomic_t redis_state;  // RedisConn's, as status shows it
    };
    Worker workers[kWorkerSlotsMax];

    ngx_slab_pool_t* pool;  // the zone itself: ZoneLock(shared.pool)
    ZoneCache cache;
    AuthShared auth;
};
static_assert(std::is_trivially_destructible_v<ZoneShared>);
inline constexpr ngx_uint_t kZoneLayout =
    1'000'000 * 2 + sizeof(ZoneShared);  // raise the factor with any change within

inline void count(ngx_atomic_t& counter, ngx_atomic_int_t by = 1) noexcept { (void)ngx_atomic_fetch_add(&counter, by); }

// nginx's init callback of the zone: makes the shared part, or takes over that of the cycle before.
[[nodiscard]] ngx_int_t init_zone(ngx_shm_zone_t* zone, void* old_data) noexcept;

[[nodiscard]] inline ZoneShared* shared_of(ngx_shm_zone_t* zone) noexcept {
    return static_cast<ZoneShared*>(zone->data);
}

}  // namespace headgate::edge
