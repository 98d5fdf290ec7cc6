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
// falls to one when a reply was refused as too large. Streams that gave little so far may
// give as much as the fullest at any time: what all of them may give together is bounded as well.
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

// Which streams are asked at once, and how large a reply may be: all of them, and the usual bound, but
// for a time when one entry of each is more than a reply may hold. Then fewer are asked, in turns; and
// when a single entry is more, the bound is raised for it.
class ReadWindow {
 public:
    ReadWindow(std::vector<std::string> keys, std::size_t reply_bytes_max);
    [[nodiscard]] const std::vector<std::string>& keys() const noexcept { return current_; }
    [[nodiscard]] bool is_whole() const noexcept { return size_ == all_.size(); }
    [[nodiscard]] std::size_t reply_bytes_max() const noexcept { return reply_bytes_max_; }
    // With one entry asked of each stream.
    void reply_was_too_large();
    // A reply of so many bytes came. Asks the next streams, and more of them while these gave little.
    void advance(std::size_t reply_bytes);
    // Pending entries are looked for in every stream, from here on.
    void look_for_pending() noexcept { without_pending_ = 0; }
    // These streams have none: is that so for all by now? Asks the next ones.
    [[nodiscard]] bool has_no_pending();

 private:
    void ask_from(std::size_t first);
    std::vector<std::string> all_, current_;
    std::size_t usual_bytes_max_, reply_bytes_max_;
    std::size_t first_ = 0, size_;
    std::size_t without_pending_ = 0;
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
    explicit StreamReader(RedisClient& redis) : redis_(redis) {}
    // One XREADGROUP over these streams. `block` only matters for kNew. An Error is the connection's.
    boost::asio::awaitable<Result<ReadReply>> read(const std::vector<std::string>& keys, ReadFrom from,
                                                   std::size_t count, std::chrono::milliseconds block);

 private:
    RedisClient& redis_;
};

// What an XREADGROUP was answered.
[[nodiscard]] Result<ReadReply> read_reply(Result<RedisReplies> replies);

[[nodiscard]] std::string xreadgroup_command(const std::vector<std::string>& keys, ReadFrom from, std::size_t count,
                                             std::chrono::milliseconds block);
// "<ms>-<seq>"; false when it is none.
[[nodiscard]] bool parse_stream_id(std::string_view text, std::uint64_t& ms, std::uint64_t& seq) noexcept;

}  // namespace headgate
