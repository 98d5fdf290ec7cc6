// See zone.h.
#include "ngx_module/zone.h"

namespace headgate::edge {

ngx_int_t init_zone(ngx_shm_zone_t* zone, void* old_data) noexcept {
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
        return NGX_OK;
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
    return NGX_OK;
}

}  // namespace headgate::edge
