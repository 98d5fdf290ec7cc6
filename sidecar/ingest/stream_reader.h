// Reads the shards' streams as the group's one constant consumer: a command that asks, how much it
// asks for, and what the reply says. Pure but for read(). Input: Redis. Next file: ingest_batch.h.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <chrono>
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "sidecar/io/redis_client.h"
#include "sidecar/store/store.h"

namespace headgate {

// How many entries of each stream are asked for at once. The size of a reply is known only when it
// has come: the count is halved when one was over half of the bound, grows while streams fill it, and
// falls to one when a reply was refused as too large.
class ReadCount {
 public:
    ReadCount(std::size_t streams, std::size_t entries_max, std::size_t reply_bytes_max);
    [[nodiscard]] std::size_t per_stream() const noexcept { return per_stream_; }
    // `entries` came in all, `fullest` from one stream; `filled` streams gave as many as were asked for.
    void observe(std::size_t reply_bytes, std::size_t entries, std::size_t filled) noexcept;
    void reply_was_too_large() noexcept { per_stream_ = 1; }

 private:
    std::size_t entries_max_, reply_bytes_max_, per_stream_;
};

enum class ReadFrom : bool { kPending, kNew };  // its own unacknowledged entries, or what nobody has read

enum class ReadStatus { kEntries, kNothing, kNoGroup, kRefused };
struct ReadReply {
    ReadStatus status = ReadStatus::kNothing;
    std::shared_ptr<const redisReply> reply;  // kEntries: an array of [stream, entries]
    std::string error;                        // kRefused: what Redis said
};

class StreamReader {
 public:
    StreamReader(RedisClient& redis, const std::vector<std::string>& keys) : redis_(redis), keys_(keys) {}
    // One XREADGROUP over all streams. `block` only matters for kNew. An Error is the connection's.
    boost::asio::awaitable<Result<ReadReply>> read(ReadFrom from, std::size_t count, std::chrono::milliseconds block);

 private:
    RedisClient& redis_;
    const std::vector<std::string>& keys_;
};

[[nodiscard]] std::string xreadgroup_command(const std::vector<std::string>& keys, ReadFrom from, std::size_t count,
                                             std::chrono::milliseconds block);
// "<ms>-<seq>"; false when it is none.
[[nodiscard]] bool parse_stream_id(std::string_view text, std::uint64_t& ms, std::uint64_t& seq) noexcept;

}  // namespace headgate
