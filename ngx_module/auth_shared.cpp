// See auth_shared.h.
#include "ngx_module/auth_shared.h"

namespace headgate::edge {

bool AuthShared::init(ngx_slab_pool_t* pool, std::size_t zone_bytes) noexcept {
    const std::size_t bytes = zone_bytes / kRevocationShare;
    void* memory = ngx_slab_alloc_locked(pool, bytes);
    if (memory == nullptr) {
        return false;
    }
    revoked.init(memory, bytes);
    made_ms = ngx_current_msec;
    heard_ms = static_cast<ngx_atomic_uint_t>(made_ms);
    return true;
}

void AuthShared::revoke(const RevokedMember& member, std::int64_t until_ms) noexcept {
    switch (revoked.add(member, until_ms, schedule.round)) {
        case RevocationTable::Added::kKnown:
            break;
        case RevocationTable::Added::kNew:
            ++revision;
            break;
        case RevocationTable::Added::kLeftOut:
            (member.has_time() ? left_out_with_time : left_out) = 1;
            (member.has_time() ? left_out_with_time_again : left_out_again) = true;
            break;
    }
}

void AuthShared::withdraw(const RevokedMember& member) noexcept {
    (void)revoked.remove(member);
    ++withdrawals;
}

}  // namespace headgate::edge
