// From which lanes deliveries may be claimed: those that are ours and whose last owner's deliveries in flight have been
// recovered. Shared by the event loop, which learns what is owned, and the DB thread, which asks inside its
// transactions; hence the mutex. Next file: store_round.h.
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
    // Ours, and not recovered yet.
    [[nodiscard]] std::vector<int> unrecovered() const;
    // At these epochs; those that have changed meanwhile stay as they are.
    void recovered(const std::vector<int>& lanes, Epochs epochs);

    // Both are false or empty while the leases are too old to be relied upon.
    [[nodiscard]] bool is_ready(std::string_view webhook_id) const;
    [[nodiscard]] std::vector<std::int64_t> epochs() const;  // by lane; 0 = not ready

 private:
    mutable std::mutex mutex_;
    OwnedPartsPtr owned_;
    std::vector<std::int64_t> ready_;  // epochs, by lane
};

// On the DB thread: what the last owner left in flight is due at once, and what has been due for long, because nobody
// sent, is spread over a while. Returns how many were in flight.
struct RecoverLanes {
    std::shared_ptr<ReadyLanes> ready;
    std::vector<int> lanes;
    OwnedPartsPtr owned;
    Result<std::size_t> operator()(Store& store) const;
};

// On the DB thread, when the clock was set: the same of the lanes that are ready, but for what is in flight, which is
// ours. Returns how many times were changed.
struct MendTimes {
    std::shared_ptr<ReadyLanes> ready;
    Result<std::size_t> operator()(Store& store) const;
};

}  // namespace headgate
