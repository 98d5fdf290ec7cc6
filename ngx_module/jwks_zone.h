// Remote key sets in the shared zone: their text, and who fetches it. A block of its own for each, reserved when nginx
// reads its configuration, so that a full cache cannot push keys out. All but `revision` under the zone's mutex.
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "ngx_module/conf_jwt.h"
#include "ngx_module/jwks_schedule.h"
#include "ngx_module/zone_cache.h"

namespace headgate::edge {

struct JwksSlot {
    KeyDigest identity;  // RemoteKeys::identity
    KeySchedule schedule;
    std::uint64_t generation;  // raised with each new text; 0: none yet
    std::uint64_t settled;     // fetches that have ended, however
    std::uint64_t claim;       // the last fetch's number: an older one's answer comes too late
    std::size_t text_bytes;
    u_char* text;  // limits::kKeySetBytesMax of the zone; nullptr: a free slot
};

struct JwksShared {
    ngx_atomic_t revision;  // raised with every change of a slot
    JwksSlot slots[kRemoteKeysMax];

    // In the master, when a configuration is read: a slot for each source. Those that are there already are fetched
    // again soon, because the location behind a URI may be another now. False when there is no room.
    [[nodiscard]] bool reserve(ZoneCache& cache, const std::vector<std::unique_ptr<RemoteKeys>>& sources) noexcept;
    [[nodiscard]] JwksSlot* find(const KeyDigest& identity) noexcept;
    void changed() noexcept { (void)ngx_atomic_fetch_add(&revision, 1); }
};
static_assert(std::is_trivially_destructible_v<JwksShared>);

}  // namespace headgate::edge
