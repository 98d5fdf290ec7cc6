// See zone_cache.h.
#include "ngx_module/zone_cache.h"

#include <cstring>

namespace headgate::edge {

namespace {

// How much of the zone an entry is expected to take, slab rounding included: decides the number of buckets.
constexpr std::size_t kEntryBytesExpected = 512;
// Making room for one entry pushes out at most so many: the slab gives memory back in pages of one size class, so
// that a single eviction need not help a larger entry.
constexpr int kEvictionsMax = 32;

}  // namespace

struct ZoneCache::Entry {
    Entry* next;  // of the same bucket
    ngx_queue_t lru;
    ZoneKey key;
    ZoneKind kind;
    alignas(8) unsigned char bytes[];
};

bool ZoneCache::init(ngx_slab_pool_t* pool, std::size_t zone_bytes) noexcept {
    std::size_t buckets = 64;
    while (buckets * 2 * kEntryBytesExpected <= zone_bytes) {
        buckets *= 2;
    }
    pool_ = pool;
    buckets_ = static_cast<Entry**>(ngx_slab_calloc_locked(pool, buckets * sizeof(Entry*)));
    bucket_mask_ = buckets - 1;
    ngx_queue_init(&lru_);
    pool->log_nomem = 0;  // a full table is how this one lives
    return buckets_ != nullptr;
}

ZoneCache::Entry** ZoneCache::bucket_of(ZoneKind kind, const ZoneKey& key) noexcept {
    std::uint64_t hash;
    std::memcpy(&hash, key.data(), sizeof hash);
    return &buckets_[(hash + static_cast<std::uint64_t>(kind)) & bucket_mask_];
}

ZoneCache::Entry** ZoneCache::place_of(ZoneKind kind, const ZoneKey& key) noexcept {
    for (Entry** place = bucket_of(kind, key); *place != nullptr; place = &(*place)->next) {
        if ((*place)->kind == kind && std::memcmp((*place)->key.data(), key.data(), key.size()) == 0) {
            return place;
        }
    }
    return nullptr;
}

void* ZoneCache::find(ZoneKind kind, const ZoneKey& key) noexcept {
    Entry** place = place_of(kind, key);
    if (place == nullptr) {
        return nullptr;
    }
    Entry* entry = *place;
    if (ngx_queue_head(&lru_) != &entry->lru) {
        ngx_queue_remove(&entry->lru);
        ngx_queue_insert_head(&lru_, &entry->lru);
    }
    return entry->bytes;
}

void ZoneCache::remove(Entry** place) noexcept {
    Entry* entry = *place;
    *place = entry->next;
    ngx_queue_remove(&entry->lru);
    --counts_[static_cast<std::size_t>(entry->kind)];
    ngx_slab_free_locked(pool_, entry);
}

bool ZoneCache::evict_one() noexcept {
    if (ngx_queue_empty(&lru_)) {
        return false;
    }
    Entry* oldest = ngx_queue_data(ngx_queue_last(&lru_), Entry, lru);
    ++evictions_;
    Entry** place = place_of(oldest->kind, oldest->key);
    if (place != nullptr && *place == oldest) {
        remove(place);
    } else {  // the worker that inserted it died, or the one that removed it
        ngx_queue_remove(&oldest->lru);
        ngx_slab_free_locked(pool_, oldest);
    }
    return true;
}

void* ZoneCache::insert(ZoneKind kind, const ZoneKey& key, std::size_t bytes) noexcept {
    erase(kind, key);
    void* memory = ngx_slab_alloc_locked(pool_, sizeof(Entry) + bytes);
    for (int i = 0; memory == nullptr && i < kEvictionsMax && evict_one(); ++i) {
        memory = ngx_slab_alloc_locked(pool_, sizeof(Entry) + bytes);
    }
    if (memory == nullptr) {
        return nullptr;
    }
    auto* entry = static_cast<Entry*>(memory);
    ngx_memzero(entry, sizeof(Entry) + bytes);
    entry->key = key;
    entry->kind = kind;
    // What is found must be in the queue: a worker that dies in between leaves an entry that is only evicted.
    ngx_queue_insert_head(&lru_, &entry->lru);
    Entry** bucket = bucket_of(kind, key);
    entry->next = *bucket;
    *bucket = entry;
    ++counts_[static_cast<std::size_t>(kind)];
    return entry->bytes;
}

void* ZoneCache::allocate_beside(std::size_t bytes) noexcept {
    void* memory = ngx_slab_calloc_locked(pool_, bytes);
    while (memory == nullptr && evict_one()) {
        memory = ngx_slab_calloc_locked(pool_, bytes);
    }
    return memory;
}

void ZoneCache::erase(ZoneKind kind, const ZoneKey& key) noexcept {
    if (Entry** place = place_of(kind, key); place != nullptr) {
        remove(place);
    }
}

void ZoneCache::erase_all(ZoneKind kind) noexcept {
    for (std::size_t i = 0; i <= bucket_mask_; ++i) {
        for (Entry** place = &buckets_[i]; *place != nullptr;) {
            if ((*place)->kind == kind) {
                remove(place);
            } else {
                place = &(*place)->next;
            }
        }
    }
}

}  // namespace headgate::edge
