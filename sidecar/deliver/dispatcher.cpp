// Drives the deliveries held in memory: coroutines and callbacks on the event loop.
//   accept()    deliveries come in, from ingest or from a claim, and take their place in a lane
//   pump()      starts requests while a lane may
//   complete()  a request has ended: its attempt joins the results
// The other parts are named in dispatcher_impl.h.
#include "sidecar/deliver/dispatcher.h"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/post.hpp>
#include <unordered_map>

#include "sidecar/base/failpoint.h"
#include "sidecar/deliver/dispatcher_impl.h"
#include "sidecar/deliver/retry_policy.h"
#include "sidecar/deliver/target_load.h"
#include "sidecar/store/lane.h"

namespace headgate {

namespace {

constexpr std::size_t kHeldPerInFlight = 8;  // deliveries in memory for each request that may be in flight
constexpr std::size_t kHeldBytesMax = 64 * 1024 * 1024;
constexpr milliseconds kAbortWait{2'000};
constexpr milliseconds kFinalFlushWait{5'000};

// What a request's end says to the lane's gate.
LaneGate::End gate_end(const HttpResponse& response) {
    LaneGate::End end;
    end.status = response.status;
    end.has_failed = response.failure != HttpFailure::kNone;
    end.is_unknown = response.failure == HttpFailure::kInterrupted ||
                     response.failure == HttpFailure::kBlockedAddress ||
                     response.failure == HttpFailure::kResponseTooLarge;
    if (!end.has_failed) {
        end.retry_after_ms = parse_retry_after_ms(find_header(response.headers, "retry-after"), wall_clock_ms());
    }
    return end;
}

}  // namespace

Dispatcher::Impl::Impl(asio::any_io_executor executor_in, DbExecutor& db_in, DispatcherOptions options_in)
    : executor(std::move(executor_in)),
      db(db_in),
      options(std::move(options_in)),
      quota(std::make_shared<MemoryQuota>(
          kHeldPerInFlight * static_cast<std::size_t>(std::max(options.max_in_flight, 1)), kHeldBytesMax)),
      http(std::make_unique<HttpClient>(executor, TargetGuard(options.guard), options.http)),
      lanes(std::max(options.max_in_flight, 1)),
      store_signal(executor),
      load_signal(executor),
      recover_signal(executor),
      gate_signal(executor),
      stop_signal(executor) {
    follow(options.owned);
}

// ---- in -------------------------------------------------------------------------------------

void Dispatcher::Impl::accept(std::vector<ClaimedDelivery> claimed, bool has_waited) {
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
                          delivery.lane_epoch,
                          delivery.row};
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

// ---- out ------------------------------------------------------------------------------------

void Dispatcher::Impl::pump() {
    const std::size_t unwritten_max = kUnwrittenPerInFlight * static_cast<std::size_t>(lanes.max_in_flight());
    const TimeMs now = wall_clock_ms();
    const auto fresh = [now](const DeliveryTarget& target, const HeldDelivery& delivery) {
        return is_fresh(target, delivery, now);
    };
    std::vector<Lane*> closed;
    while (!is_stopping && unwritten() < unwritten_max && owned->is_valid()) {
        Lanes::Start start = lanes.next(gate_now_ms(), fresh, loading, closed);
        if (start.lane == nullptr) {
            break;
        }
        send(std::move(start));
    }
    for (Lane* lane : closed) {
        settle_gate(*lane);
    }
    if (!loading.empty()) {
        load_signal.wake();
    }
    counters.in_flight = lanes.in_flight();
    counters.in_memory = static_cast<std::int64_t>(quota->held());
}

void Dispatcher::Impl::post_pump() {
    if (!std::exchange(is_pump_posted, true)) {
        asio::post(executor, [self = shared_from_this()] {
            self->is_pump_posted = false;
            self->pump();
        });
    }
}

void Dispatcher::Impl::send(Lanes::Start start) {
    Lane& lane = *start.lane;
    auto body = start.delivery.event->get(lane.target->body);
    if (!body) {
        fail_unsent(start, body.error().message);
        return;
    }
    auto flight = std::make_shared<Flight>();
    flight->lane = &lane;
    flight->delivery = std::move(start.delivery);
    flight->target = lane.target;
    flight->ticket = start.ticket;
    flight->started_at = wall_clock_ms();
    const Webhook& webhook = lane.target->webhook;
    EventBodies& event = *flight->delivery.event;
    HttpRequest request;
    request.url = webhook.url;
    request.body = std::move(*body);
    request.timeout_ms = webhook.timeout_ms;
    request.org_networks = lane.target->org_networks;
    DeliveryHeaders headers =
        build_delivery_headers({event.event(), webhook, lane.target->keys, flight->delivery.delivery_id, *request.body,
                                options.user_agent, flight->started_at, spans()});
    request.headers = std::move(headers.lines);
    flight->request_headers = std::move(headers.redacted);
    failpoint("after_claim_before_send");
    http->submit(std::move(request), [self = shared_from_this(), flight](HttpResponse response) {
        self->complete(*flight, std::move(response));
    });
}

void Dispatcher::Impl::fail_unsent(const Lanes::Start& start, std::string_view reason) {
    Lane& lane = *start.lane;
    const Event& event = start.delivery.event->event();
    AttemptRecord attempt = record_unsent(start.delivery, lane.webhook_id, AttemptOutcome::kDead, "template_failed",
                                          reason, wall_clock_ms());
    log_attempt(attempt, event);
    count_attempt(attempt, event, counters);
    add_result(start.delivery, std::move(attempt));
    LaneGate::End not_asked;
    not_asked.is_unknown = true;
    lane.gate.ended(start.ticket, not_asked, gate_now_ms());
    lanes.finished(lane);
    settle_gate(lane);
    stop_signal.wake();
}

void Dispatcher::Impl::complete(const Flight& flight, HttpResponse response) {
    if (http == nullptr) {
        return;
    }
    failpoint("after_send_before_record");
    const double place = static_cast<double>(random() - std::minstd_rand::min()) /
                         static_cast<double>(std::minstd_rand::max() - std::minstd_rand::min());
    const LaneGate::End end = gate_end(response);
    AttemptRecord attempt = record_attempt(flight, std::move(response), wall_clock_ms(), place);
    const Event& event = flight.delivery.event->event();
    log_attempt(attempt, event);
    count_attempt(attempt, event, counters);
    const bool is_disabled = !attempt.disable_webhook_reason.empty();
    add_result(flight.delivery, std::move(attempt));
    flight.lane->gate.ended(flight.ticket, end, gate_now_ms());
    lanes.finished(*flight.lane);
    settle_gate(*flight.lane);
    if (is_disabled) {
        give_up_queue(*flight.lane, AttemptOutcome::kInterrupted, "webhook_disabled", "the webhook is disabled");
    }
    post_pump();
    stop_signal.wake();
}

void Dispatcher::Impl::add_result(const HeldDelivery& delivery, AttemptRecord attempt) {
    quota->give_back(attempt.webhook_id, bytes_of(attempt) - bytes_of(delivery));
    keep_result(std::move(attempt), !delivery.event->event().ordering_key.empty());
}

void Dispatcher::Impl::drain(Lane& lane, AttemptOutcome outcome, std::string_view error_type, std::string_view reason) {
    const TimeMs now = wall_clock_ms();
    for (const HeldDelivery& delivery : lanes.drain(lane)) {
        add_result(delivery, record_unsent(delivery, lane.webhook_id, outcome, error_type, reason, now));
    }
}

void Dispatcher::Impl::give_up_queue(Lane& lane, AttemptOutcome outcome, std::string_view error_type,
                                     std::string_view reason) {
    drain(lane, outcome, error_type, reason);
    lane.target = nullptr;
}

void Dispatcher::Impl::put_back_everything() {
    for (Lane* lane : lanes.all()) {
        give_up_queue(*lane, AttemptOutcome::kInterrupted, "interrupted", "headgate stopped before it was sent");
    }
}

// ---- start and stop -------------------------------------------------------------------------

asio::awaitable<void> Dispatcher::Impl::run() {
    is_running = true;
    asio::co_spawn(executor, keep_recovering(shared_from_this()), asio::detached);
    asio::co_spawn(executor, keep_loading(shared_from_this()), asio::detached);
    asio::co_spawn(executor, keep_waiting(shared_from_this()), asio::detached);
    co_await store_loop();
    is_running = false;
    stop_signal.wake();
}

asio::awaitable<void> Dispatcher::Impl::stop(std::shared_ptr<Impl> self, milliseconds grace) {
    self->is_stopping = true;
    self->load_signal.wake();
    self->recover_signal.wake();
    self->gate_signal.wake();
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

asio::awaitable<void> Dispatcher::Impl::wait_for_idle(steady_clock::time_point deadline) {
    while (lanes.in_flight() > 0 && steady_clock::now() < deadline) {
        co_await stop_signal.wait_until(deadline);
    }
}

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

void Dispatcher::look() {
    if (!impl_->is_stopping && impl_->counters.refused_since_ms == 0) {
        impl_->next_poll = steady_clock::now();
        impl_->store_signal.wake();
    }
}

bool Dispatcher::is_lane_in_use(int lane) const { return impl_->is_lane_in_use(lane); }

void Dispatcher::invalidate(std::string_view webhook_id) {
    asio::post(impl_->executor, [impl = impl_, id = std::string(webhook_id)] {
        if (Lane* lane = impl->lanes.find(id)) {
            lane->target = nullptr;
            if (lane->is_held_back && !lane->is_loading) {
                lane->is_loading = true;  // it may send at once after the change
                impl->loading.push_back(id);
                impl->load_signal.wake();
            }
        }
    });
}

const DispatcherCounters& Dispatcher::counters() const { return impl_->counters; }

HttpClient& Dispatcher::http_client() { return *impl_->http; }

}  // namespace headgate
