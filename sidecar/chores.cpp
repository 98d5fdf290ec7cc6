// The loops of chores.h.
#include "sidecar/chores.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <string>

#include "sidecar/base/log.h"
#include "sidecar/base/wall_clock.h"
#include "sidecar/deliver/wake_signal.h"
#include "sidecar/match/subscriptions.h"
#include "sidecar/match/wants.h"

namespace headgate {
namespace {

namespace asio = boost::asio;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr std::size_t kPurgeBatch = 500;
constexpr std::size_t kRelayMax = 100;
constexpr milliseconds kFailurePause{10'000};

// ---- on the DB thread -----------------------------------------------------------------------

struct Purge {
    PurgeRequest request;
    Result<std::size_t> operator()(Store& store) const { return store.purge(request); }
};

struct Relay {
    std::shared_ptr<Subscriptions> subscriptions;
    Result<std::size_t> operator()(Store& store) const {
        return store.relay_system_events(*subscriptions, kRelayMax, wall_clock_ms());
    }
};

struct RunningReplays {
    Result<std::vector<Replay>> operator()(Store& store) const { return store.running_replays(); }
};

// One step of one replay. One of a webhook that is off waits until it is on again; where the webhook is gone the store
// ends it.
struct AdvanceReplay {
    Replay replay;
    std::size_t queued_max;
    Result<std::size_t> operator()(Store& store) const {
        auto target = store.delivery_target(replay.webhook_id);
        bool is_gone = target ? target->is_deleted : target.error().code == ErrorCode::kNotFound;
        if (is_gone) {
            auto ended = store.set_replay_state(replay.org, replay.id, "cancelled", wall_clock_ms());
            if (!ended && ended.error().code != ErrorCode::kNotFound) return tl::unexpected<Error>(ended.error());
            return std::size_t{0};
        }
        if (!target) return tl::unexpected<Error>(target.error());
        if (!target->webhook.is_active || target->org_suspended) return std::size_t{0};
        return store.advance_replay(replay.id, wants_of(target->webhook), queued_max, wall_clock_ms());
    }
};

}  // namespace

struct Chores::Impl {
    Impl(asio::any_io_executor executor_in, DbExecutor& db_in, ChoresOptions options_in)
        : executor(executor_in),
          db(db_in),
          options(std::move(options_in)),
          owned(options.owned),
          purge{"retention", WakeSignal(executor), {}},
          relay{"operational_events", WakeSignal(executor), {}},
          replay{"replays", WakeSignal(executor), {}},
          ended(executor) {}

    struct Loop {
        const char* name;
        WakeSignal wake;
        std::string last_error;
    };

    asio::any_io_executor executor;
    DbExecutor& db;
    ChoresOptions options;
    OwnedPartsPtr owned;
    std::shared_ptr<Subscriptions> subscriptions = std::make_shared<Subscriptions>();  // of the DB thread alone
    Loop purge, relay, replay;
    milliseconds replay_wait = options.replay_pause;
    WakeSignal ended;
    int running = 0;
    bool is_stopping = false;

    [[nodiscard]] bool is_ours() const { return !is_stopping && owned->owns_lane(0); }

    // The same trouble is told once, and its end. True when there is none.
    static bool note(Loop& loop, const Error* error) {
        std::string text = error != nullptr ? error->message : std::string();
        if (text != loop.last_error) {
            if (error != nullptr) spdlog::warn("chore_failed chore={} error={}", loop.name, log_value(text));
            if (error == nullptr) spdlog::info("chore_recovered chore={}", loop.name);
            loop.last_error = std::move(text);
        }
        return error == nullptr;
    }

    template <typename T>
    static bool note(Loop& loop, const Result<T>& result) {
        return note(loop, result ? nullptr : &result.error());
    }

    // `step` does what there is to do and returns how long to wait for more.
    template <typename Step>
    asio::awaitable<void> repeat(Loop& loop, Step step) {
        while (!is_stopping) {
            milliseconds wait = kFailurePause;
            // Woken when lane 0 becomes ours.
            auto next = steady_clock::time_point::max();
            if (is_ours()) {
                wait = co_await step();
                next = steady_clock::now() + wait;
            } else if (owned->lane_epochs[0] != 0) {
                next = steady_clock::now() + options.relay_interval;  // ours again when the leases are renewed
            }
            if (is_stopping) break;
            co_await loop.wake.wait_until(next);
        }
        --running;
        ended.wake();
    }

    asio::awaitable<milliseconds> purge_step() {
        std::size_t purged = 0;
        while (is_ours()) {
            TimeMs now = wall_clock_ms();
            Purge work{{.events_before = now - options.retention_events_ms,
                        .attempts_before = now - options.retention_attempts_ms,
                        .now = now,
                        .batch_max = kPurgeBatch,
                        .quarantine_before = now - options.retention_quarantine_ms,
                        .audit_before = now - options.retention_audit_ms}};
            auto batch = co_await db.run(std::move(work));
            if (!note(purge, batch)) co_return kFailurePause;
            if (*batch == 0) break;
            purged += *batch;
            co_await purge.wake.wait_until(steady_clock::now() + options.purge_pause);
        }
        if (purged > 0) spdlog::info("purged rows={}", purged);
        co_return options.purge_interval;
    }

    asio::awaitable<milliseconds> relay_step() {
        while (is_ours()) {
            Relay work{subscriptions};
            auto relayed = co_await db.run(std::move(work));
            if (!note(relay, relayed)) co_return kFailurePause;
            if (*relayed > 0) spdlog::info("operational_events events={}", *relayed);
            if (*relayed < kRelayMax) break;
        }
        co_return options.relay_interval;
    }

    asio::awaitable<milliseconds> replay_step() {
        RunningReplays ask;
        auto replays = co_await db.run(std::move(ask));
        if (!note(replay, replays)) co_return kFailurePause;
        const Error* failed = nullptr;
        bool gets_on = false;
        Result<std::size_t> made = std::size_t{0};
        for (const Replay& each : *replays) {
            if (!is_ours()) break;
            AdvanceReplay work{each, options.replay_queued_max};
            auto advanced = co_await db.run(std::move(work));
            // One that cannot go on holds back no other.
            if (!advanced) {
                made = std::move(advanced);
            } else if (*advanced > 0) {
                gets_on = true;
            }
        }
        if (!made) failed = &made.error();
        if (gets_on && options.on_replayed) options.on_replayed();
        if (!note(replay, failed)) co_return kFailurePause;
        // One whose deliveries wait to be sent can go on as soon as they are.
        replay_wait = gets_on ? options.replay_pause : std::min(replay_wait * 2, options.replay_interval);
        co_return replays->empty() ? options.replay_interval : replay_wait;
    }

    void wake_all() {
        for (Loop* loop : {&purge, &relay, &replay}) loop->wake.wake();
    }

    static asio::awaitable<void> run(std::shared_ptr<Impl> self) {
        self->running = 3;
        auto purge = [self] { return self->purge_step(); };
        auto relay = [self] { return self->relay_step(); };
        auto replay = [self] { return self->replay_step(); };
        asio::co_spawn(self->executor, keep(self, self->purge, std::move(purge)), asio::detached);
        asio::co_spawn(self->executor, keep(self, self->relay, std::move(relay)), asio::detached);
        asio::co_spawn(self->executor, keep(self, self->replay, std::move(replay)), asio::detached);
        while (self->running > 0) co_await self->ended.wait_until(steady_clock::time_point::max());
    }

    template <typename Step>
    static asio::awaitable<void> keep(std::shared_ptr<Impl> self, Loop& loop, Step step) {
        co_await self->repeat(loop, std::move(step));
    }
};

Chores::Chores(asio::any_io_executor executor, DbExecutor& db, ChoresOptions options)
    : impl_(std::make_shared<Impl>(std::move(executor), db, std::move(options))) {}

Chores::~Chores() { impl_->is_stopping = true; }

asio::awaitable<void> Chores::run() { return Impl::run(impl_); }

void Chores::stop() {
    impl_->is_stopping = true;
    impl_->wake_all();
}

void Chores::follow(OwnedPartsPtr owned) {
    bool was_ours = impl_->owned->lane_epochs[0] != 0;
    impl_->owned = std::move(owned);
    if (!was_ours && impl_->owned->lane_epochs[0] != 0) impl_->wake_all();
}

void Chores::poke() { impl_->relay.wake.wake(); }

}  // namespace headgate
