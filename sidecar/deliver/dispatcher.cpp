// Drives the deliveries held in memory: coroutines and callbacks on the event loop.
//   accept()      deliveries come in, from ingest or from a claim, and take their place in a lane
//   pump()        starts requests while a lane may
//   complete()    a request has ended: its attempt joins the results
//   store_loop()  writes the results, claims what is due; load_loop() reads webhooks
//   follow()      lanes come and go; recover_loop() makes those that came ready
#include "sidecar/deliver/dispatcher.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/post.hpp>
#include <map>
#include <random>
#include <unordered_map>
#include <utility>

#include "sidecar/base/failpoint.h"
#include "sidecar/deliver/attempt.h"
#include "sidecar/deliver/lanes.h"
#include "sidecar/deliver/memory_quota.h"
#include "sidecar/deliver/store_round.h"
#include "sidecar/deliver/target_load.h"
#include "sidecar/deliver/wake_signal.h"
#include "sidecar/io/wall_clock.h"
#include "sidecar/store/lane.h"

namespace headgate {

namespace asio = boost::asio;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

namespace {

constexpr std::size_t kHeldPerInFlight = 8;  // deliveries in memory for each request that may be in flight
constexpr std::size_t kHeldBytesMax = 64 * 1024 * 1024;
constexpr std::size_t kUnwrittenPerInFlight = 4;
constexpr std::size_t kTargetsPerLoad = 64;
constexpr TimeMs kLaneIdleMs = 60'000;
constexpr milliseconds kPollInterval{500};
constexpr milliseconds kSweepInterval{10'000};
constexpr milliseconds kBackoffMin{100};
constexpr milliseconds kBackoffMax{5'000};
constexpr milliseconds kRefusedLoadPause{10'000};  // of a webhook that cannot be read until somebody mends it
constexpr milliseconds kAbortWait{2'000};
constexpr milliseconds kFinalFlushWait{5'000};

}  // namespace

struct Dispatcher::Impl : std::enable_shared_from_this<Impl> {
    asio::any_io_executor executor;
    DbExecutor& db;
    const DispatcherOptions options;
    DispatcherCounters counters;
    std::shared_ptr<MemoryQuota> quota;  // shared with the DB thread
    std::unique_ptr<HttpClient> http;    // null once the dispatcher is gone

    // Before a lane is recovered its deliveries in flight are its last owner's: none of ours may be among them.
    std::shared_ptr<ReadyLanes> ready = std::make_shared<ReadyLanes>();  // shared with the DB thread

    // Of the event loop alone.
    OwnedPartsPtr owned;
    Lanes lanes;
    std::vector<std::string> loading;                                 // webhooks whose target is to be read
    std::multimap<steady_clock::time_point, std::string> load_again;  // those that could not be, by when to ask
    std::vector<AttemptRecord> results;
    std::shared_ptr<ResultBatch> writing = std::make_shared<ResultBatch>();
    std::minstd_rand random{std::random_device{}()};
    WakeSignal store_signal, load_signal, recover_signal, stop_signal;
    steady_clock::time_point next_poll = steady_clock::now();
    bool is_running = false;
    bool is_stopping = false;
    bool is_final = false;  // nothing will be added to the results any more
    bool is_pump_posted = false;
    bool may_be_hungry = false;  // ingest left deliveries in the store

    Impl(asio::any_io_executor executor, DbExecutor& db, DispatcherOptions options)
        : executor(executor),
          db(db),
          options(std::move(options)),
          quota(std::make_shared<MemoryQuota>(
              kHeldPerInFlight * static_cast<std::size_t>(std::max(this->options.max_in_flight, 1)), kHeldBytesMax)),
          http(std::make_unique<HttpClient>(executor, TargetGuard(this->options.guard), this->options.http)),
          lanes(std::max(this->options.max_in_flight, 1)),
          store_signal(executor),
          load_signal(executor),
          recover_signal(executor),
          stop_signal(executor) {
        follow(this->options.owned);
    }

    // ---- whose lanes ------------------------------------------------------------------------

    void follow(OwnedPartsPtr now_owned) {
        owned = std::move(now_owned);
        ready->follow(owned);
        for (Lane* lane : lanes.all()) {
            if (!lane->queue.empty() && !is_held(lane->queue.front(), lane->part)) {
                for (const HeldDelivery& delivery : lanes.drain(*lane)) {
                    let_go(delivery, lane->webhook_id, lane->part);
                }
            }
        }
        recover_signal.wake();
        pump();
    }

    // Claimed by this instance, and its lane was held ever since.
    [[nodiscard]] bool is_held(const HeldDelivery& delivery, int part) const {
        return owned->lane_epochs[static_cast<std::size_t>(part)] == delivery.lane_epoch;
    }

    void let_go(const HeldDelivery& delivery, std::string_view webhook_id, int part) {
        const auto& leaving = owned->leaving_lanes;
        if (std::find(leaving.begin(), leaving.end(), part) != leaving.end()) {
            add_result(delivery, record_unsent(delivery, webhook_id, AttemptOutcome::kInterrupted, "interrupted",
                                               "another instance sends it", wall_clock_ms()));
            return;
        }
        quota->add_bytes(webhook_id, -bytes_of(delivery));
        quota->give_back(webhook_id);
    }

    [[nodiscard]] bool is_lane_in_use(int part) const {
        const auto is_of_part = [part](const AttemptRecord& record) { return lane_of(record.webhook_id) == part; };
        return lanes.is_part_in_use(part) || std::any_of(results.begin(), results.end(), is_of_part) ||
               std::any_of(writing->records.begin(), writing->records.end(), is_of_part);
    }

    asio::awaitable<void> recover_loop() {
        milliseconds backoff = kBackoffMin;
        while (!is_stopping) {
            RecoverLanes recover{ready, ready->unrecovered(), owned};
            if (recover.lanes.empty()) {
                co_await recover_signal.wait_until(steady_clock::time_point::max());
                continue;
            }
            const std::size_t lanes_asked = recover.lanes.size();
            auto recovered = co_await db.run(std::move(recover));
            if (recovered) {
                spdlog::info("delivery.recovered interrupted={} lanes={}", *recovered, lanes_asked);
                backoff = kBackoffMin;
                next_poll = steady_clock::now();
                store_signal.wake();
                continue;
            }
            spdlog::warn("delivery.recover_failed retry_ms={} error=\"{}\"", backoff.count(),
                         recovered.error().message);
            co_await recover_signal.wait_until(steady_clock::now() + backoff);
            backoff = std::min(backoff * 2, kBackoffMax);
        }
    }

    // ---- in ---------------------------------------------------------------------------------

    void accept(std::vector<ClaimedDelivery> claimed, bool has_waited) {
        std::unordered_map<const Event*, std::shared_ptr<EventBodies>> events;  // bodies are shared by webhooks
        for (ClaimedDelivery& delivery : claimed) {
            auto& event = events[delivery.event.get()];
            if (event == nullptr) {
                event = std::make_shared<EventBodies>(std::move(delivery.event));
            }
            HeldDelivery held{std::move(delivery.delivery_id),
                              event,
                              delivery.generation,
                              delivery.attempts,
                              has_waited,
                              delivery.lane_epoch};
            quota->add_bytes(delivery.webhook_id, bytes_of(held));
            if (const int part = lane_of(delivery.webhook_id); is_held(held, part)) {
                lanes.push(delivery.webhook_id, std::move(held));
            } else {
                let_go(held, delivery.webhook_id, part);  // the lane went while the transaction ran that claimed it
            }
        }
        if (is_stopping) {
            put_back_everything();
        } else {
            pump();
        }
    }

    // ---- out --------------------------------------------------------------------------------

    [[nodiscard]] std::size_t unwritten() const { return results.size() + writing->records.size(); }

    void pump() {
        const std::size_t unwritten_max =
            kUnwrittenPerInFlight * static_cast<std::size_t>(std::max(options.max_in_flight, 1));
        const TimeMs now = wall_clock_ms();
        const auto fresh = [now](const DeliveryTarget& target, const HeldDelivery& delivery) {
            return is_fresh(target, delivery, now);
        };
        while (!is_stopping && unwritten() < unwritten_max && owned->is_valid()) {
            Lanes::Start start = lanes.next(fresh, loading);
            if (start.lane == nullptr) {
                break;
            }
            send(*start.lane, std::move(start.delivery));
        }
        if (!loading.empty()) {
            load_signal.wake();
        }
        counters.in_flight = lanes.in_flight();
        counters.in_memory = static_cast<std::int64_t>(quota->held());
    }

    void post_pump() {
        if (!std::exchange(is_pump_posted, true)) {
            asio::post(executor, [self = shared_from_this()] {
                self->is_pump_posted = false;
                self->pump();
            });
        }
    }

    void send(Lane& lane, HeldDelivery delivery) {
        auto flight = std::make_shared<Flight>();
        flight->lane = &lane;
        flight->delivery = std::move(delivery);
        flight->target = lane.target;
        flight->started_at = wall_clock_ms();
        const Webhook& webhook = lane.target->webhook;
        EventBodies& event = *flight->delivery.event;
        HttpRequest request;
        request.url = webhook.url;
        request.body = event.get(webhook.payload_format, webhook.content_type);
        request.timeout_ms = webhook.timeout_ms;
        request.org_networks = lane.target->org_networks;
        DeliveryHeaders headers =
            build_delivery_headers({event.event(), webhook, lane.target->keys, flight->delivery.delivery_id,
                                    *request.body, options.user_agent, flight->started_at});
        request.headers = std::move(headers.lines);
        flight->request_headers = std::move(headers.redacted);
        failpoint("after_claim_before_send");
        http->submit(std::move(request), [self = shared_from_this(), flight](HttpResponse response) {
            self->complete(*flight, std::move(response));
        });
    }

    void complete(const Flight& flight, HttpResponse response) {
        if (http == nullptr) {
            return;
        }
        failpoint("after_send_before_record");
        const double place = static_cast<double>(random() - std::minstd_rand::min()) /
                             static_cast<double>(std::minstd_rand::max() - std::minstd_rand::min());
        AttemptRecord attempt = record_attempt(flight, std::move(response), wall_clock_ms(), place);
        const Event& event = flight.delivery.event->event();
        log_attempt(attempt, event);
        count_attempt(attempt, event, counters);
        const bool is_disabled = !attempt.disable_webhook_reason.empty();
        add_result(flight.delivery, std::move(attempt));
        lanes.finished(*flight.lane);
        if (is_disabled) {
            give_up_queue(*flight.lane, AttemptOutcome::kInterrupted, "webhook_disabled", "the webhook is disabled");
        }
        post_pump();
        stop_signal.wake();
    }

    void add_result(const HeldDelivery& delivery, AttemptRecord attempt) {
        quota->add_bytes(attempt.webhook_id, bytes_of(attempt) - bytes_of(delivery));
        results.push_back(std::move(attempt));
        store_signal.wake();
    }

    // What waits in the lane leaves memory unsent: kInterrupted puts it back into the store as it was.
    void give_up_queue(Lane& lane, AttemptOutcome outcome, std::string_view error_type, std::string_view reason) {
        const TimeMs now = wall_clock_ms();
        for (const HeldDelivery& delivery : lanes.drain(lane)) {
            add_result(delivery, record_unsent(delivery, lane.webhook_id, outcome, error_type, reason, now));
        }
        lane.target = nullptr;
    }

    void put_back_everything() {
        for (Lane* lane : lanes.all()) {
            give_up_queue(*lane, AttemptOutcome::kInterrupted, "interrupted", "headgate stopped before it was sent");
        }
    }

    // ---- the store --------------------------------------------------------------------------

    asio::awaitable<void> store_loop() {
        milliseconds backoff = kBackoffMin;
        auto next_sweep = steady_clock::now() + kSweepInterval;
        for (;;) {
            const bool has_results = !results.empty() || !writing->records.empty();
            const bool polls = !is_stopping && steady_clock::now() >= next_poll;
            if (!has_results && !polls && !(may_be_hungry && !is_stopping)) {
                if (is_final) {
                    co_return;
                }
                co_await store_signal.wait_until(next_poll);
                if (is_stopping) {
                    next_poll = steady_clock::time_point::max();
                }
                continue;
            }
            if (writing->records.empty()) {
                writing->records = std::exchange(results, {});
                writing->written = 0;
            }
            const bool has_final_failure =
                std::any_of(writing->records.begin(), writing->records.end(), [](const AttemptRecord& record) {
                    return record.outcome == AttemptOutcome::kDead || !record.disable_webhook_reason.empty();
                });
            StoreRound round{writing, quota, ready, StoreRound::Claim::kNo, wall_clock_ms()};
            if (!is_stopping) {
                round.claim = polls ? StoreRound::Claim::kYes : StoreRound::Claim::kIfHungry;
            }
            may_be_hungry = false;
            auto outcome = co_await db.run(std::move(round));
            if (writing->written == writing->records.size()) {
                writing->records.clear();
                writing->written = 0;
            }
            if (!outcome) {
                spdlog::warn("delivery.store_failed unwritten={} retry_ms={} error=\"{}\"", unwritten(),
                             backoff.count(), outcome.error().message);
                next_poll = steady_clock::now() + backoff;
                co_await pause(backoff);
                backoff = std::min(backoff * 2, kBackoffMax);
                continue;
            }
            backoff = kBackoffMin;
            if (outcome->late > 0) {
                counters.late += outcome->late;
                spdlog::warn("delivery.late results={} action=left_to_the_new_owner", outcome->late);
            }
            if (has_final_failure && options.on_final_failure) {
                options.on_final_failure();
            }
            if (outcome->has_looked) {
                next_poll = steady_clock::now() + until_next_look(outcome->next_due_at);
            }
            accept(std::move(outcome->claimed), true);
            if (steady_clock::now() >= next_sweep) {
                next_sweep = steady_clock::now() + kSweepInterval;
                lanes.forget_idle(wall_clock_ms() - kLaneIdleMs,
                                  [this](const std::string& webhook_id) { quota->forget(webhook_id); });
            }
        }
    }

    // What is due already but was not claimed waits for room: looking again at once would not find any.
    static milliseconds until_next_look(std::optional<TimeMs> next_due_at) {
        const TimeMs now = wall_clock_ms();
        if (!next_due_at || *next_due_at <= now) {
            return kPollInterval;
        }
        return std::min(kPollInterval, milliseconds(*next_due_at - now));
    }

    asio::awaitable<void> pause(milliseconds duration) {
        asio::steady_timer timer(executor, duration);
        boost::system::error_code ignored;
        co_await timer.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
    }

    asio::awaitable<void> load_loop() {
        for (;;) {
            resume_failed();
            if (loading.empty()) {
                if (is_stopping) {
                    co_return;
                }
                co_await load_signal.wait_until(load_again.empty() ? steady_clock::time_point::max()
                                                                   : load_again.begin()->first);
                continue;
            }
            const auto end = loading.size() > kTargetsPerLoad ? loading.begin() + kTargetsPerLoad : loading.end();
            LoadTargets load{{std::make_move_iterator(loading.begin()), std::make_move_iterator(end)}};
            loading.erase(loading.begin(), end);
            const std::vector<std::string> asked = load.webhook_ids;
            auto loaded = co_await db.run(std::move(load));
            if (!loaded) {
                loaded = every_one_failed(asked, loaded.error());
            }
            for (const auto& [webhook_id, target] : *loaded) {
                if (Lane* lane = lanes.find(webhook_id); lane != nullptr && !apply_target(*lane, target)) {
                    const bool may_pass = error_traits(target.error().code).retryable;
                    load_again.emplace(steady_clock::now() + (may_pass ? kBackoffMin : kRefusedLoadPause), webhook_id);
                }
            }
            pump();
        }
    }

    // Each lane pauses by itself: one webhook that cannot be read holds back no other.
    void resume_failed() {
        const auto end = load_again.upper_bound(steady_clock::now());
        if (end == load_again.begin()) {
            return;
        }
        for (auto entry = load_again.begin(); entry != end; ++entry) {
            if (Lane* lane = lanes.find(entry->second)) {
                lanes.loading_failed(*lane);
            }
        }
        load_again.erase(load_again.begin(), end);
        pump();
    }

    // False: it could not be read; ask again, later.
    bool apply_target(Lane& lane, const Result<Store::Target>& found) {
        if (!found && found.error().code != ErrorCode::kNotFound) {
            spdlog::warn("delivery.target_failed webhook={} error=\"{}\"", lane.webhook_id, found.error().message);
            return false;
        }
        if (!found || found->is_deleted) {
            give_up_queue(lane, AttemptOutcome::kCancelled, "webhook_deleted", "the webhook was deleted");
        } else if (!found->webhook.is_active) {
            give_up_queue(lane, AttemptOutcome::kInterrupted, "webhook_disabled", "the webhook is disabled");
        } else if (found->org_suspended) {
            give_up_queue(lane, AttemptOutcome::kInterrupted, "organization_suspended",
                          "the organization is suspended");
        } else {
            auto target = make_delivery_target(*found, wall_clock_ms());
            quota->set_max_in_flight(lane.webhook_id, target->webhook.max_in_flight);
            lanes.set_target(lane, std::move(target));
            return true;
        }
        lanes.set_target(lane, nullptr);
        return true;
    }

    asio::awaitable<void> run() {
        is_running = true;
        asio::co_spawn(executor, keep_recovering(shared_from_this()), asio::detached);
        asio::co_spawn(executor, keep_loading(shared_from_this()), asio::detached);
        co_await store_loop();
        is_running = false;
        stop_signal.wake();
    }

    static asio::awaitable<void> keep_loading(std::shared_ptr<Impl> self) { co_await self->load_loop(); }
    static asio::awaitable<void> keep_recovering(std::shared_ptr<Impl> self) { co_await self->recover_loop(); }
    static asio::awaitable<void> keep_running(std::shared_ptr<Impl> self) { co_await self->run(); }

    static asio::awaitable<void> stop(std::shared_ptr<Impl> self, milliseconds grace) {
        self->is_stopping = true;
        self->load_signal.wake();
        self->recover_signal.wake();
        self->put_back_everything();
        co_await self->wait_for_idle(steady_clock::now() + grace);
        self->http->abort_all();
        co_await self->wait_for_idle(steady_clock::now() + kAbortWait);
        self->put_back_everything();
        self->is_final = true;
        self->store_signal.wake();
        const auto deadline = steady_clock::now() + kFinalFlushWait;
        while (self->is_running && steady_clock::now() < deadline) {
            co_await self->stop_signal.wait_until(deadline);
        }
        spdlog::info("delivery.stopped in_flight={} unwritten={}", self->lanes.in_flight(), self->unwritten());
    }

    asio::awaitable<void> wait_for_idle(steady_clock::time_point deadline) {
        while (lanes.in_flight() > 0 && steady_clock::now() < deadline) {
            co_await stop_signal.wait_until(deadline);
        }
    }
};

Dispatcher::Dispatcher(asio::any_io_executor executor, DbExecutor& db, DispatcherOptions options)
    : impl_(std::make_shared<Impl>(std::move(executor), db, std::move(options))) {}

// Requests in flight hold the Impl: they are ended here, and whatever the loop still runs of them does nothing.
Dispatcher::~Dispatcher() {
    impl_->is_stopping = true;
    auto http = std::move(impl_->http);
    http.reset();
}

bool Dispatcher::reserve(std::string_view webhook_id) {
    return impl_->ready->is_ready(webhook_id) && impl_->quota->reserve(webhook_id);
}

void Dispatcher::release(std::string_view webhook_id) { impl_->quota->give_back(webhook_id); }

void Dispatcher::accept(std::vector<ClaimedDelivery> claimed, std::size_t unclaimed) {
    if (unclaimed > 0 && !impl_->is_stopping) {
        impl_->may_be_hungry = true;
        impl_->store_signal.wake();
    }
    impl_->accept(std::move(claimed), false);
}

asio::awaitable<void> Dispatcher::run() { return Impl::keep_running(impl_); }

asio::awaitable<void> Dispatcher::stop(milliseconds grace) { return Impl::stop(impl_, grace); }

void Dispatcher::follow(OwnedPartsPtr owned) { impl_->follow(std::move(owned)); }

bool Dispatcher::is_lane_in_use(int lane) const { return impl_->is_lane_in_use(lane); }

void Dispatcher::invalidate(std::string_view webhook_id) {
    asio::post(impl_->executor, [impl = impl_, id = std::string(webhook_id)] {
        if (Lane* lane = impl->lanes.find(id)) {
            lane->target = nullptr;
        }
    });
}

const DispatcherCounters& Dispatcher::counters() const { return impl_->counters; }

HttpClient& Dispatcher::http_client() { return *impl_->http; }

}  // namespace headgate
