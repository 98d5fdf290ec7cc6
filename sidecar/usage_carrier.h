// How often API keys are used: from the counters that the edge keeps in Redis (`headgate:usage:{<key id>}`) into the
// store.
//
// The counters only grow, and are never taken back: the store remembers how far each had counted, so that the same
// number told twice, by whoever, counts once (Store::carry_usage). A counter that Redis has lost begins anew at 0; a
// field of ours, `mark`, tells it from its predecessor. A Redis that was restored from an older copy still has the
// mark: uses are not counted then until the counter is where it has been before.
//
// One instance does this for all: the owner of shard 0. Runs on the event loop.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <chrono>
#include <string>
#include <vector>

#include "common/result.h"
#include "sidecar/deliver/wake_signal.h"
#include "sidecar/io/db_executor.h"
#include "sidecar/io/redis_link.h"
#include "sidecar/store/owned_parts.h"

namespace headgate {

struct UsageCarrierOptions {
    std::string key_prefix;
    OwnedPartsPtr owned;
    // Between two looks at all keys; longer where a look takes long, so that it is at most a twentieth of the time.
    std::chrono::milliseconds interval{2'000};
    std::chrono::milliseconds batch_pause{20};
};

class UsageCarrier {
 public:
    // `db` and `redis` (the one that holds keys) outlive run().
    UsageCarrier(boost::asio::any_io_executor executor, DbExecutor& db, RedisLink& redis, UsageCarrierOptions options);
    // Until stop(), a call that has begun included. Never throws.
    boost::asio::awaitable<void> run();
    void stop();
    void follow(OwnedPartsPtr owned);

 private:
    [[nodiscard]] bool is_ours() const { return !is_stopping_ && options_.owned->owns_shard(0); }
    boost::asio::awaitable<Result<void>> look_at_all();
    boost::asio::awaitable<Result<void>> carry(std::vector<ApiKey> keys);
    // Of each key: requests, last_used_at and mark; those that were never used are missing.
    boost::asio::awaitable<Result<std::vector<Store::KeyUsage>>> read(std::vector<std::string> key_ids);
    boost::asio::awaitable<Result<void>> mark(std::vector<std::string> key_ids);
    [[nodiscard]] std::string usage_key(std::string_view key_id) const;

    DbExecutor& db_;
    RedisLink& redis_;
    UsageCarrierOptions options_;
    WakeSignal wake_;
    std::string last_error_;
    bool is_stopping_ = false;
};

}  // namespace headgate
