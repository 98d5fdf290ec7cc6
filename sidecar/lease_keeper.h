// What one instance owns, round by round: which parts it may use, which are on their way out, and until when. Pure: no
// I/O, and the time is told. Input: what the store answered. Next file: ownership.h, which asks it.
#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <vector>

#include "sidecar/store/owned_parts.h"

namespace headgate {

// Who has not renewed for so long stops by itself: before its leases end on the store's clock, so that no two
// instances work at a time even when a renewal took long.
inline constexpr std::chrono::milliseconds kFencedAfter{8'000};
static_assert(kFencedAfter.count() < kLeaseMs);
// Rounds begin so far apart, when nothing calls for one earlier.
inline constexpr std::chrono::milliseconds kRoundInterval{2'000};

class LeaseKeeper {
 public:
    using TimePoint = std::chrono::steady_clock::time_point;
    // Is anything of this part still being worked on?
    using InUse = std::function<bool(int part)>;

    // `is_shared`: another instance may take what is not renewed; else nothing is ever fenced.
    LeaseKeeper(int shards, int lanes, bool is_shared);

    // Of the parts on their way out, those that nobody uses: to be released with the next round.
    struct Idle {
        std::vector<int> shards, lanes;
    };
    [[nodiscard]] Idle idle(const InUse& is_shard_in_use, const InUse& is_lane_in_use) const;
    // A round that began at `began` was answered. Of an excess the highest parts leave, so that part 0, which much
    // else depends on, moves last. What has begun to leave does so: coming back, it has another epoch.
    OwnedPartsPtr renewed(const LeaseView& view, const Idle& released, TimePoint began);
    // When the next round is due, after one that began at `began` and was answered with `view` at `answered`. Sooner
    // than one interval: as soon as another instance's lease may have ended, and while parts are about to change hands.
    // So what a dead instance held is without an owner for little longer than its lease.
    [[nodiscard]] TimePoint next_round(const LeaseView& view, TimePoint began, TimePoint answered) const;
    // Nothing is ours any more.
    OwnedPartsPtr left();
    [[nodiscard]] const OwnedPartsPtr& owned() const noexcept { return owned_; }

 private:
    const int shards_, lanes_;
    const bool is_shared_;
    OwnedPartsPtr owned_;
};

}  // namespace headgate
