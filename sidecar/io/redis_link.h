// A Redis as the parts of the sidecar see it, whichever kind it is: commands go to where their keys are. One server
// (redis_link.cpp; also a master that is looked for) or a cluster (redis_cluster.cpp).
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "sidecar/io/redis_client.h"

namespace headgate {

// Commands about keys of one slot, of which `key` is one, written with common/resp.h; they may be a MULTI block. A
// cluster that is changing may have run some of them before it says that the key is elsewhere: then all are sent again.
// So they are such as may be run twice.
struct RedisCommands {
    std::string key;
    std::string bytes;
    std::size_t replies = 0;
};

class RedisLink {
 public:
    virtual ~RedisLink() = default;

    // All of them, each where its key is; those of one server in one write, in their order. One result for each. An
    // Error is the connection's, and it is not known whether the commands ran; error replies of Redis are replies.
    virtual boost::asio::awaitable<std::vector<Result<RedisReplies>>> send_each(std::vector<RedisCommands> all) = 0;
    boost::asio::awaitable<Result<RedisReplies>> send(std::string key, std::string bytes, std::size_t replies);
    // The same commands to each server that keeps keys of its own (the masters of a cluster). At least one result.
    virtual boost::asio::awaitable<std::vector<Result<RedisReplies>>> send_to_servers(std::string bytes,
                                                                                      std::size_t replies) = 0;

    // ---- For connections that block.

    // May one command name keys of several slots?
    [[nodiscard]] virtual bool joins_slots() const noexcept = 0;
    // The server that a key is at, as far as is known: what it says is the same for keys that are together. Empty:
    // nobody serves it.
    [[nodiscard]] virtual std::string server_of(std::string_view key) const = 0;
    // A connection of the caller's own to that server. Not null.
    [[nodiscard]] virtual std::unique_ptr<RedisClient> connect(const std::string& server,
                                                               std::chrono::milliseconds timeout) const = 0;
    // What such a connection heard that may mean that keys have moved: an error reply, or "" for a lost connection.
    virtual void heard(std::string_view error, const std::string& server) = 0;
    // Called after server_of() has changed for some keys, on the executor. One at a time; empty: nobody.
    virtual void on_change(std::function<void()> changed) = 0;

    virtual void close() = 0;
    // Milliseconds since the last reply of any server; for /health.
    [[nodiscard]] virtual std::int64_t silent_ms() const = 0;
};

// `timeout`: for a command with all its redirections.
[[nodiscard]] std::unique_ptr<RedisLink> make_redis_link(boost::asio::any_io_executor executor, RedisAddress address,
                                                         std::chrono::milliseconds timeout);

}  // namespace headgate
