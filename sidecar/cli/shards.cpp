// headgate shards: who reads which stream, and what is left in each.
#include <hiredis/hiredis.h>

#include <algorithm>
#include <boost/json.hpp>

#include "common/event_record.h"
#include "common/resp.h"
#include "common/rfc3339.h"
#include "sidecar/cli/ask_redis.h"
#include "sidecar/cli/command.h"
#include "sidecar/cli/output.h"

namespace headgate {
namespace json = boost::json;
namespace {

// XLEN and XINFO GROUPS of each shard, two replies each.
boost::asio::awaitable<RedisAnswers> ask(RedisLink& redis, const Config& config) {
    std::vector<RedisCommands> all;
    for (int shard = 0; shard < config.redis_shards; ++shard) {
        RedisCommands commands{stream_key(config.redis_prefix, shard), {}, 2};
        RespWriter(commands.bytes).command("XLEN", commands.key).command("XINFO", "GROUPS", commands.key);
        all.push_back(std::move(commands));
    }
    co_return co_await redis.send_each(std::move(all));
}

// One result for each shard.
Result<RedisAnswers> ask_shards(const Config& config) {
    auto address = events_redis(config);
    if (!address) return tl::unexpected(address.error());
    RedisAnswers answers = ask_redis(*address, [&config](RedisLink& redis) { return ask(redis, config); });
    if (answers.size() != static_cast<std::size_t>(config.redis_shards))
        return fail(ErrorCode::kUnavailable, "Redis did not answer");
    for (const auto& answer : answers) {
        if (!answer) return tl::unexpected<Error>(answer.error());
    }
    return answers;
}

// Entries that our group has been given and has not acknowledged. A stream or group that is not there has none.
std::int64_t pending_of(const redisReply& groups) {
    auto text = [](const redisReply& reply) { return std::string_view(reply.str, reply.len); };
    for (std::size_t i = 0; groups.type == REDIS_REPLY_ARRAY && i < groups.elements; ++i) {
        const redisReply& group = *groups.element[i];
        bool is_ours = false;
        std::int64_t pending = 0;
        for (std::size_t member = 0; member + 1 < group.elements; member += 2) {
            const std::string_view name = text(*group.element[member]);
            const redisReply& value = *group.element[member + 1];
            if (name == "name" && value.str != nullptr) is_ours = text(value) == kConsumerGroup;
            if (name == "pending") pending = value.integer;
        }
        if (is_ours) return pending;
    }
    return 0;
}

Result<void> list(const Invocation& invocation) {
    auto opened = open_store_for(invocation);
    if (!opened) return tl::unexpected(opened.error());
    auto leases = opened->store->shard_leases();
    if (!leases) return tl::unexpected(leases.error());
    auto replies = ask_shards(opened->config);
    if (!replies) return tl::unexpected(replies.error());
    json::array rows;
    for (int shard = 0; shard < opened->config.redis_shards; ++shard) {
        json::object row;
        row.emplace("shard", shard);
        const auto lease =
            std::find_if(leases->begin(), leases->end(), [&](const auto& l) { return l.shard == shard; });
        if (lease != leases->end()) {
            row.emplace("owner", lease->owner);
            row.emplace("epoch", lease->epoch);
            row.emplace("lease_until", rfc3339_format(lease->until));
        }
        const RedisReplies& of_shard = *(*replies)[static_cast<std::size_t>(shard)];
        const redisReply& length = *of_shard[0];
        if (length.type == REDIS_REPLY_INTEGER) {
            // Acknowledged entries are deleted: what is there is pending, or has not been read yet.
            const std::int64_t pending = pending_of(*of_shard[1]);
            row.emplace("length", length.integer);
            row.emplace("pending", pending);
            row.emplace("lag", std::max<std::int64_t>(length.integer - pending, 0));
        }
        rows.push_back(std::move(row));
    }
    print_table(invocation.json, {"shard", "owner", "epoch", "lease_until", "length", "pending", "lag"}, rows);
    return {};
}

}  // namespace

void add_shards(CLI::App& root, Invocation& invocation) {
    root.add_subcommand("shards", "who reads which stream, and what is left in each")->callback([&invocation] {
        invocation.action = [&invocation] { return list(invocation); };
    });
}

}  // namespace headgate
