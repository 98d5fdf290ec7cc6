// The projection of keys and revocations; see projection.h.
#include "sidecar/projection.h"

#include <hiredis/hiredis.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <utility>

#include "common/event_record.h"
#include "common/limits.h"
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

constexpr std::chrono::milliseconds kPollInterval{200};
constexpr std::chrono::milliseconds kCheckInterval{1000};
constexpr std::size_t kBatchMax = 500;
constexpr long long kControlEntriesMax = 10'000;

// The first error among replies, as an Error.
Result<void> check_replies(const RedisReplies& replies) {
    for (const auto& reply : replies)
        if (reply->type == REDIS_REPLY_ERROR)
            return fail(ErrorCode::kUnavailable, "Redis: " + std::string(text_of(reply.get())));
    return {};
}

bool is_out_of_memory(const RedisReplies& replies) {
    return std::any_of(replies.begin(), replies.end(),
                       [](const auto& reply) { return error_text(*reply).starts_with("OOM"); });
}

// What runs on the DB thread.
struct PendingProjections {
    Result<std::vector<std::pair<Store::ProjectionEntry, ApiKey>>> operator()(Store& store) const {
        auto entries = store.pending_projections(kBatchMax);
        if (!entries) return tl::unexpected(entries.error());
        std::vector<std::pair<Store::ProjectionEntry, ApiKey>> found;
        for (auto& entry : *entries) {
            ApiKey key;
            if (entry.op == "key") {
                auto read = store.get_key_any_org(entry.ref);
                if (!read && read.error().code != ErrorCode::kNotFound) return tl::unexpected(read.error());
                if (read) key = std::move(*read);
            }
            found.emplace_back(std::move(entry), std::move(key));
        }
        return found;
    }
};
struct FinishProjections {
    std::int64_t up_to_id;
    Result<void> operator()(Store& store) const { return store.finish_projections(up_to_id); }
};
struct KeysAfter {
    std::string id;
    Result<std::vector<ApiKey>> operator()(Store& store) const { return store.keys_after(id, kBatchMax); }
};
struct Revocations {
    Result<std::vector<Store::ProjectionEntry>> operator()(Store& store) const {
        return store.revocations(wall_clock_ms());
    }
};

}  // namespace

Projection::Projection(boost::asio::any_io_executor executor, DbExecutor& db, RedisLink& events, RedisLink& keys,
                       ProjectionOptions options)
    : db_(db), events_(events), keys_(keys), options_(std::move(options)), wake_(std::move(executor)) {}

boost::asio::awaitable<Result<void>> Projection::agree() {
    auto agreed = co_await agree_on(events_);
    if (agreed && &keys_ != &events_) agreed = co_await agree_on(keys_);
    co_return agreed;
}

boost::asio::awaitable<Result<void>> Projection::agree_on(RedisLink& redis) {
    std::string meta = meta_key(options_.key_prefix);
    std::string commands;
    RespWriter(commands)
        .command("HSETNX", meta, "contract", static_cast<long long>(limits::kContractVersion))
        .command("HSETNX", meta, "shards", static_cast<long long>(options_.shards))
        .command("HSETNX", meta, "pepper_fp", options_.pepper_fp)
        .command("HMGET", meta, "contract", "shards", "pepper_fp");
    auto replies = co_await redis.send(meta, std::move(commands), 4);
    if (!replies) co_return tl::unexpected(replies.error());
    const redisReply* found = replies->back().get();
    // One that has no memory left takes nothing new. What is there decides: the streams that fill it are to be drained.
    const bool is_full = found->type == REDIS_REPLY_ARRAY && is_out_of_memory(*replies);
    if (auto checked = check_replies(*replies); !checked && !is_full) co_return checked;
    auto value = [found, is_full](std::size_t index, const std::string& ours) {
        std::string theirs(element_text(found, index));
        return is_full && theirs.empty() ? ours : theirs;
    };
    const std::string contract_text = value(0, std::to_string(limits::kContractVersion));
    auto contract = parse_integer(contract_text, 0, INT32_MAX);
    std::string here = "headgate:meta in this Redis";
    if (!contract || *contract > limits::kContractVersion || *contract < limits::kContractVersion - 1)
        co_return fail(ErrorCode::kConflict,
                       here + " has contract " + contract_text + ", this program speaks " +
                           std::to_string(limits::kContractVersion) +
                           ": upgrade the older of the two programs, or give them different Redis databases");
    const std::string shards = value(1, std::to_string(options_.shards));
    if (shards != std::to_string(options_.shards))
        co_return fail(ErrorCode::kConflict, here + " has " + shards + " shards, redis.shards says " +
                                                 std::to_string(options_.shards) +
                                                 ": make redis.shards and the edge's headgate_shards the same as it");
    if (value(2, options_.pepper_fp) != options_.pepper_fp)
        co_return fail(ErrorCode::kConflict,
                       here +
                           " was written with another pepper: it belongs to another installation (give this one "
                           "another Redis or database), or security.pepper_file was replaced (put the old one back; "
                           "if it is lost, all API keys are: HDEL " +
                           meta + " pepper_fp projected, and make new ones)");
    co_return Result<void>{};
}

boost::asio::awaitable<void> Projection::run() {
    while (!is_stopping_) {
        Result<void> stepped;
        if (is_ours()) stepped = co_await step();
        std::string error = stepped ? std::string() : stepped.error().message;
        // The same trouble is told once, and its end.
        if (error != last_error_) {
            if (!error.empty()) spdlog::warn("projection_failed error={}", log_value(error));
            if (error.empty()) spdlog::info("projection_recovered");
            last_error_ = error;
        }
        if (is_stopping_) break;
        boost::system::error_code ignored;
        wake_.expires_after(kPollInterval);
        co_await wake_.async_wait(boost::asio::redirect_error(boost::asio::use_awaitable, ignored));
    }
}

void Projection::stop() {
    is_stopping_ = true;
    wake_.cancel();
}

void Projection::follow(OwnedPartsPtr owned) {
    bool was_ours = std::exchange(has_turn_, owned->shard_epochs[0] != 0);
    bool is_as_before = was_ours == has_turn_ && (!has_turn_ || owned->shard_epochs[0] == owned_->shard_epochs[0]);
    owned_ = std::move(owned);
    if (is_as_before) return;
    is_projected_ = false;
    run_ids_.clear();
    next_check_ = {};
    wake_.cancel();
}

void Projection::poke() { wake_.cancel(); }

boost::asio::awaitable<Result<void>> Projection::step() {
    auto now = std::chrono::steady_clock::now();
    if (now >= next_check_) {
        next_check_ = now + kCheckInterval;
        // One of its own for events may lose its memory by itself, and edges look there for what both sides agreed on.
        // Its trouble is told, and does not keep keys from theirs.
        events_agreed_ = {};
        if (&keys_ != &events_) events_agreed_ = co_await agree_on(events_);
        auto checked = co_await check_memory();
        if (!checked) co_return checked;
    }
    if (!is_projected_) {
        auto agreed = co_await agree_on(keys_);
        if (!agreed) co_return agreed;
        auto projected = co_await project_everything();
        if (!projected) co_return projected;
    }
    auto changed = co_await project_changes();
    if (!changed) co_return changed;
    co_return events_agreed_;
}

// A Redis that restarted may have come back with an older state though `projected` is still there: its process id
// (`run_id`) tells. Where an ACL forbids INFO, `projected` alone decides. Each master of a cluster may lose its memory
// by itself, and headgate:meta lies on one of them: marks in all shards' slots tell of the others. A master that is
// away now is not judged: when it is back, or another has taken its place, the process ids are others.
boost::asio::awaitable<Result<void>> Projection::check_memory() {
    std::vector<RedisCommands> asked;
    RedisCommands& meta = asked.emplace_back(RedisCommands{meta_key(options_.key_prefix), {}, 1});
    RespWriter(meta.bytes).command("HMGET", meta.key, "projected", "pepper_fp");
    for (std::string& key : marks()) {
        RedisCommands& mark = asked.emplace_back(RedisCommands{std::move(key), {}, 1});
        RespWriter(mark.bytes).command("GET", mark.key);
    }
    auto answers = co_await keys_.send_each(std::move(asked));
    const Result<RedisReplies>& of_meta = answers.front();
    if (!of_meta) co_return tl::unexpected(of_meta.error());
    if (auto checked = check_replies(*of_meta); !checked) co_return checked;
    const redisReply* found = of_meta->front().get();
    bool remembers = element_text(found, 0) == "1" && element_text(found, 1) == options_.pepper_fp;
    for (std::size_t i = 1; i < answers.size(); i++)
        if (answers[i] && answers[i]->front()->type == REDIS_REPLY_NIL) remembers = false;

    std::string command;
    RespWriter(command).command("INFO", "server");
    auto servers = co_await keys_.send_to_servers(std::move(command), 1);
    std::vector<std::string> run_ids;
    bool is_whole = true;
    for (const Result<RedisReplies>& server : servers) {
        is_whole = is_whole && server.has_value();
        if (server) run_ids.emplace_back(redis::info_field(text_of(server->front().get()), "run_id"));
    }
    if (is_whole) {
        std::sort(run_ids.begin(), run_ids.end());
        remembers = remembers && run_ids == run_ids_;
        run_ids_ = std::move(run_ids);
    }
    if (is_projected_ && !remembers) {
        spdlog::warn("redis_lost_memory action=project_everything");
        is_projected_ = false;
    }
    co_return Result<void>{};
}

boost::asio::awaitable<Result<void>> Projection::project_everything() {
    std::size_t keys = 0;
    for (std::string after;;) {
        KeysAfter read{after};
        auto batch = co_await db_.run(std::move(read));
        if (!batch) co_return tl::unexpected(batch.error());
        if (batch->empty()) break;
        std::vector<RedisCommands> all;
        for (const auto& key : *batch) all.push_back(key_commands(key));
        auto written = co_await write(std::move(all));
        if (!written) co_return written;
        keys += batch->size();
        after = batch->back().id;
    }
    failpoint("in_project_everything");
    Revocations read;
    auto revocations = co_await db_.run(std::move(read));
    if (!revocations) co_return tl::unexpected(revocations.error());
    std::vector<RedisCommands> all;
    RedisCommands& purge = all.emplace_back(RedisCommands{revoked_key(options_.key_prefix), {}, 1});
    RespWriter(purge.bytes).command("ZREMRANGEBYSCORE", purge.key, "-inf", static_cast<long long>(wall_clock_ms()));
    for (const auto& entry : *revocations) all.push_back(revocation_commands(entry));
    for (std::string& key : marks()) {
        RedisCommands& mark = all.emplace_back(RedisCommands{std::move(key), {}, 1});
        RespWriter(mark.bytes).command("SET", mark.key, "1");
    }
    auto written = co_await write(std::move(all));
    if (!written) co_return written;
    // Only now, and edges may have missed control entries that are gone with the old memory.
    std::vector<RedisCommands> last;
    RedisCommands& meta = last.emplace_back(RedisCommands{meta_key(options_.key_prefix), {}, 1});
    RespWriter(meta.bytes)
        .command("HSET", meta.key, "pepper_fp", options_.pepper_fp, "token_kid", options_.token_kid, "projected", "1");
    last.push_back(announcement("resync", "", 0));
    written = co_await write(std::move(last));
    if (!written) co_return written;
    is_projected_ = true;
    spdlog::info("projected keys={} revocations={}", keys, revocations->size());
    co_return Result<void>{};
}

boost::asio::awaitable<Result<void>> Projection::project_changes() {
    while (true) {
        PendingProjections read;
        auto pending = co_await db_.run(std::move(read));
        if (!pending) co_return tl::unexpected(pending.error());
        if (pending->empty()) co_return Result<void>{};
        std::vector<RedisCommands> all, announcements;
        for (const auto& [entry, key] : *pending) {
            if (entry.op == "key" && !key.id.empty()) {
                all.push_back(key_commands(key));
                announcements.push_back(announcement("key", key.key_hash, 0));
            }
            if (entry.op == "revoke") {
                all.push_back(revocation_commands(entry));
                announcements.push_back(announcement("revoke", entry.ref, entry.until));
            }
            if (entry.op == "unrevoke") {
                RedisCommands& back = all.emplace_back(RedisCommands{revoked_key(options_.key_prefix), {}, 1});
                RespWriter(back.bytes).command("ZREM", back.key, entry.ref);
                announcements.push_back(announcement("unrevoke", entry.ref, 0));
            }
        }
        // First written, then announced: an edge that drops what it had cached reads it again at once. What is written
        // is announced though others could not be: a master that is away does not hold up what lies elsewhere.
        auto results = co_await send_as_owner(std::move(all));
        if (!results) co_return tl::unexpected<Error>(results.error());
        Result<void> written;
        std::vector<RedisCommands> telling;
        for (std::size_t i = 0; i < results->size(); i++) {
            const Result<RedisReplies>& replies = (*results)[i];
            Result<void> one = replies ? check_replies(*replies) : tl::unexpected(replies.error());
            if (one) telling.push_back(std::move(announcements[i]));
            if (written && !one) written = one;
        }
        auto told = co_await write(std::move(telling));
        if (!told) co_return told;
        if (!written) co_return written;
        failpoint("in_project");
        FinishProjections finish{pending->back().first.id};
        auto finished = co_await db_.run(std::move(finish));
        if (!finished) co_return finished;
        spdlog::info("projected_changes entries={}", pending->size());
    }
}

boost::asio::awaitable<Result<std::vector<Result<RedisReplies>>>> Projection::send_as_owner(
    std::vector<RedisCommands> all) {
    if (all.empty()) co_return std::vector<Result<RedisReplies>>{};
    if (!is_ours()) co_return fail(ErrorCode::kLeaseLost, "another instance may be writing");
    OwnedPartsPtr writing_as = owned_;
    auto results = co_await keys_.send_each(std::move(all));
    if (!is_ours() || owned_->shard_epochs[0] != writing_as->shard_epochs[0]) {
        // We were stopped meanwhile, and may have written over what is newer.
        std::string meta = meta_key(options_.key_prefix), forget;
        RespWriter(forget).command("HDEL", meta, "projected");
        (void)co_await keys_.send(std::move(meta), std::move(forget), 1);
        co_return fail(ErrorCode::kLeaseLost, "another instance may have written");
    }
    co_return results;
}

boost::asio::awaitable<Result<void>> Projection::write(std::vector<RedisCommands> all) {
    auto results = co_await send_as_owner(std::move(all));
    if (!results) co_return tl::unexpected<Error>(results.error());
    for (const Result<RedisReplies>& replies : *results) {
        if (!replies) co_return tl::unexpected<Error>(replies.error());
        if (auto checked = check_replies(*replies); !checked) co_return checked;
    }
    co_return Result<void>{};
}

RedisCommands Projection::key_commands(const ApiKey& key) const {
    std::string expires = key.expires_at ? std::to_string(*key.expires_at) : std::string();
    RedisCommands commands{api_key_key(options_.key_prefix, key.key_hash), {}, 1};
    RespWriter(commands.bytes)
        .command("HSET", commands.key, "id", key.id, "org", key.org, "scopes", key.scopes, "allowed_ips",
                 key.allowed_ips, "plan", key.plan, "limits", key.limits, "expires_at", expires, "active",
                 key.is_active && !key.is_org_suspended ? "1" : "0", "prefix", key.key_prefix);
    return commands;
}

RedisCommands Projection::revocation_commands(const Store::ProjectionEntry& entry) const {
    RedisCommands commands{revoked_key(options_.key_prefix), {}, 1};
    RespWriter(commands.bytes).command("ZADD", commands.key, static_cast<long long>(entry.until), entry.ref);
    return commands;
}

RedisCommands Projection::announcement(std::string_view op, std::string_view ref, TimeMs until) const {
    RedisCommands commands{control_key(options_.key_prefix), {}, 1};
    RespWriter(commands.bytes)
        .command("XADD", commands.key, "MAXLEN", "~", kControlEntriesMax, "*", "op", op, "ref", ref, "until",
                 static_cast<long long>(until));
    return commands;
}

// One key in the slot of each shard, so that each master of a cluster has some.
std::vector<std::string> Projection::marks() const {
    std::vector<std::string> keys;
    if (keys_.joins_slots()) return keys;
    for (int shard = 0; shard < options_.shards; shard++)
        keys.push_back(options_.key_prefix + "{" + std::string(shard_tag(shard)) + "}:projected");
    return keys;
}

}  // namespace headgate
