// The shared memory of `headgate_zone`: what all workers count and remember together. The counters are plain words
// changed by atomic operations; what is behind `cache` needs a ZoneLock.
#pragma once

#include "ngx_module/auth_shared.h"
#include "ngx_module/auth_status.h"
#include "ngx_module/backlog.h"
#include "ngx_module/jwks_zone.h"
#include "ngx_module/ngx.h"
#include "ngx_module/zone_cache.h"

namespace headgate::edge {

inline constexpr std::size_t kWorkerSlotsMax = NGX_MAX_PROCESSES;

// What is counted, and nothing but words: they are summed without a look at their names. What is added here gets a
// row in status_snapshot.cpp, and is shown everywhere.
template <typename Word>
struct CountersOf {
    Word requests;  // that met a headgate stage
    Word accepted;  // past every stage
    Word limited;
    Word refused[kAuthStatusCount];

    Word events_published;  // acknowledged by Redis
    Word events_replayed;   // under an Idempotency-Key: stored before
    Word events_failed;     // answered 503
    Word payload_bytes;
    Word payload_bytes_copied;

    Word token_hits;  // verified before
    Word token_misses;
    Word key_hits;  // asked for before
    Word key_misses;
    Word control_entries;  // read from headgate:control; each worker reads all
    Word resyncs;          // finished readings of all revocations

    Word redis_connects;
    Word redis_writes;  // system calls
    Word redis_commands;
    Word redis_replies;
    Word redis_errors;
};
using Counters = CountersOf<ngx_atomic_t>;
using CounterValues = CountersOf<ngx_atomic_uint_t>;
static_assert(sizeof(Counters) == sizeof(CounterValues));

// The counters of its own base are everybody's: for workers that found no room for their own.
struct ZoneShared : Counters {
    // A reload hands the zone to the next cycle, whose module may be another build of this file.
    ngx_uint_t layout;
    ngx_atomic_t started_at_ms;

    // A gauge must not drift when a worker dies: each has a slot of its own, cleared when it starts.
    struct Worker {
        ngx_atomic_t pid;  // 0 = none
        ngx_atomic_t inflight_bytes;
        ngx_atomic_t redis_state;  // RedisConn's, as status shows it
    };
    Worker workers[kWorkerSlotsMax];

    BacklogShared backlog;

    // Each worker counts on cache lines of its own. A slot's counters are made for the first worker that has the slot
    // and go on with the next one: what a worker that died has counted stays counted, and no total ever falls.
    Counters* counters[kWorkerSlotsMax];
    [[nodiscard]] Counters& own_counters() noexcept {
        Counters* own = counters[ngx_process_slot];
        return own == nullptr ? *this : *own;
    }
    // All workers' together.
    [[nodiscard]] CounterValues total() const noexcept;

    ngx_slab_pool_t* pool;  // the zone itself: ZoneLock(shared.pool)
    ZoneCache cache;
    JwksShared jwks;
    AuthShared auth;
};
static_assert(std::is_trivially_destructible_v<ZoneShared>);
inline constexpr ngx_uint_t kZoneLayout =
    1'000'000 * 12 + sizeof(ZoneShared);  // raise the factor with any change within

inline void count(ngx_atomic_t& counter, ngx_atomic_int_t by = 1) noexcept { (void)ngx_atomic_fetch_add(&counter, by); }

[[nodiscard]] CounterValues values_of(const Counters& counters) noexcept;
// a - b; b is an earlier state of a.
[[nodiscard]] CounterValues difference(const CounterValues& a, const CounterValues& b) noexcept;

// Makes the counters of this process's slot, unless they are there. Called by each worker at its start.
void claim_counters(ZoneShared& shared) noexcept;

// nginx's init callback of the zone: makes the shared part, or takes over that of the cycle before. zone->data is the
// MainConf before, and the shared part afterwards.
[[nodiscard]] ngx_int_t init_zone(ngx_shm_zone_t* zone, void* old_data) noexcept;

[[nodiscard]] inline ZoneShared* shared_of(ngx_shm_zone_t* zone) noexcept {
    return static_cast<ZoneShared*>(zone->data);
}

}  // namespace headgate::edge
