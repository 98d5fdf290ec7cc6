// Which shards and lanes this instance owns, and at which epochs: a snapshot that the event loop makes anew after each
// change, and that every write to the store takes along. Next file: store.h (leases).
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "sidecar/store/store.h"

namespace headgate {

struct OwnedParts {
    std::vector<std::int64_t> shard_epochs, lane_epochs;  // by part; 0 = not ours
    // Ours until what is in use of them has ended, then given up: nothing new is begun, and they have epoch 0 above.
    std::vector<int> leaving_shards{}, leaving_lanes{};
    // From here on another instance may hold them: nothing is begun until a newer snapshot comes.
    std::chrono::steady_clock::time_point valid_until = std::chrono::steady_clock::time_point::max();

    // May other instances own the same parts before and after us?
    [[nodiscard]] bool is_shared() const noexcept {
        return valid_until != std::chrono::steady_clock::time_point::max();
    }
    [[nodiscard]] bool is_valid() const noexcept { return std::chrono::steady_clock::now() < valid_until; }
    [[nodiscard]] bool owns_shard(int shard) const noexcept {
        return is_valid() && shard_epochs[static_cast<std::size_t>(shard)] != 0;
    }
    [[nodiscard]] bool owns_lane(int lane) const noexcept {
        return is_valid() && lane_epochs[static_cast<std::size_t>(lane)] != 0;
    }
};
using OwnedPartsPtr = std::shared_ptr<const OwnedParts>;

[[nodiscard]] inline OwnedPartsPtr owned_parts(const LeaseView& view, int shards, int lanes) {
    auto owned = std::make_shared<OwnedParts>();
    owned->shard_epochs.resize(static_cast<std::size_t>(shards));
    owned->lane_epochs.resize(static_cast<std::size_t>(lanes));
    for (const Lease& lease : view.shards) owned->shard_epochs[static_cast<std::size_t>(lease.part)] = lease.epoch;
    for (const Lease& lease : view.lanes) owned->lane_epochs[static_cast<std::size_t>(lease.part)] = lease.epoch;
    return owned;
}

}  // namespace headgate
