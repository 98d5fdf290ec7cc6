// The projection of keys and revocations; see projection.h.
#include "sidecar/projection.h"

#include <hiredis/hiredis.h>
#include <spdlog/spdlog.h>

#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <utility>

#include "common/event_record.h"
#include "common/limits.h"
#include "common/resp.h"
#include "sidecar/base/failpoint.h"
#include "sidecar/base/log.h"
#include "sidecar/base/text.h"
#include "sidecar/io/wall_clock.h"

namespace headgate {
namespace {

constexpr std::chrono::milliseconds kPollInterval{200};
constexpr std::chrono::milliseconds kCheckInterval{1000};
constexpr std::size_t kBatchMax = 500;
constexpr long long kControlEntriesMax = 10'000;

std::string_view text_of(const redisReply* reply) {
    if (reply == nullptr || reply->str == nullptr) return {};
    return {reply->str, reply->len};
}

std::string_view element(const redisReply* reply, std::size_t index) {
    if (reply == nullptr || reply->type != REDIS_REPLY_ARRAY || index >= reply->elements) return {};
    return text_of(reply->element[index]);
}

// The first error among replies, as an Error.
Result<void> check_replies(const std::vector<RedisReplyPtr>& replies) {
    for (const auto& reply : replies)
        if (reply->type == REDIS_REPLY_ERROR)
            return fail(ErrorCode::kUnavailable, "Redis: " + std::string(text_of(reply.get())));
    return {};
}

std::string_view info_value(std::string_view info, std::string_view name) {
    auto at = info.find(name);
    if (at == std::string_view::npos) return {};
    auto value = info.substr(at + name.size());
    return value.substr(0, value.find_first_of("\r\n"));
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

Projection::Projection(boost::asio::any_io_executor executor, DbExecutor& db, RedisClient& events, RedisClient& keys,
                       ProjectionOptions options)
    : db_(db), events_(events), keys_(keys), options_(std::move(options)), wake_(std::move(executor)) {}

boost::asio::awaitable<Result<void>> Projection::agree() {
    auto agreed = co_await agree_on(events_);
    if (agreed && &keys_ != &events_) agreed = co_await agree_on(keys_);
    co_return agreed;
}

boost::asio::awaitable<Result<void>> Projection::agree_on(RedisClient& redis) {
    std::string meta = meta_key(options_.key_prefix);
    std::string commands;
    RespWriter(commands)
        .command("HSETNX", meta, "contract", static_cast<long long>(limits::kContractVersion))
        .command("HSETNX", meta, "shards", static_cast<long long>(options_.shards))
        .command("HSETNX", meta, "pepper_fp", options_.pepper_fp)
        .command("HMGET", meta, "contract", "shards", "pepper_fp");
    auto replies = co_await redis.send(std::move(commands), 4);
    if (!replies) co_return tl::unexpected(replies.error());
    if (auto checked = check_replies(*replies); !checked) co_return checked;
    const redisReply* found = replies->back().get();
    auto contract = parse_integer(element(found, 0), 0, INT32_MAX);
    std::string here = "headgate:meta in this Redis";
    if (!contract || *contract > limits::kContractVersion || *contract < limits::kContractVersion - 1)
        co_return fail(ErrorCode::kConflict,
                       here + " has contract " + std::string(element(found, 0)) + ", this program speaks " +
                           std::to_string(limits::kContractVersion) +
                           ": upgrade the older of the two programs, or give them different Redis databases");
    if (element(found, 1) != std::to_string(options_.shards))
        co_return fail(ErrorCode::kConflict, here + " has " + std::string(element(found, 1)) +
                                                 " shards, redis.shards says " + std::to_string(options_.shards) +
                                                 ": make redis.shards and the edge's headgate_shards the same as it");
    if (element(found, 2) != options_.pepper_fp)
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
    redis_run_id_.clear();
    next_check_ = {};
    wake_.cancel();
}

void Projection::poke() { wake_.cancel(); }

boost::asio::awaitable<Result<void>> Projection::step() {
    auto now = std::chrono::steady_clock::now();
    if (now >= next_check_) {
        next_check_ = now + kCheckInterval;
        auto checked = co_await check_memory();
        if (!checked) co_return checked;
    }
    if (!is_projected_) {
        auto agreed = co_await agree();
        if (!agreed) co_return agreed;
        auto projected = co_await project_everything();
        if (!projected) co_return projected;
    }
    co_return co_await project_changes();
}

// A Redis that restarted may have come back with an older state though `projected` is still there: its process id
// (`run_id`) tells. Where an ACL forbids INFO, `projected` alone decides.
boost::asio::awaitable<Result<void>> Projection::check_memory() {
    std::string commands;
    RespWriter(commands)
        .command("HMGET", meta_key(options_.key_prefix), "projected", "pepper_fp")
        .command("INFO", "server");
    auto replies = co_await keys_.send(std::move(commands), 2);
    if (!replies) co_return tl::unexpected(replies.error());
    std::string run_id(info_value(text_of((*replies)[1].get()), "run_id:"));
    bool remembers = element((*replies)[0].get(), 0) == "1" && element((*replies)[0].get(), 1) == options_.pepper_fp &&
                     run_id == redis_run_id_;
    redis_run_id_ = run_id;
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
        std::string commands;
        std::size_t replies = 0;
        for (const auto& key : *batch) add_key(commands, replies, key, false);
        auto written = co_await write(std::move(commands), replies);
        if (!written) co_return written;
        keys += batch->size();
        after = batch->back().id;
    }
    failpoint("in_project_everything");
    Revocations read;
    auto revocations = co_await db_.run(std::move(read));
    if (!revocations) co_return tl::unexpected(revocations.error());
    std::string commands;
    std::size_t replies = 1;
    RespWriter(commands).command("ZREMRANGEBYSCORE", revoked_key(options_.key_prefix), "-inf",
                                 static_cast<long long>(wall_clock_ms()));
    for (const auto& entry : *revocations) add_revocation(commands, replies, entry, false);
    std::string meta = meta_key(options_.key_prefix);
    RespWriter(commands).command("HSET", meta, "pepper_fp", options_.pepper_fp, "token_kid", options_.token_kid,
                                 "projected", "1");
    ++replies;
    // Edges may have missed control entries that are gone with the old memory.
    announce(commands, replies, "resync", "", 0);
    auto written = co_await write(std::move(commands), replies);
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
        std::string commands;
        std::size_t replies = 0;
        for (const auto& [entry, key] : *pending) {
            if (entry.op == "key" && !key.id.empty()) add_key(commands, replies, key, true);
            if (entry.op == "revoke") add_revocation(commands, replies, entry, true);
            if (entry.op == "unrevoke") {
                RespWriter(commands).command("ZREM", revoked_key(options_.key_prefix), entry.ref);
                ++replies;
                announce(commands, replies, "unrevoke", entry.ref, 0);
            }
        }
        auto written = co_await write(std::move(commands), replies);
        if (!written) co_return written;
        failpoint("in_project");
        FinishProjections finish{pending->back().first.id};
        auto finished = co_await db_.run(std::move(finish));
        if (!finished) co_return finished;
        spdlog::info("projected_changes entries={}", pending->size());
    }
}

boost::asio::awaitable<Result<void>> Projection::write(std::string commands, std::size_t replies) {
    if (replies == 0) co_return Result<void>{};
    if (!is_ours()) co_return fail(ErrorCode::kLeaseLost, "another instance may be writing");
    OwnedPartsPtr writing_as = owned_;
    auto sent = co_await keys_.send(std::move(commands), replies);
    if (!is_ours() || owned_->shard_epochs[0] != writing_as->shard_epochs[0]) {
        // We were stopped meanwhile, and may have written over what is newer.
        std::string forget;
        RespWriter(forget).command("HDEL", meta_key(options_.key_prefix), "projected");
        (void)co_await keys_.send(std::move(forget), 1);
        co_return fail(ErrorCode::kLeaseLost, "another instance may have written");
    }
    if (!sent) co_return tl::unexpected(sent.error());
    co_return check_replies(*sent);
}

void Projection::add_key(std::string& commands, std::size_t& replies, const ApiKey& key, bool announced) const {
    std::string expires = key.expires_at ? std::to_string(*key.expires_at) : std::string();
    RespWriter(commands).command("HSET", api_key_key(options_.key_prefix, key.key_hash), "id", key.id, "org", key.org,
                                 "scopes", key.scopes, "allowed_ips", key.allowed_ips, "plan", key.plan, "limits",
                                 key.limits, "expires_at", expires, "active", key.is_active ? "1" : "0", "prefix",
                                 key.key_prefix);
    ++replies;
    if (announced) announce(commands, replies, "key", key.key_hash, 0);
}

void Projection::add_revocation(std::string& commands, std::size_t& replies, const Store::ProjectionEntry& entry,
                                bool announced) const {
    RespWriter(commands).command("ZADD", revoked_key(options_.key_prefix), static_cast<long long>(entry.until),
                                 entry.ref);
    ++replies;
    if (announced) announce(commands, replies, "revoke", entry.ref, entry.until);
}

void Projection::announce(std::string& commands, std::size_t& replies, std::string_view op, std::string_view ref,
                          TimeMs until) const {
    RespWriter(commands).command("XADD", control_key(options_.key_prefix), "MAXLEN", "~", kControlEntriesMax, "*", "op",
                                 op, "ref", ref, "until", static_cast<long long>(until));
    ++replies;
}

}  // namespace headgate
