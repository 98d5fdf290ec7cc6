// Keeps this instance's leases: renews them in rounds, tells the parts of the app what they may work on, and gives
// up what is too much or everything at the end. Input: Store::renew_leases. Output: OwnedPartsPtr. The rules are in
// lease_keeper.h. Runs on the event loop.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <string>

#include "sidecar/base/trouble.h"
#include "sidecar/deliver/wake_signal.h"
#include "sidecar/io/db_executor.h"
#include "sidecar/lease_keeper.h"

namespace headgate {

struct OwnershipOptions {
    std::string owner;  // unique for the life of the process
    int shards = 0, lanes = 0;
    bool is_shared = false;  // the store may have other instances
};

// Who works on the parts.
struct PartUsers {
    // Called after every round and at once: what is not owned must not be begun from here on.
    std::function<void(OwnedPartsPtr)> follow;
    // Is anything of a part that is leaving still being worked on?
    LeaseKeeper::InUse is_shard_in_use, is_lane_in_use;
};

class Ownership {
 public:
    // A round waits behind whatever else runs on `db`: where leases are shared, nothing else may.
    Ownership(boost::asio::any_io_executor executor, DbExecutor& db, OwnershipOptions options, PartUsers users);

    // One round; run() does them until leave().
    boost::asio::awaitable<Result<void>> renew();
    // Never throws.
    boost::asio::awaitable<void> run();
    // Somebody was told that a lease is lost: the next round comes at once.
    void poke();
    // Releases everything, so that others take over at once; nothing may be in use any more. Ends run().
    boost::asio::awaitable<void> leave();

    // What is ours as of now. Never null; may be out of date (is_valid()).
    [[nodiscard]] const OwnedPartsPtr& owned() const noexcept { return keeper_.owned(); }
    [[nodiscard]] int instances() const noexcept { return instances_; }
    // steady_clock_ms() of the first of the rounds in a row that the store refused; 0: the last one was done. A store
    // that can be read, but not be written, shows here when there is nothing else to write.
    [[nodiscard]] std::int64_t refused_since_ms() const noexcept { return refused_since_ms_; }

 private:
    void note_changes(const OwnedParts& before, const OwnedParts& after);

    DbExecutor& db_;
    const OwnershipOptions options_;
    const PartUsers users_;
    LeaseKeeper keeper_;
    WakeSignal wake_;
    std::chrono::steady_clock::time_point next_round_{};  // after the last one that was answered
    int instances_ = 0;
    std::int64_t refused_since_ms_ = 0;
    Trouble trouble_;
    bool is_leaving_ = false;
    bool is_fenced_ = false;  // as far as the log knows
};

}  // namespace headgate
