// The deliveries held in memory, one queue for each webhook, and whose turn it is. Event loop only;
// no I/O and no clock. Input: accept() of the dispatcher; output: next(). Next file: dispatcher.cpp.
//
// A webhook's rate, its throttle and its circuit breaker are reasons for next() to pass over a lane (lane_gate.h).
// Ordering is none: of an ordering key the store gives out one delivery at a time.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "sidecar/deliver/body.h"
#include "sidecar/deliver/delivery_headers.h"
#include "sidecar/deliver/lane_gate.h"
#include "sidecar/deliver/memory_quota.h"
#include "sidecar/store/lane.h"
#include "sidecar/store/store.h"

namespace headgate {

// A webhook as it was read from the store, made ready for sending.
struct DeliveryTarget {
    Webhook webhook;
    SigningKeys keys;
    BodyForm body;
    std::shared_ptr<const std::vector<std::string>> org_networks;
    std::int64_t generation = 0;
    TimeMs loaded_at = 0;
};

struct HeldDelivery {
    std::string delivery_id;
    std::shared_ptr<EventBodies> event;
    std::int64_t generation = 0;
    int attempts = 0;
    bool has_waited = false;      // in the store, so that its webhook may have changed since it was matched
    std::int64_t lane_epoch = 0;  // of the claim
    std::int64_t row = 0;         // as in ClaimedDelivery
};

struct Lane {
    std::string webhook_id;
    int part = 0;  // what is leased: lane_of(webhook_id)
    std::deque<HeldDelivery> queue;
    int in_flight = 0;
    std::shared_ptr<const DeliveryTarget> target;  // null: not known yet
    bool is_loading = false;                       // its target is being read; nothing is sent meanwhile
    bool is_in_turn = false;
    LaneGate gate;
    TimeMs waits_until = 0;     // of the gate's clock; 0 = it does not wait for a time
    bool is_held_back = false;  // until then, and that is long: what waits is in the store, not here
    int worth_holding = 0;      // as the quota was told; 0 = not yet
};

class Lanes {
 public:
    explicit Lanes(int max_in_flight) : max_in_flight_(max_in_flight), allowed_(max_in_flight) {}

    // The leased part is ours from `now` on, of the gates' clock; until then another instance may have sent for it.
    void gained(int part, TimeMs now);
    void push(std::string_view webhook_id, HeldDelivery delivery);
    struct Start {
        Lane* lane = nullptr;
        HeldDelivery delivery;
        LaneGate::Ticket ticket{};
    };
    // The next delivery to send, round robin over the webhooks that have one, or a null lane. A webhook
    // gets at most as many as its gate allows, and at most as many as are still free for everyone. Counts as
    // in flight until finished(). A lane whose target is not `fresh` for its next delivery is put to
    // `loading` and passed over until set_target(); one whose gate is closed is put to `closed`, and passed over until
    // somebody lets it wait(), and its time has come. `now` is the gates' clock.
    template <typename IsFresh>
    [[nodiscard]] Start next(TimeMs now, IsFresh is_fresh, std::vector<std::string>& loading,
                             std::vector<Lane*>& closed);
    void finished(Lane& lane);
    // A lane takes its turn again at this time; 0 = it need not wait.
    void wait(Lane& lane, TimeMs until);
    [[nodiscard]] std::optional<TimeMs> next_wait() const;
    // Those whose time has come, in no turn yet.
    [[nodiscard]] std::vector<Lane*> waited(TimeMs now);
    void set_target(Lane& lane, std::shared_ptr<const DeliveryTarget> target);
    // The target could not be read: the lane takes its turn, and asks, again.
    void loading_failed(Lane& lane);
    // Takes out everything that waits, to be put back or cancelled.
    [[nodiscard]] std::deque<HeldDelivery> drain(Lane& lane);

    [[nodiscard]] Lane* find(std::string_view webhook_id);
    // Forgets lanes that hold nothing, whose gate is at rest `now` and whose target was read before `before`; calls
    // forgotten(webhook_id).
    void forget_idle(TimeMs before, TimeMs now, const std::function<void(const std::string&)>& forgotten);
    [[nodiscard]] int in_flight() const noexcept { return in_flight_; }
    [[nodiscard]] int max_in_flight() const noexcept { return max_in_flight_; }
    // How many may be in flight for now, 0 to max_in_flight().
    void allow(int in_flight) noexcept { allowed_ = in_flight; }
    [[nodiscard]] std::vector<Lane*> all();
    // Does a webhook of this leased part have anything waiting or in flight?
    [[nodiscard]] bool is_part_in_use(int part) const;

 private:
    void take_turn(Lane& lane);

    const int max_in_flight_;
    int allowed_;
    int in_flight_ = 0;
    std::array<TimeMs, kLanes> gained_at_{};  // by part; 0 = never another's
    StringMap<std::unique_ptr<Lane>> lanes_;
    std::deque<Lane*> turns_;
    std::set<std::pair<TimeMs, Lane*>> waiting_;
};

template <typename IsFresh>
Lanes::Start Lanes::next(TimeMs now, IsFresh is_fresh, std::vector<std::string>& loading, std::vector<Lane*>& closed) {
    // One full round without a start means that no lane can start.
    for (std::size_t left = turns_.size(); left > 0 && in_flight_ < allowed_; --left) {
        Lane& lane = *turns_.front();
        turns_.pop_front();
        lane.is_in_turn = false;
        if (lane.queue.empty() || lane.is_loading) {
            continue;
        }
        if (lane.target == nullptr || !is_fresh(*lane.target, lane.queue.front())) {
            lane.is_loading = true;
            loading.push_back(lane.webhook_id);
            continue;
        }
        if (lane.gate.free_at(now) > now) {
            closed.push_back(&lane);
            continue;
        }
        if (lane.in_flight >= lane.gate.limit(now)) {
            continue;  // finished() gives it its turn again
        }
        if (lane.in_flight >= std::max(allowed_ - in_flight_, 1)) {
            take_turn(lane);
            continue;
        }
        Start start{&lane, std::move(lane.queue.front()), lane.gate.began(now)};
        lane.queue.pop_front();
        ++lane.in_flight;
        ++in_flight_;
        take_turn(lane);
        return start;
    }
    return {};
}

}  // namespace headgate
