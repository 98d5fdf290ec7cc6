// The ingest loop: read, persist, hand on, acknowledge. Input: the streams. Output: the store's rows,
// and deliveries for the dispatcher (deliver/dispatcher.h).
//
// One connection reads and may block, another acknowledges. The acknowledgement of a batch is
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
#include "sidecar/base/measures.h"
#include "sidecar/base/trouble.h"
#include "sidecar/base/wall_clock.h"
#include "sidecar/ingest/ingest_batch.h"
#include "sidecar/ingest/left_behind.h"
#include "sidecar/ingest/stream_reader.h"

namespace headgate {

namespace asio = boost::asio;
using asio::redirect_error;
using asio::use_awaitable;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

namespace {

constexpr milliseconds kBlock{1000};
constexpr milliseconds kBackoffMin{100};
constexpr milliseconds kBackoffMax{2000};

std::vector<std::string> all_shard_keys(const IngestOptions& options) {
    std::vector<std::string> keys;
    for (int shard = 0; shard < options.shards; shard++) keys.push_back(stream_key(options.key_prefix, shard));
    return keys;
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
          link(options.link ? options.link : make_redis_link(executor, options.redis, kIngestCommandTimeout)),
          server(options.link ? options.server : link->server_of(keys.front())),
          read_redis(link->connect(server, kIngestCommandTimeout)),
          reader(*read_redis),
          window({}, options.reply_bytes_max),
          count(read_count(0)),
          catch_up(options.catch_up
                       ? options.catch_up
                       : std::make_shared<CatchUp>(executor, link, options.key_prefix, options.shards, options.owned)),
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
    steady_clock::time_point next_pending_look, next_left_look;
    std::shared_ptr<RedisLink> link;
    std::string server;
    std::unique_ptr<RedisClient> read_redis;
    StreamReader reader;
    ReadWindow window;
    ReadCount count;
    std::shared_ptr<CatchUp> catch_up;  // that of options, or our own
    IngestCounters counters;
    bool stopping = false;
    bool ack_running = false;
    bool is_elsewhere = false;
    milliseconds backoff = kBackoffMin;
    asio::steady_timer pause, shards_changed, ack_pause;
    asio::steady_timer ack_ended;  // cancelled to wake who waits

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
            if (is_elsewhere) co_await wait_backoff();
            if (stopping) break;
            if (take_up_shards() || steady_clock::now() >= next_pending_look) from = look_for_pending();
            if (window.keys().empty()) {
                co_await wait_for_shards();
                continue;
            }
            // The same entries are pending until they are acknowledged.
            if (from == ReadFrom::kPending && ack_running) {
                co_await wait_for_ack();
                continue;
            }
            if (from == ReadFrom::kNew && steady_clock::now() >= next_left_look) {
                co_await look_for_left_behind();
                continue;
            }
            // Nothing is waited for while there are more streams to ask.
            milliseconds block = window.is_whole() ? kBlock : milliseconds(0);
            taking = owned;
            Result<ReadReply> read;
            if (is_elsewhere) {
                read = co_await read_elsewhere(from);
            } else {
                read = co_await reader.read(window.keys(), from, count.per_stream(), block);
            }
            if (stopping) break;
            if (!read) {
                link->heard("", server);
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
            is_elsewhere = false;
            if (read->status == ReadStatus::kRefused) {
                is_elsewhere = read->error.starts_with("ASK ");
                if (is_elsewhere) continue;
                link->heard(read->error, server);
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
        next_left_look = {};
        std::vector<std::string> ours;
        for (std::size_t shard = 0; shard < reading.size(); shard++) {
            if (reading[shard] != 0) ours.push_back(keys[shard]);
        }
        count = read_count(ours.size());
        window = ReadWindow(std::move(ours), options.reply_bytes_max);
        read_redis->set_reply_bytes_max(window.reply_bytes_max());
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
        if (!options.catch_up) catch_up->follow(owned);
        shards_changed.cancel();
    }

    [[nodiscard]] bool is_shard_in_use(int shard) const {
        auto is_of = [shard](const OwnedPartsPtr& parts) {
            return parts != nullptr && parts->shard_epochs[static_cast<std::size_t>(shard)] != 0;
        };
        return is_of(taking) || is_of(acknowledging);
    }

    // ---- reading, persisting -----------------------------------------------------------------

    // The stream is on its way to another server of a cluster, and the connection that may block is with the old one:
    // asked without blocking, where it is now, until it has arrived.
    asio::awaitable<Result<ReadReply>> read_elsewhere(ReadFrom from) {
        std::string command = xreadgroup_command(window.keys(), from, count.per_stream(), milliseconds(0));
        auto replies = co_await link->send(window.keys().front(), std::move(command), 1);
        co_return read_reply(std::move(replies));
    }

    ReadFrom look_for_pending() {
        next_pending_look = steady_clock::now() + options.pending_interval;
        window.look_for_pending();
        return ReadFrom::kPending;
    }

    void ask_for_less() {
        if (count.per_stream() == 1) window.reply_was_too_large();
        count.reply_was_too_large();
        read_redis->set_reply_bytes_max(window.reply_bytes_max());
    }

    // A read of new entries gave so many bytes.
    void ask_next(std::size_t reply_bytes) {
        window.advance(reply_bytes);
        read_redis->set_reply_bytes_max(window.reply_bytes_max());
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
            read_redis->close();
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
        Trouble trouble;
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
            const auto began = steady_clock::now();
            Result<PersistProgress> done = co_await db.run(std::move(work));
            measures().persist.observe_since(began);
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
                counters.refused_since_ms = 0;
                backoff = kBackoffMin;
                if (const auto failures = trouble.end(); failures > 0)
                    spdlog::info("ingest.persist_recovered failures={}", failures);
                auto taken = std::chrono::duration_cast<milliseconds>(steady_clock::now() - began);
                spdlog::info(
                    "ingest.batch entries={} new={} duplicates={} quarantined={} claimed={} queued={} shards={} "
                    "reply_bytes={} duration_ms={}",
                    batch->entries, done->events_new, done->duplicates, done->quarantined, claimed, done->unclaimed,
                    batch->shards.size(), batch->reply_bytes, taken.count());
                co_return true;
            }
            counters.persist_errors++;
            unexplained_failures = done->error->code == ErrorCode::kInternal ? unexplained_failures + 1 : 0;
            if (trouble.is_news(done->error->message))
                spdlog::error("ingest.persist_failed error={} entries={} action=retry", log_value(done->error->message),
                              batch->entries);
            bool is_lost = done->error->code == ErrorCode::kLeaseLost;
            if (is_lost) counters.refused_since_ms = 0;
            if (!is_lost && counters.refused_since_ms == 0) counters.refused_since_ms = steady_clock_ms();
            if (is_lost) failpoint("after_refused_write");
            if (is_lost && options.on_lease_lost) options.on_lease_lost();
            co_await wait_backoff();
            if (is_lost) co_return false;  // what is still ours of it is pending, and read again
        }
        co_return false;
    }

    void note_persisted(const IngestBatch& batch) {
        for (const auto& shard : batch.shards) catch_up->note_persisted(shard.last);
        catch_up->wake();
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
        std::vector<RedisCommands> commands = ack_commands(*batch, keys);
        auto acknowledged = co_await link->send_each(std::move(commands));
        for (const Result<RedisReplies>& replies : acknowledged) {
            if (!replies) {
                spdlog::warn("ingest.ack_failed error={}", log_value(replies.error().message));
                co_return false;
            }
            const redisReply& exec = *replies->back();
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

    // Between two reads: nothing that we were given is pending then, but for what a late reader has taken.
    asio::awaitable<void> look_for_left_behind() {
        next_left_look = steady_clock::now() + options.left_behind_interval;
        co_await wait_for_ack();
        std::vector<std::string> ours;
        for (std::size_t shard = 0; shard < reading.size(); shard++) {
            if (reading[shard] != 0) ours.push_back(keys[shard]);
        }
        if (!stopping && !ours.empty()) co_await read_again_what_is_left_behind(link, std::move(ours));
    }

    // At id 0, so that nothing published before is passed over. A group that exists stays as it is.
    asio::awaitable<void> create_groups() {
        std::vector<RedisCommands> commands;
        for (const std::string& key : window.keys()) {
            RedisCommands& create = commands.emplace_back(RedisCommands{key, {}, 1});
            RespWriter(create.bytes).command("XGROUP", "CREATE", key, kConsumerGroup, "0", "MKSTREAM");
        }
        auto created = co_await link->send_each(std::move(commands));
        std::string error;
        for (const Result<RedisReplies>& replies : created) {
            std::string_view refusal = replies ? error_text(*replies->front()) : replies.error().message;
            if (!refusal.empty() && !refusal.starts_with("BUSYGROUP")) error = refusal;
        }
        if (error.empty()) {
            spdlog::info("ingest.groups_created shards={}", created.size());
            co_return;
        }
        spdlog::warn("ingest.groups_failed error={} retry_ms={}", log_value(error), backoff.count());
        co_await wait_backoff();
    }

    void stop() {
        stopping = true;
        pause.cancel();
        shards_changed.cancel();
        ack_pause.cancel();
        if (!options.catch_up) catch_up->stop();
        read_redis->close();
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
asio::awaitable<bool> Ingest::wait_until_caught_up(milliseconds timeout) { return impl_->catch_up->wait(timeout); }

}  // namespace headgate
