// XREADGROUP; see stream_reader.h.
#include "sidecar/ingest/stream_reader.h"

#include <hiredis/hiredis.h>

#include <algorithm>
#include <charconv>

#include "common/event_record.h"
#include "common/resp.h"

namespace headgate {
namespace {

constexpr std::size_t kEntriesAtStart = 64;  // of all streams: with the largest events still 64 MiB
constexpr std::size_t kEntriesInAllMax = 1024;
constexpr std::size_t kEntryReplyBytesMax = 1024 * 1024 * 1024;  // Redis holds no value of more than half of it
constexpr std::chrono::milliseconds kReplyMargin{3000};

}  // namespace

ReadCount::ReadCount(std::size_t streams, std::size_t entries_max, std::size_t reply_bytes_max)
    : entries_max_(std::clamp<std::size_t>(kEntriesInAllMax / std::max<std::size_t>(streams, 1), 1,
                                           std::max<std::size_t>(entries_max, 1))),
      reply_bytes_max_(reply_bytes_max),
      per_stream_(std::clamp<std::size_t>(kEntriesAtStart / std::max<std::size_t>(streams, 1), 1, entries_max_)) {}

void ReadCount::observe(std::size_t reply_bytes, std::size_t entries, std::size_t filled) noexcept {
    if (reply_bytes > reply_bytes_max_ / 2) {
        per_stream_ = std::max<std::size_t>(per_stream_ / 2, 1);
        return;
    }
    if (filled == 0) return;
    // Doubled only as far as entries of this size from as many streams stay under half of the bound.
    std::size_t entry_bytes = std::max<std::size_t>(reply_bytes / std::max<std::size_t>(entries, 1), 1);
    std::size_t fitting = reply_bytes_max_ / 2 / entry_bytes / filled;
    std::size_t wanted = std::min({per_stream_ * 2, entries_max_, fitting});
    per_stream_ = std::max(per_stream_, wanted);
}

ReadWindow::ReadWindow(std::vector<std::string> keys, std::size_t reply_bytes_max)
    : all_(std::move(keys)),
      current_(all_),
      usual_bytes_max_(reply_bytes_max),
      reply_bytes_max_(reply_bytes_max),
      size_(all_.size()) {}

void ReadWindow::ask_from(std::size_t first) {
    if (is_whole() && current_.size() == all_.size()) return;
    first_ = first < all_.size() ? first : 0;
    auto begin = all_.begin() + static_cast<std::ptrdiff_t>(first_);
    current_.assign(begin, begin + static_cast<std::ptrdiff_t>(std::min(size_, all_.size() - first_)));
}

void ReadWindow::reply_was_too_large() {
    if (size_ > 1) {
        size_ = (size_ + 1) / 2;
    } else {
        reply_bytes_max_ = std::min(reply_bytes_max_ * 2, std::max(kEntryReplyBytesMax, usual_bytes_max_));
    }
    ask_from(first_);
}

void ReadWindow::advance(std::size_t reply_bytes) {
    std::size_t next = first_ + current_.size();
    if (reply_bytes < usual_bytes_max_ / 2) {
        reply_bytes_max_ = usual_bytes_max_;
        size_ = std::min(size_ * 2, all_.size());
    }
    ask_from(size_ == all_.size() ? 0 : next);
}

bool ReadWindow::has_no_pending() {
    without_pending_ += current_.size();
    bool is_done = without_pending_ >= all_.size();
    ask_from(first_ + current_.size());
    return is_done;
}

std::string xreadgroup_command(const std::vector<std::string>& keys, ReadFrom from, std::size_t count,
                               std::chrono::milliseconds block) {
    std::string command;
    RespWriter writer(command);
    bool blocks = from == ReadFrom::kNew && block.count() > 0;
    writer.array(7 + (blocks ? 2 : 0) + 2 * keys.size());
    writer.bulk("XREADGROUP").bulk("GROUP").bulk(kConsumerGroup).bulk(kConsumerName);
    writer.bulk("COUNT").bulk(static_cast<long long>(count));
    if (blocks) writer.bulk("BLOCK").bulk(static_cast<long long>(block.count()));
    writer.bulk("STREAMS");
    for (const std::string& key : keys) writer.bulk(key);
    for (std::size_t i = 0; i < keys.size(); i++) writer.bulk(from == ReadFrom::kNew ? ">" : "0");
    return command;
}

boost::asio::awaitable<Result<ReadReply>> StreamReader::read(const std::vector<std::string>& keys, ReadFrom from,
                                                             std::size_t count, std::chrono::milliseconds block) {
    std::string command = xreadgroup_command(keys, from, count, block);
    auto replies = co_await redis_.send(std::move(command), 1, block + kReplyMargin);
    co_return read_reply(std::move(replies));
}

Result<ReadReply> read_reply(Result<RedisReplies> replies) {
    if (!replies) return tl::unexpected<Error>(replies.error());
    RedisReplyPtr reply = std::move(replies->front());
    if (reply->type == REDIS_REPLY_NIL) return ReadReply{};
    if (reply->type == REDIS_REPLY_ERROR) {
        std::string error(reply->str, reply->len);
        // UNBLOCKED: the stream was deleted while the read waited for it.
        bool no_group = error.starts_with("NOGROUP") || error.starts_with("UNBLOCKED");
        return ReadReply{no_group ? ReadStatus::kNoGroup : ReadStatus::kRefused, nullptr, std::move(error)};
    }
    if (reply->type != REDIS_REPLY_ARRAY) {
        return ReadReply{ReadStatus::kRefused, nullptr, "XREADGROUP answered something that is no array"};
    }
    std::shared_ptr<redisReply> shared(reply.release(), RedisReplyDeleter());
    return ReadReply{ReadStatus::kEntries, std::move(shared), {}};
}

bool parse_stream_id(std::string_view text, std::uint64_t& ms, std::uint64_t& seq) noexcept {
    const char* end = text.data() + text.size();
    auto first = std::from_chars(text.data(), end, ms);
    if (first.ec != std::errc() || first.ptr == end || *first.ptr != '-') return false;
    auto second = std::from_chars(first.ptr + 1, end, seq);
    return second.ec == std::errc() && second.ptr == end;
}

}  // namespace headgate
