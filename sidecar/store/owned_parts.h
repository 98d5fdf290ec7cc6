// Which shards and lanes this instance owns, and at which epochs: a snapshot that the event loop makes anew after each
// change, and that every write to the store takes along. Next file: store.h (leases).
#pragma once

#include <memory>
#include <vector>

#include "sidecar/store/store.h"

namespace headgate {

struct OwnedParts {
    std::vector<std::int64_t> shard_epochs, lane_epochs;  // by part; 0 = not ours
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
