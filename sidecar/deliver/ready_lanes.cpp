// What ready_lanes.h declares.
#include "sidecar/deliver/ready_lanes.h"

#include <spdlog/spdlog.h>

#include <algorithm>

#include "sidecar/base/wall_clock.h"
#include "sidecar/store/lane.h"

namespace headgate {

namespace {

// Longer than any take-over of a lane; whoever waited so long will not mind another minute.
constexpr TimeMs kOverdueMs = 5 * 60'000;
// A minute, and what writing the times of very many may take, while which none is sent.
constexpr TimeMs kSpreadMs = 75'000;

}  // namespace

void ReadyLanes::follow(OwnedPartsPtr owned) {
    const std::lock_guard lock(mutex_);
    owned_ = std::move(owned);
    ready_.resize(owned_->lane_epochs.size());
    for (std::size_t lane = 0; lane < ready_.size(); ++lane) {
        if (ready_[lane] != owned_->lane_epochs[lane]) {
            ready_[lane] = 0;
        }
    }
}

std::vector<int> ReadyLanes::unrecovered() const {
    const std::lock_guard lock(mutex_);
    std::vector<int> lanes;
    for (std::size_t lane = 0; lane < ready_.size(); ++lane) {
        if (owned_->lane_epochs[lane] != ready_[lane]) {
            lanes.push_back(static_cast<int>(lane));
        }
    }
    return lanes;
}

void ReadyLanes::recovered(const std::vector<int>& lanes, Epochs epochs) {
    const std::lock_guard lock(mutex_);
    for (const int part : lanes) {
        const auto lane = static_cast<std::size_t>(part);
        if (owned_->lane_epochs[lane] == epochs[lane]) {
            ready_[lane] = epochs[lane];
        }
    }
}

bool ReadyLanes::is_ready(std::string_view webhook_id) const {
    const std::lock_guard lock(mutex_);
    const auto lane = static_cast<std::size_t>(lane_of(webhook_id));
    return lane < ready_.size() && ready_[lane] != 0 && owned_->is_valid();
}

std::vector<std::int64_t> ReadyLanes::epochs() const {
    const std::lock_guard lock(mutex_);
    const bool has_any = std::any_of(ready_.begin(), ready_.end(), [](std::int64_t epoch) { return epoch != 0; });
    return has_any && owned_->is_valid() ? ready_ : std::vector<std::int64_t>();
}

Result<std::size_t> RecoverLanes::operator()(Store& store) const {
    const TimeMs now = wall_clock_ms();
    auto recovered = store.recover_in_flight(lanes, owned->lane_epochs, now);
    if (!recovered) {
        return recovered;
    }
    auto spread = store.spread_overdue(lanes, owned->lane_epochs, now, kOverdueMs, kSpreadMs);
    if (!spread) {
        return spread;
    }
    if (*spread > 0) {
        spdlog::info("delivery.overdue_spread deliveries={} over_ms={}", *spread, kSpreadMs);
    }
    ready->recovered(lanes, owned->lane_epochs);
    return recovered;
}

Result<std::size_t> MendTimes::operator()(Store& store) const {
    const std::vector<std::int64_t> epochs = ready->epochs();
    std::vector<int> lanes;
    for (std::size_t lane = 0; lane < epochs.size(); ++lane) {
        if (epochs[lane] != 0) {
            lanes.push_back(static_cast<int>(lane));
        }
    }
    if (lanes.empty()) {
        return std::size_t{0};
    }
    return store.spread_overdue(lanes, epochs, wall_clock_ms(), kOverdueMs, kSpreadMs);
}

}  // namespace headgate
