// The queues of lanes.h.
#include "sidecar/deliver/lanes.h"

#include <algorithm>
#include <utility>

#include "sidecar/store/lane.h"

namespace headgate {

void Lanes::take_turn(Lane& lane) {
    if (!lane.is_in_turn && !lane.is_loading && !lane.queue.empty()) {
        lane.is_in_turn = true;
        turns_.push_back(&lane);
    }
}

void Lanes::gained(int part, TimeMs now) {
    gained_at_[static_cast<std::size_t>(part)] = now;
    for (auto& [webhook_id, lane] : lanes_) {
        if (lane->part == part) {
            lane->gate.was_anothers(now);
        }
    }
}

void Lanes::push(std::string_view webhook_id, HeldDelivery delivery) {
    Lane* lane = find(webhook_id);
    if (lane == nullptr) {
        auto made = std::make_unique<Lane>();
        made->webhook_id = webhook_id;
        made->part = lane_of(webhook_id);
        made->gate.was_anothers(gained_at_[static_cast<std::size_t>(made->part)]);
        lane = lanes_.emplace(made->webhook_id, std::move(made)).first->second.get();
    }
    lane->queue.push_back(std::move(delivery));
    take_turn(*lane);
}

void Lanes::finished(Lane& lane) {
    --lane.in_flight;
    --in_flight_;
    take_turn(lane);
}

void Lanes::set_target(Lane& lane, std::shared_ptr<const DeliveryTarget> target) {
    lane.target = std::move(target);
    lane.is_loading = false;
    if (lane.target != nullptr) {
        lane.gate.configure(lane.target->webhook);
    }
    take_turn(lane);
}

void Lanes::loading_failed(Lane& lane) {
    lane.is_loading = false;
    take_turn(lane);
}

void Lanes::wait(Lane& lane, TimeMs until) {
    if (lane.waits_until != 0) {
        waiting_.erase({lane.waits_until, &lane});
    }
    lane.waits_until = until;
    if (until != 0) {
        waiting_.emplace(until, &lane);
    } else {
        take_turn(lane);
    }
}

std::optional<TimeMs> Lanes::next_wait() const {
    return waiting_.empty() ? std::nullopt : std::optional(waiting_.begin()->first);
}

std::vector<Lane*> Lanes::waited(TimeMs now) {
    std::vector<Lane*> lanes;
    while (!waiting_.empty() && waiting_.begin()->first <= now) {
        lanes.push_back(waiting_.begin()->second);
        lanes.back()->waits_until = 0;
        waiting_.erase(waiting_.begin());
    }
    return lanes;
}

std::deque<HeldDelivery> Lanes::drain(Lane& lane) { return std::exchange(lane.queue, {}); }

Lane* Lanes::find(std::string_view webhook_id) {
    const auto found = lanes_.find(webhook_id);
    return found == lanes_.end() ? nullptr : found->second.get();
}

void Lanes::forget_idle(TimeMs before, TimeMs now, const std::function<void(const std::string&)>& forgotten) {
    std::erase_if(lanes_, [&](const auto& entry) {
        const Lane& lane = *entry.second;
        const bool is_idle = lane.queue.empty() && lane.in_flight == 0 && !lane.is_loading && !lane.is_in_turn &&
                             lane.waits_until == 0 && lane.gate.is_at_rest(now) &&
                             (lane.target == nullptr || lane.target->loaded_at < before);
        if (is_idle) {
            forgotten(entry.first);
        }
        return is_idle;
    });
}

std::vector<Lane*> Lanes::all() {
    std::vector<Lane*> lanes;
    lanes.reserve(lanes_.size());
    for (const auto& [webhook_id, lane] : lanes_) {
        lanes.push_back(lane.get());
    }
    return lanes;
}

bool Lanes::is_part_in_use(int part) const {
    return std::any_of(lanes_.begin(), lanes_.end(), [part](const auto& entry) {
        const Lane& lane = *entry.second;
        return lane.part == part && (!lane.queue.empty() || lane.in_flight > 0);
    });
}

}  // namespace headgate
