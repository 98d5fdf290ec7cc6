// API keys and revocations: store -> Redis, where the edge reads them.
//
// Changes come through the store's outbox, polled every 200 ms and at once after a change by this
// process. At start, and whenever Redis has lost its memory (headgate:meta says so, or it is
// another Redis process than before; of a cluster, any of its masters), everything is written again and `projected` is
// set last: until then the edge calls an unknown key 503, never 401. Runs on the event loop.
//
// One instance does this for all: the owner of shard 0. One that finds that it was late makes the owner write
// everything again.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <string>
#include <vector>

#include "common/result.h"
#include "sidecar/io/db_executor.h"
#include "sidecar/io/redis_link.h"
#include "sidecar/store/owned_parts.h"

namespace headgate {

struct ProjectionOptions {
    std::string key_prefix;
    int shards = 0;
    std::string pepper_fp;
    std::string token_kid;
};

class Projection {
 public:
    // `events` and `keys` may be the same Redis; both outlive the projection.
    Projection(boost::asio::any_io_executor executor, DbExecutor& db, RedisLink& events, RedisLink& keys,
               ProjectionOptions options);

    // Writes our contract, shards and pepper into headgate:meta where they are absent, and compares. kConflict: this
    // Redis belongs to a different installation or shard count, and the message says what to do.
    boost::asio::awaitable<Result<void>> agree();
    // Until stop(). Never throws.
    boost::asio::awaitable<void> run();
    void stop();
    // Who owns shard 0 writes; at first nobody. Whoever takes over writes everything again: what its predecessor was
    // about to write when it ended is not known.
    void follow(OwnedPartsPtr owned);
    // Something in the outbox has just been written.
    void poke();
    // Everything was written; where it is another's to do nothing is missing here.
    [[nodiscard]] bool is_projected() const noexcept { return is_projected_ || !has_turn_; }

 private:
    boost::asio::awaitable<Result<void>> agree_on(RedisLink& redis);
    boost::asio::awaitable<Result<void>> step();
    boost::asio::awaitable<Result<void>> check_memory();
    boost::asio::awaitable<Result<void>> project_everything();
    boost::asio::awaitable<Result<void>> project_changes();
    [[nodiscard]] bool is_ours() const { return has_turn_ && owned_->owns_shard(0); }
    // To the keys' Redis; kLeaseLost when shard 0 was not ours before, or not all the while.
    boost::asio::awaitable<Result<std::vector<Result<RedisReplies>>>> send_as_owner(std::vector<RedisCommands> all);
    // All of them; the error is the first one's.
    boost::asio::awaitable<Result<void>> write(std::vector<RedisCommands> all);
    [[nodiscard]] RedisCommands key_commands(const ApiKey& key) const;
    [[nodiscard]] RedisCommands revocation_commands(const Store::ProjectionEntry& entry) const;
    [[nodiscard]] RedisCommands announcement(std::string_view op, std::string_view ref, TimeMs until) const;
    [[nodiscard]] std::vector<std::string> marks() const;

    DbExecutor& db_;
    RedisLink& events_;
    RedisLink& keys_;
    ProjectionOptions options_;
    boost::asio::steady_timer wake_;
    std::chrono::steady_clock::time_point next_check_;
    std::vector<std::string> run_ids_;  // of the servers that keep keys
    std::string last_error_;
    Result<void> events_agreed_;  // a Redis of its own for events, when it was looked at last
    bool is_projected_ = false;
    OwnedPartsPtr owned_;
    bool has_turn_ = false;  // shard 0 was ours in the newest round
    bool is_stopping_ = false;
};

}  // namespace headgate
