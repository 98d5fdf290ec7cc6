// Lanes whose gate is closed wait for it to open; when that takes long, what they hold goes back into the store, and
// nothing of theirs is claimed meanwhile.
#include "sidecar/base/open_files.h"
#include "sidecar/deliver/dispatcher_impl.h"

namespace headgate {

namespace {

// For less than this the memory is kept: putting a delivery back costs a write.
constexpr TimeMs kHeldBackAfterMs = 1'000;
// A changed webhook's gate opens at once, and a lane that sends nothing would not learn of the change otherwise.
constexpr milliseconds kReadAgainInterval{10'000};
constexpr milliseconds kToldAgainInterval{60'000};

std::string_view reason_of(BreakerState state) noexcept {
    return state == BreakerState::kClosed ? "throttled" : "circuit_open";
}

}  // namespace

TimeMs Dispatcher::Impl::gate_now_ms() {
    return std::chrono::duration_cast<milliseconds>(steady_clock::now().time_since_epoch()).count();
}

void Dispatcher::Impl::settle_gate(Lane& lane) {
    const TimeMs now = gate_now_ms();
    const TimeMs free_at = lane.gate.free_at(now);
    const TimeMs waits_until = free_at > now ? free_at : 0;
    if (lane.waits_until != waits_until || waits_until == 0) {
        lanes.wait(lane, waits_until);
        gate_signal.wake();
    }
    const bool was_held_back = std::exchange(lane.is_held_back, free_at - now > kHeldBackAfterMs);
    const int worth_holding = lane.is_held_back ? 0 : lane.gate.worth_holding(now);
    if (worth_holding != lane.worth_holding || was_held_back != lane.is_held_back) {
        lane.worth_holding = worth_holding;
        quota->set_worth_holding(lane.webhook_id, worth_holding);
    }
    if (!lane.is_held_back) {
        if (was_held_back) {
            may_be_hungry = true;
            store_signal.wake();
        }
        return;
    }
    if (!was_held_back) {
        spdlog::info("delivery.held_back webhook={} reason={} ms={}", lane.webhook_id,
                     reason_of(lane.gate.breaker(now)), free_at - now);
    }
    drain(lane, AttemptOutcome::kInterrupted, reason_of(lane.gate.breaker(now)),
          "the webhook's requests are held back for a while");
}

void Dispatcher::Impl::met(LocalFault fault, Lane& lane) {
    const TimeMs now = gate_now_ms();
    lane.gate.postpone(now + Shortage::kPauseMs);
    const bool lacks_socket = fault == LocalFault::kNoSocket;
    if (lacks_socket) {
        shortage.met(lanes.in_flight(), now);
    }
    if (steady_clock::now() < shortage_told + kToldAgainInterval) {
        return;
    }
    shortage_told = steady_clock::now();
    if (lacks_socket) {
        spdlog::warn(
            "delivery.no_sockets in_flight={} open_files_max={} action=\"raise LimitNOFILE of the service, or lower "
            "delivery.max_in_flight\"",
            lanes.in_flight(), open_files_max());
    } else {
        spdlog::warn(
            "delivery.look_ups_exhausted webhook={} action=\"look at the resolver, and at webhooks that time out\"",
            lane.webhook_id);
    }
}

void Dispatcher::Impl::read_held_back_again() {
    for (Lane* lane : lanes.all()) {
        if (lane->is_held_back && !lane->is_loading) {
            lane->is_loading = true;
            loading.push_back(lane->webhook_id);
        }
    }
    if (!loading.empty()) {
        load_signal.wake();
    }
}

asio::awaitable<void> Dispatcher::Impl::gate_loop() {
    auto read_again_at = steady_clock::now() + kReadAgainInterval;
    while (!is_stopping) {
        for (Lane* lane : lanes.waited(gate_now_ms())) {
            settle_gate(*lane);
        }
        pump();
        const auto now = steady_clock::now();
        if (now >= read_again_at) {
            read_again_at = now + kReadAgainInterval;
            read_held_back_again();
        }
        auto wake_at = read_again_at;
        if (const auto next = lanes.next_wait()) {
            wake_at = std::min(wake_at, steady_clock::time_point(milliseconds(*next)));
        }
        co_await gate_signal.wait_until(wake_at);
    }
}

BreakerCounts Dispatcher::breaker_counts() const {
    BreakerCounts counts;
    const TimeMs now = Impl::gate_now_ms();
    for (const Lane* lane : impl_->lanes.all()) {
        if (impl_->owned->lane_epochs[static_cast<std::size_t>(lane->part)] == 0) {
            continue;
        }
        switch (lane->gate.breaker(now)) {
            case BreakerState::kClosed:
                ++counts.closed;
                break;
            case BreakerState::kOpen:
                ++counts.open;
                break;
            case BreakerState::kHalfOpen:
                ++counts.half_open;
                break;
        }
    }
    return counts;
}

std::vector<std::string> Dispatcher::held_back() const {
    std::vector<std::string> webhook_ids;
    const TimeMs now = Impl::gate_now_ms();
    for (const Lane* lane : impl_->lanes.all()) {
        const bool is_full = lane->target != nullptr && lane->in_flight >= lane->gate.limit(now);
        if (is_full || lane->waits_until != 0 || lane->gate.breaker(now) != BreakerState::kClosed) {
            webhook_ids.push_back(lane->webhook_id);
        }
    }
    return webhook_ids;
}

}  // namespace headgate
