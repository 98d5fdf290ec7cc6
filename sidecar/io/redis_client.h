// A RESP2 connection to one Redis server on Asio: pipelined commands in, parsed replies out. Which server, when the
// address leaves it open, is found out at each connect: the one that Sentinel names, or the first of several, whose
// ROLE is master. A reply that says that it is no longer the master closes the connection. Not for clusters: see
// redis_link.h.
//
// One RedisClient is one socket. A blocking reader uses its own. Commands are written in the order
// they were given; replies come back in the same order. A timeout, a protocol error or a closed
// socket fails every waiter with kUnavailable and closes the connection; a reply beyond the bound
// does the same with kTooLarge. The next command reconnects (no hidden retry: the caller decides).
// All calls are made on the thread of the executor.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <chrono>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/result.h"
#include "sidecar/io/redis_address.h"

struct redisReply;

namespace headgate {

// A reply may have this many bytes unless set_reply_bytes_max says otherwise.
inline constexpr std::size_t kRedisReplyBytesMax = 64 * 1024 * 1024;

struct RedisReplyDeleter {
    void operator()(redisReply* reply) const noexcept;
};
using RedisReplyPtr = std::unique_ptr<redisReply, RedisReplyDeleter>;

using RedisReplies = std::vector<RedisReplyPtr>;

// The text of an error reply; empty for any other.
[[nodiscard]] std::string_view error_text(const redisReply& reply) noexcept;

class RedisClient {
 public:
    RedisClient(boost::asio::any_io_executor executor, RedisAddress address, std::chrono::milliseconds timeout);
    ~RedisClient();
    RedisClient(const RedisClient&) = delete;
    RedisClient& operator=(const RedisClient&) = delete;

    // Sends pre-encoded RESP commands (see common/resp.h) and waits for `replies` replies.
    // An error reply of Redis is a reply (REDIS_REPLY_ERROR), not an Error. `timeout` replaces the default for
    // this call (a blocking read: its own block time plus a margin).
    boost::asio::awaitable<Result<RedisReplies>> send(std::string commands, std::size_t replies);
    boost::asio::awaitable<Result<RedisReplies>> send(std::string commands, std::size_t replies,
                                                      std::chrono::milliseconds timeout);
    // Fails every waiter and closes the socket.
    void close();
    void set_reply_bytes_max(std::size_t bytes);
    // Milliseconds since the last reply; for /health.
    [[nodiscard]] std::int64_t silent_ms() const;

 private:
    struct Impl;
    std::shared_ptr<Impl> impl_;
};

}  // namespace headgate
