// See zone.h.
#include "ngx_module/zone.h"

#include <array>
#include <cstring>

#include "ngx_module/conf.h"

namespace headgate::edge {

namespace {

// A block for each remote key set.
bool reserve_key_sets(ngx_shm_zone_t* zone, const MainConf& conf, ZoneShared& shared) noexcept {
    ZoneLock lock(shared.pool);
    if (!shared.jwks.reserve(shared.cache, conf.remote_keys)) {
        ngx_log_error(NGX_LOG_EMERG, zone->shm.log, 0,
                      "headgate_zone \"%V\" is too small: each \"headgate_jwt_key_request\" needs 64k of it",
                      &zone->shm.name);
        return false;
    }
    return true;
}

constexpr std::size_t kCounterWords = sizeof(Counters) / sizeof(ngx_atomic_t);
using CounterWords = std::array<ngx_atomic_uint_t, kCounterWords>;
static_assert(sizeof(CounterWords) == sizeof(CounterValues));

void add_words(CounterWords& words, const Counters& counters) noexcept {
    const auto* from = reinterpret_cast<const ngx_atomic_t*>(&counters);
    for (std::size_t i = 0; i < kCounterWords; ++i) {
        words[i] += from[i];
    }
}

CounterValues values_of(const CounterWords& words) noexcept {
    CounterValues values;
    std::memcpy(&values, words.data(), sizeof values);
    return values;
}

}  // namespace

CounterValues ZoneShared::total() const noexcept {
    CounterWords words{};
    add_words(words, *this);
    for (const Counters* of_slot : counters) {
        if (of_slot != nullptr) {
            add_words(words, *of_slot);
        }
    }
    return values_of(words);
}

CounterValues values_of(const Counters& counters) noexcept {
    CounterWords words{};
    add_words(words, counters);
    return values_of(words);
}

CounterValues difference(const CounterValues& a, const CounterValues& b) noexcept {
    CounterWords left;
    CounterWords right;
    std::memcpy(left.data(), &a, sizeof a);
    std::memcpy(right.data(), &b, sizeof b);
    for (std::size_t i = 0; i < kCounterWords; ++i) {
        left[i] -= right[i];
    }
    return values_of(left);
}

void claim_counters(ZoneShared& shared) noexcept {
    if (shared.counters[ngx_process_slot] != nullptr) {
        return;
    }
    const ZoneLock lock(shared.pool);
    // Written only when it is zeroed: readers take no lock.
    shared.counters[ngx_process_slot] = static_cast<Counters*>(ngx_slab_calloc_locked(shared.pool, sizeof(Counters)));
}

ngx_int_t init_zone(ngx_shm_zone_t* zone, void* old_data) noexcept {
    const auto& conf = *static_cast<MainConf*>(zone->data);
    if (old_data != nullptr) {
        if (static_cast<ZoneShared*>(old_data)->layout != kZoneLayout) {
            ngx_log_error(
                NGX_LOG_EMERG, zone->shm.log, 0,
                "headgate_zone \"%V\" belongs to another version of the module: restart nginx, or upgrade its "
                "binary on the fly, instead of reloading",
                &zone->shm.name);
            return NGX_ERROR;
        }
        zone->data = old_data;  // a reload keeps what is counted and remembered
        return reserve_key_sets(zone, conf, *static_cast<ZoneShared*>(old_data)) ? NGX_OK : NGX_ERROR;
    }
    auto* pool = reinterpret_cast<ngx_slab_pool_t*>(zone->shm.addr);
    if (zone->shm.exists) {
        zone->data = pool->data;
        return NGX_OK;
    }
    void* memory = ngx_slab_calloc(pool, sizeof(ZoneShared));
    auto* shared = memory == nullptr ? nullptr : new (memory) ZoneShared{};
    if (shared == nullptr || !shared->auth.init(pool, zone->shm.size) || !shared->cache.init(pool, zone->shm.size)) {
        ngx_log_error(NGX_LOG_EMERG, zone->shm.log, 0, "headgate_zone \"%V\" is too small", &zone->shm.name);
        return NGX_ERROR;
    }
    shared->layout = kZoneLayout;
    shared->pool = pool;
    shared->started_at_ms = static_cast<ngx_atomic_uint_t>(now_ms());
    pool->data = shared;
    zone->data = shared;
    return reserve_key_sets(zone, conf, *shared) ? NGX_OK : NGX_ERROR;
}

}  // namespace headgate::edge
