// The loops of monitor.h.
#include "sidecar/monitor.h"

#include <hiredis/hiredis.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <optional>

#include "common/event_record.h"
#include "common/resp.h"
#include "sidecar/api/reply.h"
#include "sidecar/base/log.h"
#include "sidecar/base/wall_clock.h"

namespace headgate {
namespace asio = boost::asio;
using std::chrono::milliseconds;
using SteadyClock = std::chrono::steady_clock;

namespace {

constexpr milliseconds kSampleInterval{1'000};
constexpr milliseconds kShardsInterval{2'000};
constexpr milliseconds kCountInterval{2'000};
// Counting a large backlog takes its time of the thread that answers the API: at most a fiftieth of it.
constexpr int kCountPauseFactor = 50;

// What runs on the DB threads.
struct OldestDue {
    OwnedPartsPtr owned;
    std::vector<std::string> held_back;
    Result<std::optional<TimeMs>> operator()(Store& store) const {
        return store.oldest_due_at(wall_clock_ms(), owned->lane_epochs, held_back);
    }
};
struct Ping {
    Result<void> operator()(Store& store) const { return store.ping(); }
};
struct CountDeliveries {
    Result<Store::DeliveryCounts> operator()(Store& store) const { return store.delivery_counts(wall_clock_ms()); }
};

// Of a kind: how many were ours in `before`, and now are neither ours nor on their way out.
std::uint64_t lost(const std::vector<std::int64_t>& before, const std::vector<std::int64_t>& now,
                   const std::vector<int>& leaving, const std::vector<int>& left) {
    auto has = [](const std::vector<int>& parts, std::size_t part) {
        return std::find(parts.begin(), parts.end(), static_cast<int>(part)) != parts.end();
    };
    std::uint64_t count = 0;
    for (std::size_t part = 0; part < before.size(); ++part) {
        if (before[part] == 0 || (part < now.size() && now[part] == before[part])) continue;
        if (!has(leaving, part) && !has(left, part)) ++count;
    }
    return count;
}

}  // namespace

struct Monitor::Impl {
    Impl(asio::any_io_executor executor_in, DbExecutor& writer_in, DbExecutor& reader_in, RedisLink& events_in,
         MonitorOptions options_in, MonitorSources sources_in)
        : executor(std::move(executor_in)),
          writer(writer_in),
          reader(reader_in),
          events(events_in),
          options(std::move(options_in)),
          sources(std::move(sources_in)) {}

    // Ends early when the monitor stops.
    asio::awaitable<void> pause(milliseconds duration) {
        if (is_stopping) co_return;
        asio::steady_timer timer(executor, duration);
        timers.push_back(&timer);
        boost::system::error_code ignored;
        co_await timer.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
        std::erase(timers, &timer);
    }

    // The store answers when it can be read and written: a locked database is still good for reading.
    asio::awaitable<void> watch_store() {
        bool was_failing = false;
        while (!is_stopping) {
            OldestDue read{sources.owned(), sources.held_back()};
            auto oldest = co_await reader.run(std::move(read));
            if (oldest) oldest_due_at = oldest->value_or(0);
            Ping ping;
            auto written = co_await writer.run(std::move(ping));
            if (oldest && written) {
                store_answered = SteadyClock::now();
                if (was_failing) spdlog::info("store_recovered");
                was_failing = false;
            } else if (!std::exchange(was_failing, true)) {
                const Error& error = oldest ? written.error() : oldest.error();
                spdlog::warn("store_failed error={}", log_value(error.message));
            }
            co_await pause(kSampleInterval);
        }
    }

    asio::awaitable<void> watch_deliveries() {
        while (!is_stopping) {
            auto began = SteadyClock::now();
            CountDeliveries count;
            auto counted = co_await reader.run(std::move(count));
            counts = counted ? std::optional(*counted) : std::nullopt;
            auto taken = std::chrono::duration_cast<milliseconds>(SteadyClock::now() - began);
            co_await pause(std::max(kCountInterval, taken * kCountPauseFactor));
        }
    }

    // Entries leave a stream when they are acknowledged: its length is what has still to be done.
    asio::awaitable<void> watch_shards() {
        while (!is_stopping) {
            OwnedPartsPtr owned = sources.owned();
            std::vector<RedisCommands> all;
            std::vector<int> asked;
            for (int shard = 0; shard < options.shards; ++shard) {
                if (!owned->owns_shard(shard)) continue;
                RedisCommands length{stream_key(options.key_prefix, shard), {}, 1};
                RespWriter(length.bytes).command("XLEN", length.key);
                all.push_back(std::move(length));
                asked.push_back(shard);
            }
            std::vector<std::pair<int, std::int64_t>> entries;
            if (!asked.empty()) {
                auto replies = co_await events.send_each(std::move(all));
                for (std::size_t i = 0; i < asked.size(); ++i) {
                    if (replies[i] && (*replies[i])[0]->type == REDIS_REPLY_INTEGER)
                        entries.emplace_back(asked[i], (*replies[i])[0]->integer);
                }
            }
            shard_entries = std::move(entries);
            co_await pause(kShardsInterval);
        }
    }

    asio::awaitable<void> publish_status() {
        const std::string key = status_key(options.key_prefix);
        while (!is_stopping) {
            note_leases();
            std::string commands = status_commands(vitals(), key);
            auto sent = co_await events.send(key, std::move(commands), kStatusReplies);
            if (!sent) spdlog::debug("status_failed error={}", log_value(sent.error().message));
            co_await pause(kSampleInterval);
        }
    }

    void note_leases() {
        OwnedPartsPtr now = sources.owned();
        const bool is_valid = now->is_valid();
        if (previous != nullptr && was_valid) {
            static const std::vector<std::int64_t> kNone;
            leases_lost += lost(previous->shard_epochs, is_valid ? now->shard_epochs : kNone, now->leaving_shards,
                                previous->leaving_shards) +
                           lost(previous->lane_epochs, is_valid ? now->lane_epochs : kNone, now->leaving_lanes,
                                previous->leaving_lanes);
        }
        previous = std::move(now);
        was_valid = is_valid;
    }

    [[nodiscard]] Vitals vitals() const {
        Vitals vitals = sources.vitals();
        vitals.store_silent_ms = std::chrono::duration_cast<milliseconds>(SteadyClock::now() - store_answered).count();
        if (oldest_due_at != 0) vitals.oldest_due_ms = std::max<TimeMs>(0, wall_clock_ms() - oldest_due_at);
        if (counts) vitals.retrying = counts->later;
        const IngestTotals ingested = sources.ingest();
        vitals.duplicates = ingested.duplicates;
        vitals.quarantined = ingested.quarantined;
        vitals.in_memory = sources.dispatcher.in_memory;
        return vitals;
    }

    [[nodiscard]] std::string metrics() const {
        const MetricsSample sample{measures(), sources.ingest(),   sources.dispatcher, vitals(),    shard_entries,
                                   counts,     sources.breakers(), leases_lost,        api_routes()};
        return metrics_text(sample);
    }

    asio::awaitable<ServerResponse> answer(ServerRequest request) {
        if (request.path != "/metrics" && request.path != "/metrics/")
            co_return problem_response(404, "This address has /metrics only");
        if (request.method != "GET" && request.method != "HEAD") {
            auto refused = problem_response(405, "This path answers GET, HEAD only");
            refused.headers.emplace_back("Allow", "GET, HEAD");
            co_return refused;
        }
        ServerResponse response;
        response.content_type = kMetricsContentType;
        response.headers.emplace_back("Cache-Control", "no-store");
        response.body = metrics();
        co_return response;
    }

    asio::any_io_executor executor;
    DbExecutor& writer;
    DbExecutor& reader;
    RedisLink& events;
    MonitorOptions options;
    MonitorSources sources;
    std::optional<HttpServer> server;
    std::vector<asio::steady_timer*> timers;  // of pause(), so that stopping wakes them
    bool is_stopping = false;

    SteadyClock::time_point store_answered = SteadyClock::now();
    TimeMs oldest_due_at = 0;  // 0: none
    std::optional<Store::DeliveryCounts> counts;
    std::vector<std::pair<int, std::int64_t>> shard_entries;
    OwnedPartsPtr previous;
    bool was_valid = false;
    std::uint64_t leases_lost = 0;
};

Monitor::Monitor(asio::any_io_executor executor, DbExecutor& writer, DbExecutor& reader, RedisLink& events,
                 MonitorOptions options, MonitorSources sources)
    : impl_(std::make_unique<Impl>(std::move(executor), writer, reader, events, std::move(options),
                                   std::move(sources))) {}
Monitor::~Monitor() = default;

Result<void> Monitor::listen() {
    if (impl_->options.listen.empty()) return {};
    HttpServerOptions options;
    options.listen = impl_->options.listen;
    options.setting = "metrics.listen";
    options.body_bytes_max = 0;
    options.connections_max = 16;
    impl_->server.emplace(impl_->executor, std::move(options),
                          [impl = impl_.get()](ServerRequest request) { return impl->answer(std::move(request)); });
    auto listening = impl_->server->listen();
    if (!listening) return tl::unexpected(listening.error());
    spdlog::info("metrics_listening address={}", *listening);
    return {};
}

asio::awaitable<void> Monitor::watch_store() { return impl_->watch_store(); }
asio::awaitable<void> Monitor::watch_deliveries() { return impl_->watch_deliveries(); }
asio::awaitable<void> Monitor::watch_shards() { return impl_->watch_shards(); }
asio::awaitable<void> Monitor::publish_status() { return impl_->publish_status(); }
asio::awaitable<void> Monitor::serve() {
    if (impl_->server) co_await impl_->server->run();
}
void Monitor::stop() {
    impl_->is_stopping = true;
    for (auto* timer : impl_->timers) timer->cancel();
    if (impl_->server) impl_->server->stop();
}
asio::awaitable<void> Monitor::drain(milliseconds grace) {
    if (impl_->server) co_await impl_->server->drain(grace);
}
Vitals Monitor::vitals() const { return impl_->vitals(); }
std::string Monitor::metrics() const { return impl_->metrics(); }

}  // namespace headgate
