// The rounds of lease_keeper.h.
#include "sidecar/lease_keeper.h"

#include <algorithm>

namespace headgate {
namespace {

// While we are short, or others wait for what we are leaving.
constexpr std::chrono::milliseconds kSoon{250};
// Behind the end of another's lease; and at the least between two rounds.
constexpr std::chrono::milliseconds kAfterEnd{50};

bool contains(const std::vector<int>& parts, int part) {
    return std::find(parts.begin(), parts.end(), part) != parts.end();
}

std::vector<int> idle_of(const std::vector<int>& leaving, const LeaseKeeper::InUse& is_in_use) {
    std::vector<int> idle;
    for (int part : leaving) {
        if (!is_in_use(part)) idle.push_back(part);
    }
    return idle;
}

// Takes out of `epochs` what leaves; returns it. `before` has left in earlier rounds.
std::vector<int> let_leave(std::vector<std::int64_t>& epochs, const std::vector<int>& before,
                           const std::vector<int>& released, int excess) {
    std::vector<int> leaving;
    for (int part : before) {
        // One that was released and is here again was taken anew.
        if (epochs[static_cast<std::size_t>(part)] != 0 && !contains(released, part)) leaving.push_back(part);
    }
    for (int part : leaving) epochs[static_cast<std::size_t>(part)] = 0;
    for (auto part = static_cast<int>(epochs.size()) - 1; part >= 0 && std::ssize(leaving) < excess; part--) {
        std::int64_t& epoch = epochs[static_cast<std::size_t>(part)];
        if (epoch == 0) continue;
        epoch = 0;
        leaving.push_back(part);
    }
    return leaving;
}

}  // namespace

LeaseKeeper::LeaseKeeper(int shards, int lanes, bool is_shared)
    : shards_(shards), lanes_(lanes), is_shared_(is_shared), owned_(owned_parts({}, shards, lanes)) {}

LeaseKeeper::Idle LeaseKeeper::idle(const InUse& is_shard_in_use, const InUse& is_lane_in_use) const {
    return {idle_of(owned_->leaving_shards, is_shard_in_use), idle_of(owned_->leaving_lanes, is_lane_in_use)};
}

OwnedPartsPtr LeaseKeeper::renewed(const LeaseView& view, const Idle& released, TimePoint began) {
    auto next = std::make_shared<OwnedParts>(*owned_parts(view, shards_, lanes_));
    next->leaving_shards = let_leave(next->shard_epochs, owned_->leaving_shards, released.shards, view.shards_excess);
    next->leaving_lanes = let_leave(next->lane_epochs, owned_->leaving_lanes, released.lanes, view.lanes_excess);
    if (is_shared_) next->valid_until = began + kFencedAfter;
    owned_ = std::move(next);
    return owned_;
}

LeaseKeeper::TimePoint LeaseKeeper::next_round(const LeaseView& view, TimePoint began, TimePoint answered) const {
    TimePoint next = began + kRoundInterval;
    if (view.next_end_ms) next = std::min(next, answered + std::chrono::milliseconds(*view.next_end_ms) + kAfterEnd);
    const bool is_giving = !owned_->leaving_shards.empty() || !owned_->leaving_lanes.empty();
    if (view.is_short || is_giving) next = std::min(next, answered + kSoon);
    return std::max(next, answered + kAfterEnd);
}

OwnedPartsPtr LeaseKeeper::left() {
    owned_ = owned_parts({}, shards_, lanes_);
    return owned_;
}

}  // namespace headgate
