// What one instance does for all: the owner of lane 0 purges what is old, makes the deliveries of running replays, and
// turns what record_attempts left in the outbox into operational events. Each is a loop of its own on the event loop,
// and does nothing while lane 0 is another's. (The owner of shard 0 runs the projection: projection.h.)
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>

#include "sidecar/io/db_executor.h"
#include "sidecar/store/owned_parts.h"

namespace headgate {

struct ChoresOptions {
    OwnedPartsPtr owned;
    std::int64_t retention_events_ms = 0, retention_attempts_ms = 0, retention_quarantine_ms = 0,
                 retention_audit_ms = 0;
    std::chrono::milliseconds purge_interval{60'000};
    std::chrono::milliseconds purge_pause{50};  // between two batches, for who else wants the store
    std::chrono::milliseconds relay_interval{1'000};
    std::chrono::milliseconds replay_interval{500};
    std::chrono::milliseconds replay_pause{50};  // while a replay gets on; then longer, up to the interval
    // Unfinished deliveries of one replay: few, so that those of live events come first.
    std::size_t replay_queued_max = 100;
    // Called on the event loop when a replay has made deliveries, which are due at once. May be empty.
    std::function<void()> on_replayed{};
};

class Chores {
 public:
    // On `db` a batch of a purge must not hold up anything urgent. It outlives run().
    Chores(boost::asio::any_io_executor executor, DbExecutor& db, ChoresOptions options);
    ~Chores();
    // Until stop(), a call that has begun included. Never throws.
    boost::asio::awaitable<void> run();
    void stop();
    void follow(OwnedPartsPtr owned);
    // There may be something to relay.
    void poke();

 private:
    struct Impl;
    std::shared_ptr<Impl> impl_;
};

}  // namespace headgate
