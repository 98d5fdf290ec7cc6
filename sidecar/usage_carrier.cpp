// The use of API keys, from Redis into the store; see usage_carrier.h.
#include "sidecar/usage_carrier.h"

#include <hiredis/hiredis.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <limits>
#include <unordered_map>
#include <utility>

#include "common/event_id.h"
#include "common/percent_encode.h"
#include "common/redis_reply.h"
#include "common/resp.h"
#include "sidecar/base/failpoint.h"
#include "sidecar/base/log.h"
#include "sidecar/base/text.h"
#include "sidecar/base/wall_clock.h"

namespace headgate {
namespace {

using redis::element_text;
using redis::text_of;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr std::size_t kBatchMax = 500;
constexpr int kTimesLonger = 20;
constexpr milliseconds kFailurePause{10'000};

// ---- on the DB thread -----------------------------------------------------------------------

struct KeysAfter {
    std::string id;
    Result<std::vector<ApiKey>> operator()(Store& store) const { return store.keys_after(id, kBatchMax); }
};
struct CarryUsage {
    std::vector<Store::KeyUsage> usage;
    OwnedPartsPtr owned;
    Result<void> operator()(Store& store) const { return store.carry_usage(usage, owned->shard_epochs); }
};

}  // namespace

UsageCarrier::UsageCarrier(boost::asio::any_io_executor executor, DbExecutor& db, RedisLink& redis,
                           UsageCarrierOptions options)
    : db_(db), redis_(redis), options_(std::move(options)), wake_(std::move(executor)) {}

boost::asio::awaitable<void> UsageCarrier::run() {
    while (!is_stopping_) {
        auto next = steady_clock::time_point::max();
        if (options_.owned->shard_epochs[0] != 0) {
            const auto began = steady_clock::now();
            Result<void> looked;
            if (is_ours()) looked = co_await look_at_all();
            const std::string error = looked ? std::string() : looked.error().message;
            // The same trouble is told once, and its end.
            if (error != last_error_ && !is_stopping_) {
                if (!error.empty()) spdlog::warn("chore_failed chore=usage error={}", log_value(error));
                if (error.empty()) spdlog::info("chore_recovered chore=usage");
                last_error_ = error;
            }
            const auto took = std::chrono::duration_cast<milliseconds>(steady_clock::now() - began);
            next = steady_clock::now() + (looked ? std::max(options_.interval, kTimesLonger * took) : kFailurePause);
        }
        if (is_stopping_) break;
        co_await wake_.wait_until(next);
    }
}

void UsageCarrier::stop() {
    is_stopping_ = true;
    wake_.wake();
}

void UsageCarrier::follow(OwnedPartsPtr owned) {
    const bool was_ours = options_.owned->shard_epochs[0] != 0;
    options_.owned = std::move(owned);
    if (!was_ours && options_.owned->shard_epochs[0] != 0) wake_.wake();
}

boost::asio::awaitable<Result<void>> UsageCarrier::look_at_all() {
    for (std::string after; is_ours();) {
        KeysAfter work{after};
        auto keys = co_await db_.run(std::move(work));
        if (!keys) co_return tl::unexpected<Error>(keys.error());
        if (keys->empty()) break;
        after = keys->back().id;
        auto carried = co_await carry(std::move(*keys));
        if (!carried) co_return carried;
        if (is_stopping_) break;
        co_await wake_.wait_until(steady_clock::now() + options_.batch_pause);
    }
    co_return Result<void>{};
}

boost::asio::awaitable<Result<void>> UsageCarrier::carry(std::vector<ApiKey> keys) {
    OwnedPartsPtr owned = options_.owned;
    std::vector<std::string> ids;
    for (const ApiKey& key : keys) ids.push_back(key.id);
    auto found = co_await read(std::move(ids));
    if (!found) co_return tl::unexpected<Error>(found.error());
    std::vector<std::string> unmarked;
    for (const Store::KeyUsage& usage : *found) {
        if (usage.mark.empty()) unmarked.push_back(usage.key_id);
    }
    if (!unmarked.empty()) {
        std::vector<std::string> again = unmarked;
        auto marked = co_await mark(std::move(unmarked));
        if (!marked) co_return marked;
        std::erase_if(*found, [](const Store::KeyUsage& usage) { return usage.mark.empty(); });
        auto read_again = co_await read(std::move(again));
        if (!read_again) co_return tl::unexpected<Error>(read_again.error());
        found->insert(found->end(), read_again->begin(), read_again->end());
    }
    std::unordered_map<std::string_view, const ApiKey*> known;
    for (const ApiKey& key : keys) known.emplace(key.id, &key);
    CarryUsage work{{}, std::move(owned)};
    for (Store::KeyUsage& usage : *found) {
        const ApiKey& key = *known.at(usage.key_id);
        const bool is_news = usage.mark != key.usage_mark || usage.requests > key.usage_seen ||
                             usage.last_used_at > key.last_used_at.value_or(0);
        if (is_news && !usage.mark.empty()) work.usage.push_back(std::move(usage));
    }
    if (work.usage.empty()) co_return Result<void>{};
    // One after the other in the order of ids, so that two who write never wait for each other.
    std::sort(work.usage.begin(), work.usage.end(),
              [](const Store::KeyUsage& a, const Store::KeyUsage& b) { return a.key_id < b.key_id; });
    failpoint("in_usage");
    co_return co_await db_.run(std::move(work));
}

boost::asio::awaitable<Result<std::vector<Store::KeyUsage>>> UsageCarrier::read(std::vector<std::string> key_ids) {
    std::vector<RedisCommands> asked;
    for (const std::string& id : key_ids) {
        RedisCommands& command = asked.emplace_back(RedisCommands{usage_key(id), {}, 1});
        RespWriter(command.bytes).command("HMGET", command.key, "requests", "last_used_at", "mark");
    }
    auto answers = co_await redis_.send_each(std::move(asked));
    std::vector<Store::KeyUsage> found;
    for (std::size_t i = 0; i < answers.size(); i++) {
        if (!answers[i]) co_return tl::unexpected<Error>(answers[i].error());
        const redisReply* reply = answers[i]->front().get();
        if (reply->type == REDIS_REPLY_ERROR)
            co_return fail(ErrorCode::kUnavailable, "Redis: " + std::string(text_of(reply)));
        constexpr auto kMax = std::numeric_limits<std::int64_t>::max();
        const auto requests = parse_integer(element_text(reply, 0), 1, kMax);
        if (!requests) continue;
        const auto last_used_at = parse_integer(element_text(reply, 1), 0, kMax);
        found.push_back({.key_id = key_ids[i],
                         .mark = std::string(element_text(reply, 2)),
                         .requests = *requests,
                         .last_used_at = last_used_at.value_or(0)});
    }
    co_return found;
}

// Whoever is first marks a counter; the mark is read again behind it.
boost::asio::awaitable<Result<void>> UsageCarrier::mark(std::vector<std::string> key_ids) {
    std::vector<RedisCommands> all;
    for (const std::string& id : key_ids) {
        RedisCommands& command = all.emplace_back(RedisCommands{usage_key(id), {}, 1});
        RespWriter(command.bytes).command("HSETNX", command.key, "mark", uuid7(wall_clock_ms()));
    }
    auto answers = co_await redis_.send_each(std::move(all));
    for (const Result<RedisReplies>& answer : answers) {
        if (!answer) co_return tl::unexpected<Error>(answer.error());
        const redisReply* reply = answer->front().get();
        if (reply->type == REDIS_REPLY_ERROR)
            co_return fail(ErrorCode::kUnavailable, "Redis: " + std::string(text_of(reply)));
    }
    co_return Result<void>{};
}

std::string UsageCarrier::usage_key(std::string_view key_id) const {
    std::string encoded(percent_encoded_bytes_max(key_id.size()), '\0');
    encoded.resize(static_cast<std::size_t>(percent_encode(encoded.data(), key_id) - encoded.data()));
    return options_.key_prefix + "usage:{" + encoded + "}";
}

}  // namespace headgate
