// See left_behind.h.
#include "sidecar/ingest/left_behind.h"

#include <hiredis/hiredis.h>
#include <spdlog/spdlog.h>

#include <cstdint>
#include <string_view>
#include <utility>

#include "common/event_record.h"
#include "common/redis_reply.h"
#include "common/resp.h"
#include "sidecar/base/log.h"
#include "sidecar/ingest/stream_reader.h"

namespace headgate {
namespace {

using redis::text_of;
using Id = std::pair<std::uint64_t, std::uint64_t>;

bool read_id(const redisReply& reply, Id& id) { return parse_stream_id(text_of(&reply), id.first, id.second); }

RedisCommands ask_groups_and_oldest(const std::string& key) {
    RedisCommands commands{key, {}, 2};
    RespWriter(commands.bytes).command("XINFO", "GROUPS", key).command("XRANGE", key, "-", "+", "COUNT", "1");
    return commands;
}

// Was the oldest entry given to the group, while nothing is pending?
bool is_left_behind(const RedisReplies& replies) {
    const redisReply& groups = *replies[0];
    const redisReply& range = *replies[1];
    Id oldest, given;
    if (groups.type != REDIS_REPLY_ARRAY || range.type != REDIS_REPLY_ARRAY || range.elements == 0) return false;
    if (range.element[0]->elements == 0 || !read_id(*range.element[0]->element[0], oldest)) return false;
    for (std::size_t i = 0; i < groups.elements; i++) {
        const redisReply& group = *groups.element[i];
        bool is_ours = false, is_given = false;
        long long pending = -1;
        for (std::size_t member = 0; member + 1 < group.elements; member += 2) {
            const std::string_view name = text_of(group.element[member]);
            const redisReply& value = *group.element[member + 1];
            if (name == "name") is_ours = text_of(&value) == kConsumerGroup;
            if (name == "pending") pending = value.integer;
            if (name == "last-delivered-id") is_given = read_id(value, given);
        }
        if (is_ours) return pending == 0 && is_given && oldest <= given;
    }
    return false;
}

}  // namespace

boost::asio::awaitable<void> read_again_what_is_left_behind(std::shared_ptr<RedisLink> link,
                                                            std::vector<std::string> keys) {
    std::vector<RedisCommands> questions;
    for (const std::string& key : keys) questions.push_back(ask_groups_and_oldest(key));
    auto answers = co_await link->send_each(std::move(questions));
    std::vector<RedisCommands> again;
    for (std::size_t i = 0; i < keys.size(); i++) {
        if (!answers[i] || !is_left_behind(*answers[i])) continue;
        spdlog::warn("ingest.left_behind stream={} action=read_again", log_value(keys[i]));
        RedisCommands& set = again.emplace_back(RedisCommands{keys[i], {}, 1});
        RespWriter(set.bytes).command("XGROUP", "SETID", set.key, kConsumerGroup, "0");
    }
    if (!again.empty()) (void)co_await link->send_each(std::move(again));
}

}  // namespace headgate
