// The ingest loop: read, persist, hand on, acknowledge. Input: the streams. Output: the store's rows,
// and deliveries for the dispatcher (deliver/dispatcher.h).
//
// One connection reads and may block, a second acknowledges. The acknowledgement of a batch is
// written while the next one is read; a second acknowledgement waits for the first. Whatever fails
// between leaves entries pending: they are read again from 0, found as duplicates, and acknowledged.
#include "sidecar/ingest/ingest.h"

#include <hiredis/hiredis.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "common/limits.h"
#include "common/resp.h"
#include "sidecar/base/failpoint.h"
#include "sidecar/base/log.h"
#include "sidecar/ingest/ingest_batch.h"
#include "sidecar/ingest/stream_reader.h"
#include "sidecar/io/wall_clock.h"

namespace headgate {

namespace asio = boost::asio;
using asio::redirect_error;
using asio::use_awaitable;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

namespace {

constexpr milliseconds kBlock{1000};
constexpr milliseconds kCommandTimeout{3000};
constexpr milliseconds kBackoffMin{100};
constexpr milliseconds kBackoffMax{2000};
constexpr milliseconds kForeignPollInterval{50};

std::vector<std::string> all_shard_keys(const IngestOptions& options) {
    std::vector<std::string> keys;
    for (int shard = 0; shard < options.shards; shard++) keys.push_back(stream_key(options.key_prefix, shard));
    return keys;
}

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

}  // namespace

struct Ingest::Impl {
    Impl(asio::any_io_executor executor_in, DbExecutor& db_in, SubscriptionMatcher& matcher_in, DeliverySink& sink_in,
         IngestOptions options_in)
        : executor(std::move(executor_in)),
          db(db_in),
          matcher(matcher_in),
          sink(sink_in),
          options(std::move(options_in)),
          keys(all_shard_keys(options)),
          owned(options.owned),
          read_redis(executor, options.redis, kCommandTimeout),
          ack_redis(executor, options.redis, kCommandTimeout),
          reader(read_redis),
          window({}, options.reply_bytes_max),
          count(read_count(0)),
          persisted(keys.size()),
          pause(executor),
          shards_changed(executor),
          ack_pause(executor),
          ack_ended(executor) {}

    asio::any_io_executor executor;
    DbExecutor& db;
    SubscriptionMatcher& matcher;
    DeliverySink& sink;
    IngestOptions options;
    std::vector<std::string> keys;  // by shard
    OwnedPartsPtr owned;
    std::vector<std::int64_t> reading;  // epochs of the shards that the window asks, by shard
    // Whose epochs what was read, and what is acknowledged, belongs to; null: nothing is.
    OwnedPartsPtr taking, acknowledging;
    steady_clock::time_point next_pending_look;
    RedisClient read_redis, ack_redis;
    StreamReader reader;
    ReadWindow window;
    ReadCount count;
    std::vector<StreamPosition> persisted;  // the newest of each shard
    IngestCounters counters;
    bool stopping = false;
    bool ack_running = false;
    milliseconds backoff = kBackoffMin;
    asio::steady_timer pause, shards_changed, ack_pause;
    asio::steady_timer ack_ended;              // cancelled to wake who waits
    std::vector<asio::steady_timer*> waiting;  // of wait_until_caught_up, on its callers' stacks

    // Grows from 100 ms to 2 s until something succeeds.
    asio::awaitable<void> wait_backoff() {
        if (stopping) co_return;
        pause.expires_after(backoff);
        backoff = std::min(backoff * 2, kBackoffMax);
        boost::system::error_code ignored;
        co_await pause.async_wait(redirect_error(use_awaitable, ignored));
    }

    asio::awaitable<void> run() {
        ReadFrom from = ReadFrom::kPending;
        while (!stopping) {
            if (take_up_shards() || steady_clock::now() >= next_pending_look) from = look_for_pending();
            if (window.keys().empty()) {
                co_await wait_for_shards();
                continue;
            }
            // The same entries are pending until they are acknowledged.
            if (from == ReadFrom::kPending) co_await wait_for_ack();
            // Nothing is waited for while there are more streams to ask.
            milliseconds block = window.is_whole() ? kBlock : milliseconds(0);
            taking = owned;
            Result<ReadReply> read = co_await reader.read(window.keys(), from, count.per_stream(), block);
            if (stopping) break;
            if (!read) {
                // Entries of a reply that was cut are ours and pending.
                from = look_for_pending();
                bool is_cut = read.error().code == ErrorCode::kTooLarge;
                if (is_cut) ask_for_less();
                spdlog::warn("ingest.{} error={} retry_ms={}", is_cut ? "reply_too_large" : "redis_away",
                             log_value(read.error().message), backoff.count());
                co_await wait_backoff();
                continue;
            }
            if (read->status == ReadStatus::kNoGroup) {
                from = look_for_pending();
                co_await create_groups();
                continue;
            }
            if (read->status == ReadStatus::kRefused) {
                spdlog::error("ingest.read_refused error={} retry_ms={}", log_value(read->error), backoff.count());
                co_await wait_backoff();
                continue;
            }
            counters.last_redis_reply_ms = wall_clock_ms();
            from = co_await take(std::move(*read), from);
        }
        taking = nullptr;
        co_await wait_for_ack();
    }

    // ---- which shards ------------------------------------------------------------------------

    // These are the shards to read now: those that are ours, as long as our leases are to be relied upon. True when
    // they are others than before.
    bool take_up_shards() {
        std::vector<std::int64_t> epochs = owned->is_valid() ? owned->shard_epochs : std::vector<std::int64_t>();
        if (epochs == reading) return false;
        reading = std::move(epochs);
        std::vector<std::string> ours;
        for (std::size_t shard = 0; shard < reading.size(); shard++) {
            if (reading[shard] != 0) ours.push_back(keys[shard]);
        }
        count = read_count(ours.size());
        window = ReadWindow(std::move(ours), options.reply_bytes_max);
        read_redis.set_reply_bytes_max(window.reply_bytes_max());
        wake_waiting();
        return true;
    }

    [[nodiscard]] ReadCount read_count(std::size_t streams) const {
        return {streams, options.batch_max, std::min(options.reply_bytes_max, limits::kStreamReplyBytesMax)};
    }

    asio::awaitable<void> wait_for_shards() {
        taking = nullptr;
        counters.oldest_undrained_ms = 0;
        counters.last_redis_reply_ms = IngestCounters::kNotAsking;
        shards_changed.expires_at(steady_clock::time_point::max());
        boost::system::error_code ignored;
        co_await shards_changed.async_wait(redirect_error(use_awaitable, ignored));
    }

    void follow(OwnedPartsPtr now_owned) {
        owned = std::move(now_owned);
        shards_changed.cancel();
    }

    [[nodiscard]] bool is_shard_in_use(int shard) const {
        auto is_of = [shard](const OwnedPartsPtr& parts) {
            return parts != nullptr && parts->shard_epochs[static_cast<std::size_t>(shard)] != 0;
        };
        return is_of(taking) || is_of(acknowledging);
    }

    ReadFrom look_for_pending() {
        next_pending_look = steady_clock::now() + options.pending_interval;
        window.look_for_pending();
        return ReadFrom::kPending;
    }

    void ask_for_less() {
        if (count.per_stream() == 1) window.reply_was_too_large();
        count.reply_was_too_large();
        read_redis.set_reply_bytes_max(window.reply_bytes_max());
    }

    // A read of new entries gave so many bytes.
    void ask_next(std::size_t reply_bytes) {
        window.advance(reply_bytes);
        read_redis.set_reply_bytes_max(window.reply_bytes_max());
    }

    // Persists and hands on what was read; returns from where to read next.
    asio::awaitable<ReadFrom> take(ReadReply read, ReadFrom from) {
        if (read.status == ReadStatus::kNothing) {
            backoff = kBackoffMin;
            if (window.is_whole()) counters.oldest_undrained_ms = 0;
            ask_next(0);
            co_return ReadFrom::kNew;
        }
        Result<IngestBatch> decoded = decode_batch(std::move(read.reply), keys);
        if (!decoded) {
            spdlog::error("ingest.reply_malformed error={} retry_ms={}", log_value(decoded.error().message),
                          backoff.count());
            read_redis.close();
            co_await wait_backoff();
            co_return look_for_pending();
        }
        auto batch = std::make_shared<const IngestBatch>(std::move(*decoded));
        if (batch->entries == 0) co_return window.has_no_pending() ? ReadFrom::kNew : ReadFrom::kPending;
        counters.oldest_undrained_ms = batch->oldest_at;
        counters.last_redis_reply_ms = IngestCounters::kNotAsking;
        bool is_persisted = co_await persist(batch);
        counters.last_redis_reply_ms = wall_clock_ms();
        if (!is_persisted) co_return look_for_pending();

        std::size_t filled = 0;
        for (const auto& shard : batch->shards) filled += shard.ids.size() == count.per_stream() ? 1 : 0;
        // What lies behind a full read is at least about as new as its newest entry.
        counters.oldest_undrained_ms = filled > 0 || !window.is_whole() ? batch->newest_at : 0;
        if (window.is_whole()) count.observe(batch->reply_bytes, batch->entries, filled);
        if (from == ReadFrom::kNew) ask_next(batch->reply_bytes);
        failpoint("after_commit_before_ack");
        co_await wait_for_ack();
        ack_running = true;
        acknowledging = taking;
        asio::co_spawn(executor, acknowledge(batch), asio::detached);
        co_return from;
    }

    // Until it is committed, or ingest stops. Meanwhile nothing is read: what arrives waits in Redis.
    asio::awaitable<bool> persist(std::shared_ptr<const IngestBatch> batch) {
        int unexplained_failures = 0;
        OwnedPartsPtr read_as = taking;
        while (!stopping) {
            OnInternal on_internal =
                unexplained_failures < options.unexplained_failures_max ? OnInternal::kRetry : OnInternal::kBisect;
            // The shards as they were when it was read, the lanes as they are now.
            auto work = [this, batch, on_internal, read_as, now = owned](Store& store) -> Result<PersistProgress> {
                PersistProgress late;
                late.error = Error{ErrorCode::kLeaseLost, "the leases could not be renewed in time"};
                if (!now->is_valid()) return late;
                OwnedParts parts = *now;
                parts.shard_epochs = read_as->shard_epochs;
                failpoint("lease_lost_mid_batch");
                return persist_batch(store, matcher, sink, *batch, parts, wall_clock_ms(), on_internal);
            };
            Result<PersistProgress> done = co_await db.run(std::move(work));
            if (!done) {  // out of memory, most likely
                done = PersistProgress{};
                done->error = Error{ErrorCode::kUnavailable, "the store's thread failed"};
            }
            counters.batches++;
            counters.drained += done->events_new;
            counters.duplicates += done->duplicates;
            counters.quarantined += done->quarantined;
            if (done->quarantined > 0) spdlog::warn("ingest.quarantined entries={}", done->quarantined);
            std::size_t claimed = done->claimed.size();
            if (claimed + done->unclaimed > 0) sink.accept(std::move(done->claimed), done->unclaimed);
            if (!done->error) {
                note_persisted(*batch);
                backoff = kBackoffMin;
                spdlog::debug("ingest.batch entries={} new={} duplicates={} claimed={} queued={} bytes={}",
                              batch->entries, done->events_new, done->duplicates, claimed, done->unclaimed,
                              batch->reply_bytes);
                co_return true;
            }
            counters.persist_errors++;
            unexplained_failures = done->error->code == ErrorCode::kInternal ? unexplained_failures + 1 : 0;
            spdlog::error("ingest.persist_failed error={} entries={} retry_ms={}", log_value(done->error->message),
                          batch->entries, backoff.count());
            bool is_lost = done->error->code == ErrorCode::kLeaseLost;
            if (is_lost) failpoint("after_refused_write");
            if (is_lost && options.on_lease_lost) options.on_lease_lost();
            co_await wait_backoff();
            if (is_lost) co_return false;  // what is still ours of it is pending, and read again
        }
        co_return false;
    }

    void note_persisted(const IngestBatch& batch) {
        for (const auto& shard : batch.shards) {
            StreamPosition& newest = persisted[static_cast<std::size_t>(shard.shard)];
            if (is_at_or_after(shard.last, newest)) newest = shard.last;
        }
        wake_waiting();
    }

    // Until Redis has done it, or ingest stops.
    asio::awaitable<void> acknowledge(std::shared_ptr<const IngestBatch> batch) {
        milliseconds retry = kBackoffMin;
        for (;;) {
            bool is_done = co_await try_acknowledge(batch);
            if (is_done || stopping) break;
            ack_pause.expires_after(retry);
            retry = std::min(retry * 2, kBackoffMax);
            boost::system::error_code ignored;
            co_await ack_pause.async_wait(redirect_error(use_awaitable, ignored));
        }
        failpoint("after_ack_before_accept");
        ack_running = false;
        acknowledging = nullptr;
        ack_ended.cancel();
    }

    asio::awaitable<bool> try_acknowledge(std::shared_ptr<const IngestBatch> batch) {
        auto replies = co_await ack_redis.send(ack_commands(*batch, keys), kRepliesPerAck * batch->shards.size());
        if (!replies) {
            spdlog::warn("ingest.ack_failed error={}", log_value(replies.error().message));
            co_return false;
        }
        for (std::size_t i = kRepliesPerAck - 1; i < replies->size(); i += kRepliesPerAck) {
            const redisReply& exec = *(*replies)[i];
            if (exec.type == REDIS_REPLY_ARRAY) continue;
            spdlog::warn("ingest.ack_refused error={}",
                         log_value(exec.str != nullptr ? exec.str : "EXEC was discarded"));
            co_return false;
        }
        co_return true;
    }

    asio::awaitable<void> wait_for_ack() {
        while (ack_running) {
            ack_ended.expires_at(steady_clock::time_point::max());
            boost::system::error_code ignored;
            co_await ack_ended.async_wait(redirect_error(use_awaitable, ignored));
        }
    }

    // At id 0, so that nothing published before is passed over. A group that exists stays as it is.
    asio::awaitable<void> create_groups() {
        std::string commands;
        RespWriter writer(commands);
        const std::vector<std::string> missing = window.keys();
        for (const std::string& key : missing) writer.command("XGROUP", "CREATE", key, kConsumerGroup, "0", "MKSTREAM");
        auto replies = co_await read_redis.send(std::move(commands), missing.size());
        std::string error = replies ? "" : replies.error().message;
        if (replies) {
            for (const RedisReplyPtr& reply : *replies) {
                if (reply->type != REDIS_REPLY_ERROR) continue;
                std::string_view text(reply->str, reply->len);
                if (!text.starts_with("BUSYGROUP")) error = text;
            }
        }
        if (error.empty()) {
            spdlog::info("ingest.groups_created shards={}", missing.size());
            co_return;
        }
        spdlog::warn("ingest.groups_failed error={} retry_ms={}", log_value(error), backoff.count());
        co_await wait_backoff();
    }

    // ---- waiting for what was published before -----------------------------------------------

    // Shards that have entries the store may not have yet, with their newest id.
    asio::awaitable<Result<std::vector<StreamPosition>>> undrained() {
        std::string commands;
        RespWriter lengths(commands);
        for (const std::string& key : keys) lengths.command("XLEN", key);
        auto counted = co_await ack_redis.send(std::move(commands), keys.size());
        if (!counted) co_return tl::unexpected<Error>(counted.error());

        // Entries are deleted only after they were persisted: an empty stream needs no second look.
        std::vector<StreamPosition> behind;
        for (std::size_t shard = 0; shard < keys.size(); shard++) {
            const redisReply& length = *(*counted)[shard];
            if (length.type != REDIS_REPLY_INTEGER) co_return refused(length);
            if (length.integer > 0) behind.push_back({static_cast<int>(shard), 0, 0});
        }
        if (behind.empty()) co_return behind;
        commands.clear();
        RespWriter infos(commands);
        for (const StreamPosition& stream : behind) {
            const std::string& key = keys[static_cast<std::size_t>(stream.shard)];
            infos.command("XINFO", "STREAM", key);
            infos.command("XINFO", "GROUPS", key);
        }
        auto replies = co_await ack_redis.send(std::move(commands), 2 * behind.size());
        if (!replies) co_return tl::unexpected<Error>(replies.error());
        std::vector<StreamPosition> targets;
        for (std::size_t i = 0; i < behind.size(); i++) {
            const redisReply& stream = *(*replies)[2 * i];
            const redisReply& groups = *(*replies)[2 * i + 1];
            if (stream.type != REDIS_REPLY_ARRAY) co_return refused(stream);
            StreamPosition newest = position_of(member(stream, "last-generated-id"));
            newest.shard = behind[i].shard;
            if (!is_all_acknowledged(groups, newest)) targets.push_back(newest);
        }
        co_return targets;
    }

    static tl::unexpected<Error> refused(const redisReply& reply) {
        return fail(ErrorCode::kUnavailable, reply.str != nullptr ? reply.str : "Redis answered another type");
    }

    // Entries that were acknowledged but, against our habit, not deleted: persisted by an earlier process.
    static bool is_all_acknowledged(const redisReply& groups, const StreamPosition& newest) {
        for (std::size_t i = 0; i < groups.elements; i++) {
            const redisReply* name = member(*groups.element[i], "name");
            if (name == nullptr || std::string_view(name->str, name->len) != kConsumerGroup) continue;
            const redisReply* pending = member(*groups.element[i], "pending");
            return pending != nullptr && pending->integer == 0 &&
                   is_at_or_after(position_of(member(*groups.element[i], "last-delivered-id")), newest);
        }
        return false;
    }

    asio::awaitable<bool> wait_until_caught_up(milliseconds timeout) {
        steady_clock::time_point deadline = steady_clock::now() + timeout;
        auto found = co_await undrained();
        if (!found) co_return false;
        std::vector<StreamPosition> targets = std::move(*found);
        auto is_there = [this](const StreamPosition& target) {
            return is_at_or_after(persisted[static_cast<std::size_t>(target.shard)], target);
        };
        auto is_foreign = [this](const StreamPosition& target) {
            return reading.empty() || reading[static_cast<std::size_t>(target.shard)] == 0;
        };
        for (;;) {
            std::erase_if(targets, is_there);
            if (targets.empty()) co_return true;
            auto now = steady_clock::now();
            if (stopping || now >= deadline) co_return false;
            bool has_foreign = std::any_of(targets.begin(), targets.end(), is_foreign);
            asio::steady_timer own(executor, has_foreign ? std::min(now + kForeignPollInterval, deadline) : deadline);
            boost::system::error_code ignored;
            waiting.push_back(&own);
            co_await own.async_wait(redirect_error(use_awaitable, ignored));
            waiting.erase(std::find(waiting.begin(), waiting.end(), &own));
            if (has_foreign) {
                // What another instance has persisted shows in Redis alone: it is no longer there.
                auto left = co_await oldest_left();
                if (!left) co_return false;
                std::erase_if(targets, [&](const StreamPosition& target) {
                    const StreamPosition& oldest = (*left)[static_cast<std::size_t>(target.shard)];
                    return !is_at_or_after(target, oldest);
                });
            }
        }
    }

    // By shard, the oldest entry in the stream; of an empty one, later than any.
    asio::awaitable<Result<std::vector<StreamPosition>>> oldest_left() {
        std::string commands;
        RespWriter writer(commands);
        for (const std::string& key : keys) writer.command("XINFO", "STREAM", key);
        auto replies = co_await ack_redis.send(std::move(commands), keys.size());
        if (!replies) co_return tl::unexpected<Error>(replies.error());
        std::vector<StreamPosition> oldest(keys.size());
        for (std::size_t shard = 0; shard < keys.size(); shard++) {
            const redisReply& stream = *(*replies)[shard];
            const redisReply* first = stream.type == REDIS_REPLY_ARRAY ? member(stream, "first-entry") : nullptr;
            bool has_entry = first != nullptr && first->type == REDIS_REPLY_ARRAY && first->elements == 2;
            oldest[shard].ms = UINT64_MAX;
            if (has_entry) oldest[shard] = position_of(first->element[0]);
        }
        co_return oldest;
    }

    void wake_waiting() {
        for (asio::steady_timer* timer : waiting) timer->cancel();
    }

    void stop() {
        stopping = true;
        pause.cancel();
        shards_changed.cancel();
        ack_pause.cancel();
        wake_waiting();
        read_redis.close();
    }
};

Ingest::Ingest(asio::any_io_executor executor, DbExecutor& db, SubscriptionMatcher& matcher, DeliverySink& sink,
               IngestOptions options)
    : impl_(std::make_unique<Impl>(std::move(executor), db, matcher, sink, std::move(options))) {}

Ingest::~Ingest() = default;

asio::awaitable<void> Ingest::run() { return impl_->run(); }
void Ingest::stop() { impl_->stop(); }
void Ingest::follow(OwnedPartsPtr owned) { impl_->follow(std::move(owned)); }
bool Ingest::is_shard_in_use(int shard) const { return impl_->is_shard_in_use(shard); }
const IngestCounters& Ingest::counters() const { return impl_->counters; }
asio::awaitable<bool> Ingest::wait_until_caught_up(milliseconds timeout) {
    return impl_->wait_until_caught_up(timeout);
}

}  // namespace headgate
