// One table in the shared zone for what workers remember together: verified tokens, API keys, the state of limits.
// Least recently used first out; it never grows beyond the zone. Everything is called under the zone's mutex
// (ZoneLock), and pointers into the table are good for as long as it is held.
#pragma once

#include <array>
#include <cstdint>

#include "ngx_module/ngx.h"

namespace headgate::edge {

using ZoneKey = std::array<unsigned char, 32>;  // a digest: also what spreads entries over the buckets

// nginx unlocks it by force when its holder dies (ngx_unlock_mutexes()), so every change must leave the table
// walkable at each step, and nothing under it may wait or throw.
class ZoneLock {
 public:
    explicit ZoneLock(ngx_slab_pool_t* pool) noexcept : pool_(pool) { ngx_shmtx_lock(&pool_->mutex); }
    ~ZoneLock() { ngx_shmtx_unlock(&pool_->mutex); }
    ZoneLock(const ZoneLock&) = delete;
    ZoneLock& operator=(const ZoneLock&) = delete;

 private:
    ngx_slab_pool_t* pool_;
};

// What an entry is. Two kinds never meet, even under one key.
enum class ZoneKind : std::uint8_t { kToken, kApiKey, kLimit, kCount };

class ZoneCache {
 public:
    // In shared memory, once. Takes the bucket table out of the pool; false when the zone is too small.
    [[nodiscard]] bool init(ngx_slab_pool_t* pool, std::size_t zone_bytes) noexcept;

    // The entry's bytes, at least `bytes` as inserted, aligned for any scalar; nullptr when it is not there. Found
    // entries count as used.
    [[nodiscard]] void* find(ZoneKind kind, const ZoneKey& key) noexcept;
    // A new entry of zeroed bytes in place of any of this key; the least recently used ones make room. nullptr when
    // even that does not help (an entry that no zone of this size can hold).
    [[nodiscard]] void* insert(ZoneKind kind, const ZoneKey& key, std::size_t bytes) noexcept;
    void erase(ZoneKind kind, const ZoneKey& key) noexcept;
    // Memory of the pool that is no entry, for good; entries make room for it, all of them if need be.
    [[nodiscard]] void* allocate_beside(std::size_t bytes) noexcept;
    // Forgets every entry of a kind.
    void erase_all(ZoneKind kind) noexcept;

    [[nodiscard]] ngx_uint_t entries(ZoneKind kind) const noexcept { return counts_[static_cast<std::size_t>(kind)]; }
    [[nodiscard]] ngx_uint_t evictions() const noexcept { return evictions_; }

 private:
    struct Entry;
    [[nodiscard]] Entry** bucket_of(ZoneKind kind, const ZoneKey& key) noexcept;
    [[nodiscard]] Entry** place_of(ZoneKind kind, const ZoneKey& key) noexcept;
    void remove(Entry** place) noexcept;
    bool evict_one() noexcept;

    ngx_slab_pool_t* pool_;
    Entry** buckets_;
    std::size_t bucket_mask_;
    ngx_queue_t lru_;  // most recently used first
    ngx_uint_t counts_[static_cast<std::size_t>(ZoneKind::kCount)];
    ngx_uint_t evictions_;
};
static_assert(std::is_trivially_destructible_v<ZoneCache>);

}  // namespace headgate::edge
