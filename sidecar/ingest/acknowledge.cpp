// See acknowledge.h.
#include "sidecar/ingest/acknowledge.h"

#include <hiredis/hiredis.h>
#include <spdlog/spdlog.h>

#include <algorithm>

#include "sidecar/base/log.h"

namespace headgate {

namespace {

bool is_out_of_memory(const RedisReplies& replies) {
    return std::any_of(replies.begin(), replies.end(),
                       [](const auto& reply) { return error_text(*reply).starts_with("OOM"); });
}

void tell_failed(const Error& error) { spdlog::warn("ingest.ack_failed error={}", log_value(error.message)); }
void tell_refused(std::string_view why) { spdlog::warn("ingest.ack_refused error={}", log_value(why)); }

}  // namespace

boost::asio::awaitable<bool> acknowledge_once(RedisLink& link, std::shared_ptr<const IngestBatch> batch,
                                              const std::vector<std::string>& keys) {
    std::vector<RedisCommands> commands = ack_commands(*batch, keys);
    auto acknowledged = co_await link.send_each(std::move(commands));
    bool is_done = true;
    std::vector<RedisCommands> plain;
    for (std::size_t i = 0; i < acknowledged.size(); i++) {
        const Result<RedisReplies>& replies = acknowledged[i];
        if (!replies) {
            tell_failed(replies.error());
            is_done = false;
            continue;
        }
        const redisReply& exec = *replies->back();
        if (exec.type == REDIS_REPLY_ARRAY) continue;
        if (is_out_of_memory(*replies)) {
            const IngestBatch::Shard& shard = batch->shards[i];
            plain.push_back(plain_ack_commands(shard, keys[static_cast<std::size_t>(shard.shard)]));
            continue;
        }
        tell_refused(exec.str != nullptr ? exec.str : "EXEC was discarded");
        is_done = false;
    }
    if (plain.empty()) co_return is_done;
    const std::size_t full = plain.size();
    auto deleted = co_await link.send_each(std::move(plain));
    for (const Result<RedisReplies>& replies : deleted) {
        if (!replies) {
            tell_failed(replies.error());
            is_done = false;
            continue;
        }
        for (const auto& reply : *replies) {
            // Without a group nothing is pending, and XACK answers 0.
            if (reply->type == REDIS_REPLY_INTEGER) continue;
            tell_refused(error_text(*reply));
            is_done = false;
        }
    }
    if (is_done) spdlog::warn("ingest.redis_full shards={} action=acknowledged_without_multi", full);
    co_return is_done;
}

}  // namespace headgate
