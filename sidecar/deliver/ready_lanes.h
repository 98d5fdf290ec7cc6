// For which lanes deliveries may be sent. Those that are ours and whose last owner's deliveries in flight have been
// recovered: for these what is new is sent at once. And those of them whose overdue deliveries have been spread: from
// these they may be claimed. Shared by the event loop, which learns what is owned, and the DB thread, which asks inside
// its transactions; hence the mutex. Next file: store_round.h.
#pragma once

#include <memory>
#include <mutex>
#include <string_view>
#include <vector>

#include "sidecar/store/owned_parts.h"

namespace headgate {

class ReadyLanes {
 public:
    // A lane whose epoch changed is ready again when it was recovered at the new one.
    void follow(OwnedPartsPtr owned);
    [[nodiscard]] std::vector<int> unrecovered() const;  // ours, and not recovered yet
    [[nodiscard]] std::vector<int> unspread() const;     // recovered, and what is overdue not spread yet
    // At these epochs; those that have changed meanwhile stay as they are.
    void recovered(const std::vector<int>& lanes, Epochs epochs);
    void spread(const std::vector<int>& lanes, Epochs epochs);

    // May what is new be sent; from which may be claimed (the epochs by lane, 0 = not from it). Both are false or empty
    // while the leases are too old to be relied upon.
    [[nodiscard]] bool is_ready(std::string_view webhook_id) const;
    [[nodiscard]] std::vector<std::int64_t> epochs() const;

 private:
    mutable std::mutex mutex_;
    OwnedPartsPtr owned_;
    std::vector<std::int64_t> recovered_, spread_;  // epochs, by lane
};

// On the DB thread: what the last owner left in flight is due at once. Returns how many that were.
struct RecoverLanes {
    std::shared_ptr<ReadyLanes> ready;
    std::vector<int> lanes;
    OwnedPartsPtr owned;
    Result<std::size_t> operator()(Store& store) const;
};

// What has been due for long, because nobody sent, is spread over a while: of these lanes, from now on.
[[nodiscard]] std::shared_ptr<OverdueSpread> spread_of(std::vector<int> lanes, std::vector<std::int64_t> epochs);

// On the DB thread, again and again until `spread->is_done()`: a part of it. From lanes of which nothing is to be
// spread any more may be claimed, so that one with a million holds back no other.
struct SpreadPart {
    std::shared_ptr<ReadyLanes> ready;
    std::shared_ptr<OverdueSpread> spread;
    Result<void> operator()(Store& store) const;
};

}  // namespace headgate
