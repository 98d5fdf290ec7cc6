// What authentication keeps in the zone besides its cached entries (auth_cache.h): the revocations, how current
// they are. All but the ngx_atomic_t are read and changed under the zone's lock.
#pragma once

#include "ngx_module/ngx.h"
#include "ngx_module/resync_schedule.h"
#include "ngx_module/revocations.h"

namespace headgate::edge {

// A stream id of Redis.
struct StreamId {
    std::uint64_t ms = 0;
    std::uint64_t sequence = 0;
    friend auto operator<=>(const StreamId&, const StreamId&) = default;
};

struct AuthShared {
    // ngx_current_msec (one clock for all workers) when the Redis of keys last proved that nothing was missed:
    // a reply on the control stream, or a finished resync. It begins when the zone is made.
    ngx_atomic_t heard_ms;
    ngx_msec_t made_ms;  // when the zone was
    // Raised by every `jwks` entry: a worker that remembers another number fetches its key sets again.
    // Flags, 0 or 1, which requests read without the lock.
    ngx_atomic_t synced;              // the first resync since the zone was made has finished
    ngx_atomic_t left_out;            // no room for some member: Redis is asked about each token
    ngx_atomic_t left_out_with_time;  // and for some that it cannot be asked about: no token is let in
    ngx_atomic_t complained_s;        // about that

    RevocationTable revoked;
    // Raised with every revocation that is new: a cached token that was checked at this revision needs no check.
    std::uint64_t revision;
    // Raised with every change of a key's record: a reply that was asked for before it is not cached.
    std::uint64_t key_epoch;

    ResyncSchedule schedule;
    bool history_broken;  // Redis came back with an older memory, and the sidecar has not mended it yet
    bool left_out_again;  // as above, since the resync under way began: what holds when it has finished
    bool left_out_with_time_again;
    std::uint32_t withdrawals;  // members that were taken back
    bool positioned;            // `last_id` is set
    StreamId last_id;           // of headgate:control: everything up to it has been applied

    // Once, when the zone is made: takes the reserved part. False when there is no room.
    [[nodiscard]] bool init(ngx_slab_pool_t* pool, std::size_t zone_bytes) noexcept;

    [[nodiscard]] ngx_msec_t silent_ms() const noexcept {
        const auto silent = static_cast<ngx_msec_int_t>(ngx_current_msec - static_cast<ngx_msec_t>(heard_ms));
        return silent < 0 ? 0 : static_cast<ngx_msec_t>(silent);  // another worker's clock is a little ahead
    }
    // Under the lock. Nothing is proved before the first resync, nor while the one for a gap is still to come.
    void heard() noexcept {
        if (synced != 0 && !schedule.has_gap()) {
            heard_ms = static_cast<ngx_atomic_uint_t>(ngx_current_msec);
        }
    }

    // One member, from a push or from a resync. What does not fit is remembered as left out.
    void revoke(const RevokedMember& member, std::int64_t until_ms) noexcept;
    void withdraw(const RevokedMember& member) noexcept;
};
static_assert(std::is_trivially_destructible_v<AuthShared>);

// A share of the zone, 1 / kRevocationShare, is for revocations alone and is never evicted.
inline constexpr std::size_t kRevocationShare = 8;

}  // namespace headgate::edge
