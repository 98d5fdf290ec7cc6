// Starting, watching and stopping the parts; see app.h.
#include "sidecar/app.h"

#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <csignal>
#include <optional>

#include "sidecar/api/api.h"
#include "sidecar/base/log.h"
#include "sidecar/base/open_files.h"
#include "sidecar/base/wall_clock.h"
#include "sidecar/chores.h"
#include "sidecar/deliver/dispatcher.h"
#include "sidecar/ingest/ingest_groups.h"
#include "sidecar/io/http_server.h"
#include "sidecar/match/subscriptions.h"
#include "sidecar/monitor.h"
#include "sidecar/ownership.h"
#include "sidecar/projection.h"
#include "sidecar/store/lane.h"
#include "sidecar/stores.h"
#include "sidecar/usage_carrier.h"
#include "sidecar/vitals.h"

namespace headgate {
namespace asio = boost::asio;
using std::chrono::milliseconds;
using SteadyClock = std::chrono::steady_clock;

namespace {

constexpr milliseconds kRedisTimeout{2'000};
constexpr milliseconds kHttpGrace{2'000};
constexpr milliseconds kDeliveryGrace{5'000};
constexpr milliseconds kStopDeadline{8'500};
constexpr milliseconds kReleaseGrace{1'000};
constexpr milliseconds kStorePauseMin{250}, kStorePauseMax{2'000};

// Of this process only: in containers the process id is the same after each start.
std::string owner_name() {
    char host[256] = "localhost";
    gethostname(host, sizeof host - 1);
    return std::string(host) + ":" + std::to_string(getpid()) + ":" + std::to_string(wall_clock_ms());
}

std::int64_t count(const std::vector<std::int64_t>& epochs) {
    return std::count_if(epochs.begin(), epochs.end(), [](std::int64_t epoch) { return epoch != 0; });
}

}  // namespace

struct App::Impl {
    Impl(Config config_in, Secrets secrets_in)
        : config(std::move(config_in)), secrets(std::move(secrets_in)), guard([this] {
              TargetGuardOptions options = guard_options(config);
              options.learned = own_servers;
              return options;
          }()) {}

    // ---- start, in order ---------------------------------------------------------------------

    Result<void> open() {
        auto events_address = events_redis(config);
        if (!events_address) return tl::unexpected(events_address.error());
        auto keys_address = keys_redis(config);
        if (!keys_address) return tl::unexpected(keys_address.error());
        auto http = http_client_options(config);
        if (!http) return tl::unexpected(http.error());
        http_options = *http;
        const std::int64_t files = open_files_max();
        http_options.connections_kept_max = connections_kept_max(files);
        if (const std::int64_t wanted = config.delivery_max_in_flight + kOpenFilesBesides; files < wanted)
            spdlog::warn(
                "open_files_too_few max={} wanted={} action=\"raise LimitNOFILE of the service, or lower "
                "delivery.max_in_flight\"",
                files, wanted);
        ingest_address = *events_address;
        ingest_address.own_servers = keys_address->own_servers = own_servers;
        events = make_redis_link(io.get_executor(), ingest_address, kRedisTimeout);
        if (config.redis_keys_url != config.redis_url)
            keys = make_redis_link(io.get_executor(), *keys_address, kRedisTimeout);
        return {};
    }

    // A database server may come later than we do. Meanwhile the API says what is missing.
    asio::awaitable<Result<void>> open_store() {
        auto opened = co_await stores.open();
        if (opened || !stores.is_worth_waiting(opened.error())) co_return opened;
        auto listening = listen();
        if (!listening) co_return listening;
        for (milliseconds pause = kStorePauseMin; !opened && stores.is_worth_waiting(opened.error());) {
            spdlog::warn("store_unreachable error={} action=retry retry_ms={}", log_value(opened.error().message),
                         pause.count());
            boost::system::error_code ignored;
            store_pause.expires_after(pause);
            co_await store_pause.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
            if (is_stop_requested()) break;
            pause = std::min(pause * 2, kStorePauseMax);
            opened = co_await stores.open();
        }
        co_return opened;
    }

    Result<void> listen() {
        if (server) return {};
        HttpServerOptions options;
        options.listen = config.http_listen;
        server.emplace(io.get_executor(), std::move(options), [this](ServerRequest request) {
            return api ? api->handle(std::move(request)) : answer_without_store(std::move(request), started_at);
        });
        auto listening = server->listen();
        if (!listening) return tl::unexpected(listening.error());
        listening_at = *listening;
        spawn("http", server->run());
        return {};
    }

    // Everything after opening. What it finds wrong ends up in `failure`.
    asio::awaitable<void> start_and_wait() {
        auto started = co_await start();
        if (!started && is_stop_requested()) {
            spdlog::info("stopping error={}", log_value(started.error().message));
        } else if (!started) {
            failure = started.error();
        } else {
            boost::system::error_code ignored;
            co_await stop_requested.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
            spdlog::info("stopping");
            signals.clear();  // a second signal ends the process at once
        }
        co_await stop();
        io.stop();
    }

    asio::awaitable<Result<void>> start() {
        auto opened = co_await open_store();
        if (!opened) co_return opened;
        projection.emplace(
            io.get_executor(), stores.writer(), *events, keys ? *keys : *events,
            ProjectionOptions{config.redis_prefix, config.redis_shards, secrets.pepper_fp, secrets.token_key.kid});
        auto agreed = co_await projection->agree();
        if (!agreed && agreed.error().code == ErrorCode::kConflict) co_return agreed;
        if (!agreed) spdlog::warn("redis_unreachable error={} action=retry", log_value(agreed.error().message));

        make_ownership();
        auto taken = co_await ownership->renew();
        if (!taken && !stores.is_worth_waiting(taken.error())) co_return tl::unexpected(taken.error());
        if (!taken) spdlog::warn("leases_failed error={} action=retry", log_value(taken.error().message));
        const OwnedPartsPtr& owned = ownership->owned();
        DispatcherOptions dispatcher_options;
        dispatcher_options.max_in_flight = config.delivery_max_in_flight;
        dispatcher_options.owned = owned;
        dispatcher_options.guard = guard.options();
        dispatcher_options.on_final_failure = [this] { chores->poke(); };
        dispatcher_options.http = http_options;
        dispatcher.emplace(io.get_executor(), stores.writer(), std::move(dispatcher_options));
        IngestOptions ingest_options;
        ingest_options.redis = ingest_address;
        ingest_options.key_prefix = config.redis_prefix;
        ingest_options.shards = config.redis_shards;
        ingest_options.owned = owned;
        ingest_options.on_lease_lost = [this] { ownership->poke(); };
        ingest.emplace(io.get_executor(), stores.writer(), subscriptions, *dispatcher, std::move(ingest_options));

        ChoresOptions chores_options;
        chores_options.owned = owned;
        chores_options.retention_events_ms = config.retention_events_ms;
        chores_options.retention_attempts_ms = config.retention_attempts_ms;
        chores_options.retention_quarantine_ms = config.retention_quarantine_ms;
        chores_options.retention_audit_ms = config.retention_audit_ms;
        chores_options.on_replayed = [this] { dispatcher->look(); };
        chores.emplace(io.get_executor(), stores.chores(), std::move(chores_options));
        usage.emplace(io.get_executor(), stores.chores(), keys ? *keys : *events,
                      UsageCarrierOptions{.key_prefix = config.redis_prefix, .owned = owned});

        make_monitor();
        if (auto bound = monitor->listen(); !bound) co_return bound;

        make_api();
        if (auto listening = listen(); !listening) co_return listening;

        spawn("redis", follow_redis(agreed.has_value()));
        spawn("dispatcher", dispatcher->run());
        spawn("store_watch", monitor->watch_store());
        spawn("deliveries_watch", monitor->watch_deliveries());
        spawn("shards_watch", monitor->watch_shards());
        spawn("status", monitor->publish_status());
        spawn("metrics", monitor->serve());
        spawn("chores", chores->run());
        spawn("usage", usage->run());
        spawn("leases", ownership->run());
        spdlog::info("listening address={} owner={}", listening_at, owner);
        co_return Result<void>{};
    }

    void make_ownership() {
        OwnershipOptions options{owner, config.redis_shards, kLanes, is_shared_store(config)};
        PartUsers users;
        // The dispatcher first: what ingest persists must find out whether its lane is ready.
        users.follow = [this](const OwnedPartsPtr& owned) {
            if (dispatcher) dispatcher->follow(owned);
            if (ingest) ingest->follow(owned);
            if (chores) chores->follow(owned);
            projection->follow(owned);
            if (usage) usage->follow(owned);
        };
        users.is_shard_in_use = [this](int shard) { return ingest && ingest->is_shard_in_use(shard); };
        users.is_lane_in_use = [this](int lane) { return dispatcher && dispatcher->is_lane_in_use(lane); };
        ownership.emplace(io.get_executor(), stores.leases(), std::move(options), std::move(users));
    }

    void make_monitor() {
        MonitorOptions monitor_options{config.redis_prefix, config.redis_shards, config.metrics_listen};
        MonitorSources sources{[this] { return sample(); },
                               [this] { return ownership->owned(); },
                               [this] { return dispatcher->held_back(); },
                               [this] { return dispatcher->breaker_counts(); },
                               [this] { return ingest->counters(); },
                               dispatcher->counters()};
        monitor.emplace(io.get_executor(), stores.writer(), stores.reader(), *events, std::move(monitor_options),
                        std::move(sources));
    }

    void make_api() {
        api.emplace(ApiServices{stores.writer(), stores.reader(), stores.counter(), secrets.pepper, secrets.token_key,
                                config.tokens_lifetime_ms, guard, config.http_trusted_proxies,
                                [this] { return ingest->wait_until_caught_up(milliseconds(1000)); },
                                [this] { projection->poke(); },
                                [this](std::string_view webhook_id) { dispatcher->invalidate(webhook_id); },
                                [this] { return health_report(monitor->vitals()); },
                                [this] { return monitor->metrics(); }, dispatcher->http_client(), probes});
    }

    // ---- while running -----------------------------------------------------------------------

    // Redis may be away at start: its streams are read once we know that they are ours.
    asio::awaitable<void> follow_redis(bool agreed) {
        while (!agreed && !is_stopping) {
            co_await pause(milliseconds(250));
            if (is_stopping) break;
            auto answer = co_await projection->agree();
            agreed = answer.has_value();
            if (!agreed && answer.error().code == ErrorCode::kConflict) {
                give_up(answer.error());
                co_return;
            }
        }
        if (is_stopping) co_return;
        spawn("projection", projection->run());
        ingest_spawned_at = wall_clock_ms();
        spawn("ingest", ingest->run());
    }

    // What the monitor does not find out by itself.
    Vitals sample() const {
        Vitals vitals;
        IngestTotals ingested = ingest->counters();
        auto since = [](SteadyClock::time_point then) {
            return std::chrono::duration_cast<milliseconds>(SteadyClock::now() - then).count();
        };
        TimeMs now = wall_clock_ms();
        vitals.uptime_ms = since(started_at);
        vitals.redis_silent_ms = events->silent_ms();
        if (keys) vitals.redis_silent_ms = std::max(vitals.redis_silent_ms, keys->silent_ms());
        if (ingest_spawned_at != 0) {
            // A Redis that answers, but refuses to be read, is silent for ingest. A time to come: it does not ask.
            TimeMs granted_at = std::max<TimeMs>(ingested.last_redis_reply_ms, ingest_spawned_at);
            vitals.redis_silent_ms = std::max(vitals.redis_silent_ms, now - granted_at);
        }
        TimeMs undrained_at = ingested.oldest_undrained_ms;
        if (undrained_at != 0) vitals.oldest_undrained_ms = std::max<TimeMs>(0, now - undrained_at);
        vitals.is_projected = projection->is_projected();
        vitals.drained = ingested.drained;
        const auto& sent = dispatcher->counters();
        vitals.delivered = sent.delivered;
        vitals.failed = sent.failed;
        vitals.retried = sent.retried;
        vitals.dead = sent.dead;
        vitals.in_flight = sent.in_flight;
        for (std::int64_t since_ms :
             {ingested.refused_since_ms, sent.refused_since_ms.load(), ownership->refused_since_ms()}) {
            if (since_ms != 0)
                vitals.store_refusing_ms = std::max(vitals.store_refusing_ms, steady_clock_ms() - since_ms);
        }
        if (const OwnedParts& owned = *ownership->owned(); owned.is_valid()) {
            vitals.shards = static_cast<int>(count(owned.shard_epochs));
            vitals.lanes = static_cast<int>(count(owned.lane_epochs));
        }
        return vitals;
    }

    // ---- stop, in reverse --------------------------------------------------------------------

    asio::awaitable<void> stop() {
        is_stopping = true;
        auto deadline = SteadyClock::now() + kStopDeadline;
        if (server) {
            server->stop();
            co_await server->drain(kHttpGrace);
        }
        if (monitor) {
            monitor->stop();
            co_await monitor->drain(milliseconds(100));
        }
        if (ingest) ingest->stop();
        if (dispatcher) co_await dispatcher->stop(kDeliveryGrace);
        if (chores) chores->stop();
        if (usage) usage->stop();
        if (projection) projection->stop();
        stop_waiters.cancel();
        // The leases are kept until everything else has ended, and then given up for others to take at once.
        co_await wait_for_parts(1, deadline);
        if (ownership) spawn("release", ownership->leave());
        co_await wait_for_parts(0, deadline + kReleaseGrace);
        if (running > 0) spdlog::warn("stopped_late parts={}", running);
    }

    asio::awaitable<void> wait_for_parts(int left, SteadyClock::time_point deadline) {
        while (running > left && SteadyClock::now() < deadline) {
            boost::system::error_code ignored;
            part_ended.expires_at(deadline);
            co_await part_ended.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
        }
    }

    void give_up(Error error) {
        spdlog::error("giving_up error={}", log_value(error.message));
        failure = std::move(error);
        request_stop();
    }

    // A request made while start() still runs, when nobody waits for it yet, is kept: the wait then ends at once.
    void request_stop() {
        stop_requested.expires_at(SteadyClock::now());
        store_pause.cancel();
    }
    [[nodiscard]] bool is_stop_requested() const { return stop_requested.expiry() != SteadyClock::time_point::max(); }

    // Ends early when the app stops.
    asio::awaitable<void> pause(milliseconds duration) {
        if (is_stopping) co_return;
        asio::steady_timer timer(io, duration);
        Sleeper sleeper(stop_waiters, timer);
        boost::system::error_code ignored;
        co_await timer.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
    }

    void spawn(const char* name, asio::awaitable<void> part) {
        ++running;
        asio::co_spawn(io, std::move(part), [this, name](const std::exception_ptr& thrown) {
            --running;
            part_ended.cancel();
            if (!thrown) return;
            try {
                std::rethrow_exception(thrown);
            } catch (const std::exception& error) {
                give_up(Error{ErrorCode::kInternal, std::string(name) + " ended: " + error.what()});
            }
        });
    }

    // The timers of pause(), so that stopping wakes them.
    struct Sleepers {
        std::vector<asio::steady_timer*> timers;
        void cancel() {
            for (auto* timer : timers) timer->cancel();
        }
    };
    struct Sleeper {
        Sleeper(Sleepers& all, asio::steady_timer& timer) : all_(all), timer_(&timer) { all_.timers.push_back(timer_); }
        ~Sleeper() { std::erase(all_.timers, timer_); }
        Sleeper(const Sleeper&) = delete;
        Sleeper& operator=(const Sleeper&) = delete;
        Sleepers& all_;
        asio::steady_timer* timer_;
    };

    Config config;
    Secrets secrets;
    std::shared_ptr<OwnServers> own_servers = make_own_servers();
    TargetGuard guard;
    HttpClientOptions http_options;
    ProbeLimits probes;  // before io: a call that ends with it gives its place back
    std::string owner = owner_name();
    SteadyClock::time_point started_at = SteadyClock::now();

    // Declared so that each is destroyed before what it uses. A part that ended late is destroyed with the io_context.
    Sleepers stop_waiters;
    asio::io_context io{1};
    asio::signal_set signals{io, SIGTERM, SIGINT};
    asio::steady_timer stop_requested{io, SteadyClock::time_point::max()};
    asio::steady_timer part_ended{io};
    asio::steady_timer store_pause{io};
    Stores stores{config, secrets.master_keys, own_servers};
    RedisAddress ingest_address;
    std::unique_ptr<RedisLink> events, keys;
    std::optional<Projection> projection;
    Subscriptions subscriptions;
    std::optional<Dispatcher> dispatcher;
    std::optional<IngestGroups> ingest;
    std::optional<Chores> chores;
    std::optional<UsageCarrier> usage;
    std::optional<Ownership> ownership;
    std::optional<Monitor> monitor;
    std::optional<Api> api;
    std::optional<HttpServer> server;
    std::string listening_at;

    TimeMs ingest_spawned_at = 0;  // 0: not yet
    int running = 0;
    bool is_stopping = false;
    std::optional<Error> failure;
};

App::App(Config config, Secrets secrets) : impl_(std::make_unique<Impl>(std::move(config), std::move(secrets))) {}
App::~App() = default;

Result<void> App::run() {
    auto opened = impl_->open();
    if (!opened) return opened;
    impl_->signals.async_wait([impl = impl_.get()](const boost::system::error_code& ec, int) {
        if (!ec) impl->request_stop();
    });
    asio::co_spawn(impl_->io, impl_->start_and_wait(), [](const std::exception_ptr& thrown) {
        if (thrown) std::rethrow_exception(thrown);
    });
    std::optional<Error> thrown_out;
    try {
        impl_->io.run();
    } catch (const std::exception& error) {
        thrown_out = Error{ErrorCode::kInternal, error.what()};
    }
    // What still runs on the DB threads uses ingest, dispatcher and subscriptions, which are destroyed before these.
    impl_->stores.join();
    if (thrown_out) return tl::unexpected(*thrown_out);
    if (impl_->failure) return tl::unexpected(*impl_->failure);
    spdlog::info("stopped");
    return {};
}

}  // namespace headgate
