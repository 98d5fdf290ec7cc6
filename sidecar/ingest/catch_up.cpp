// See catch_up.h.
#include "sidecar/ingest/catch_up.h"

#include <hiredis/hiredis.h>

#include <algorithm>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <functional>

#include "common/event_record.h"
#include "common/resp.h"
#include "sidecar/ingest/stream_reader.h"

namespace headgate {
namespace asio = boost::asio;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

namespace {

constexpr milliseconds kForeignPollInterval{50};

bool is_at_or_after(const StreamPosition& a, const StreamPosition& b) {
    return std::pair(a.ms, a.seq) >= std::pair(b.ms, b.seq);
}

// The value that follows `name` in a flat list of names and values, or null.
const redisReply* member(const redisReply& list, std::string_view name) {
    for (std::size_t i = 0; i + 1 < list.elements; i += 2) {
        const redisReply& candidate = *list.element[i];
        if (std::string_view(candidate.str, candidate.len) == name) return list.element[i + 1];
    }
    return nullptr;
}

StreamPosition position_of(const redisReply* id) {
    StreamPosition position;
    if (id != nullptr && id->str != nullptr) {
        (void)parse_stream_id({id->str, static_cast<std::size_t>(id->len)}, position.ms, position.seq);
    }
    return position;
}

tl::unexpected<Error> refused(const redisReply& reply) {
    return fail(ErrorCode::kUnavailable, reply.str != nullptr ? reply.str : "Redis answered another type");
}

// Entries that were acknowledged but, against our habit, not deleted: persisted by an earlier process.
bool is_all_acknowledged(const redisReply& groups, const StreamPosition& newest) {
    for (std::size_t i = 0; i < groups.elements; i++) {
        const redisReply* name = member(*groups.element[i], "name");
        if (name == nullptr || std::string_view(name->str, name->len) != kConsumerGroup) continue;
        const redisReply* pending = member(*groups.element[i], "pending");
        return pending != nullptr && pending->integer == 0 &&
               is_at_or_after(position_of(member(*groups.element[i], "last-delivered-id")), newest);
    }
    return false;
}

}  // namespace

CatchUp::CatchUp(asio::any_io_executor executor, std::shared_ptr<RedisLink> link, std::string key_prefix, int shards,
                 OwnedPartsPtr owned)
    : executor_(std::move(executor)),
      link_(std::move(link)),
      key_prefix_(std::move(key_prefix)),
      owned_(std::move(owned)),
      persisted_(static_cast<std::size_t>(shards)) {}

void CatchUp::note_persisted(const StreamPosition& newest) {
    StreamPosition& known = persisted_[static_cast<std::size_t>(newest.shard)];
    if (is_at_or_after(newest, known)) known = newest;
}

void CatchUp::wake() {
    for (asio::steady_timer* timer : waiting_) timer->cancel();
}

void CatchUp::follow(OwnedPartsPtr owned) {
    owned_ = std::move(owned);
    wake();
}

void CatchUp::stop() {
    stopping_ = true;
    wake();
}

bool CatchUp::is_persisted(const StreamPosition& target) const {
    return is_at_or_after(persisted_[static_cast<std::size_t>(target.shard)], target);
}

std::string CatchUp::key_of(int shard) const { return stream_key(key_prefix_, shard); }

asio::awaitable<bool> CatchUp::wait(milliseconds timeout) { return run(shared_from_this(), timeout); }

asio::awaitable<bool> CatchUp::run(std::shared_ptr<CatchUp> self, milliseconds timeout) {
    steady_clock::time_point deadline = steady_clock::now() + timeout;
    // What another had when we began it may have persisted before we took it over.
    OwnedPartsPtr owned_before = self->owned_;
    auto is_foreign = [&self, &owned_before](const StreamPosition& target) {
        return !owned_before->owns_shard(target.shard) || !self->owned_->owns_shard(target.shard);
    };
    auto found = co_await self->undrained();
    if (!found) co_return false;
    Positions targets = std::move(*found);
    for (;;) {
        std::erase_if(targets, [&self](const StreamPosition& target) { return self->is_persisted(target); });
        if (targets.empty()) co_return true;
        auto now = steady_clock::now();
        if (self->stopping_ || now >= deadline) co_return false;
        auto of_others = std::partition(targets.begin(), targets.end(), std::not_fn(is_foreign));
        Positions foreign(of_others, targets.end());
        targets.erase(of_others, targets.end());
        asio::steady_timer timer(self->executor_, deadline);
        if (!foreign.empty()) timer.expires_at(std::min(now + kForeignPollInterval, deadline));
        self->waiting_.push_back(&timer);
        boost::system::error_code ignored;
        co_await timer.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
        std::erase(self->waiting_, &timer);
        if (foreign.empty()) continue;
        // What another instance has persisted shows in Redis alone: it is no longer there.
        auto left = co_await self->still_in_streams(std::move(foreign));
        if (!left) co_return false;
        targets.insert(targets.end(), left->begin(), left->end());
    }
}

// Shards that have entries the store may not have yet, with their newest id.
asio::awaitable<Result<CatchUp::Positions>> CatchUp::undrained() {
    std::vector<RedisCommands> commands;
    for (std::size_t shard = 0; shard < persisted_.size(); shard++) {
        RedisCommands& length = commands.emplace_back(RedisCommands{key_of(static_cast<int>(shard)), {}, 1});
        RespWriter(length.bytes).command("XLEN", length.key);
    }
    auto counted = co_await link_->send_each(std::move(commands));

    // Entries are deleted only after they were persisted: an empty stream needs no second look.
    Positions behind;
    commands.clear();
    for (std::size_t shard = 0; shard < counted.size(); shard++) {
        if (!counted[shard]) co_return tl::unexpected<Error>(counted[shard].error());
        const redisReply& length = *counted[shard]->front();
        if (length.type != REDIS_REPLY_INTEGER) co_return refused(length);
        if (length.integer == 0) continue;
        behind.push_back({static_cast<int>(shard), 0, 0});
        RedisCommands& infos = commands.emplace_back(RedisCommands{key_of(static_cast<int>(shard)), {}, 2});
        RespWriter(infos.bytes).command("XINFO", "STREAM", infos.key).command("XINFO", "GROUPS", infos.key);
    }
    if (behind.empty()) co_return behind;
    auto described = co_await link_->send_each(std::move(commands));
    Positions targets;
    for (std::size_t i = 0; i < behind.size(); i++) {
        if (!described[i]) co_return tl::unexpected<Error>(described[i].error());
        const redisReply& stream = *(*described[i])[0];
        const redisReply& groups = *(*described[i])[1];
        if (stream.type != REDIS_REPLY_ARRAY) co_return refused(stream);
        StreamPosition newest = position_of(member(stream, "last-generated-id"));
        newest.shard = behind[i].shard;
        if (!is_all_acknowledged(groups, newest)) targets.push_back(newest);
    }
    co_return targets;
}

// Those of `targets` that have not been deleted: their stream begins with them, or before.
asio::awaitable<Result<CatchUp::Positions>> CatchUp::still_in_streams(Positions targets) {
    std::vector<RedisCommands> commands;
    for (const StreamPosition& target : targets) {
        RedisCommands& info = commands.emplace_back(RedisCommands{key_of(target.shard), {}, 1});
        RespWriter(info.bytes).command("XINFO", "STREAM", info.key);
    }
    auto described = co_await link_->send_each(std::move(commands));
    Positions left;
    for (std::size_t i = 0; i < targets.size(); i++) {
        if (!described[i]) co_return tl::unexpected<Error>(described[i].error());
        const redisReply& stream = *described[i]->front();
        bool is_gone = error_text(stream).starts_with("ERR no such key");
        if (!is_gone && stream.type != REDIS_REPLY_ARRAY) co_return refused(stream);
        const redisReply* first = is_gone ? nullptr : member(stream, "first-entry");
        bool has_entry = first != nullptr && first->type == REDIS_REPLY_ARRAY && first->elements == 2;
        if (has_entry && is_at_or_after(targets[i], position_of(first->element[0]))) left.push_back(targets[i]);
    }
    co_return left;
}

}  // namespace headgate
