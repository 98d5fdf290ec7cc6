// What ready_lanes.h declares.
#include "sidecar/deliver/ready_lanes.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "sidecar/base/wall_clock.h"
#include "sidecar/store/lane.h"

namespace headgate {

namespace {

// Longer than any take-over of a lane; whoever waited so long will not mind another minute.
constexpr TimeMs kOverdueMs = 60'000;
// A minute, and what writing the times of very many may take, while which none is sent.
constexpr TimeMs kSpreadMs = 75'000;

std::vector<int> differing(const std::vector<std::int64_t>& epochs, const std::vector<std::int64_t>& others) {
    std::vector<int> lanes;
    for (std::size_t lane = 0; lane < epochs.size(); ++lane) {
        if (epochs[lane] != others[lane]) {
            lanes.push_back(static_cast<int>(lane));
        }
    }
    return lanes;
}

}  // namespace

void ReadyLanes::follow(OwnedPartsPtr owned) {
    const std::lock_guard lock(mutex_);
    owned_ = std::move(owned);
    recovered_.resize(owned_->lane_epochs.size());
    spread_.resize(owned_->lane_epochs.size());
    for (std::size_t lane = 0; lane < recovered_.size(); ++lane) {
        if (recovered_[lane] != owned_->lane_epochs[lane]) {
            recovered_[lane] = spread_[lane] = 0;
        }
    }
}

std::vector<int> ReadyLanes::unrecovered() const {
    const std::lock_guard lock(mutex_);
    return differing(owned_->lane_epochs, recovered_);
}

std::vector<int> ReadyLanes::unspread() const {
    const std::lock_guard lock(mutex_);
    return differing(recovered_, spread_);
}

void ReadyLanes::recovered(const std::vector<int>& lanes, Epochs epochs) {
    const std::lock_guard lock(mutex_);
    for (const int part : lanes) {
        const auto lane = static_cast<std::size_t>(part);
        if (owned_->lane_epochs[lane] == epochs[lane]) {
            recovered_[lane] = epochs[lane];
        }
    }
}

void ReadyLanes::spread(const std::vector<int>& lanes, Epochs epochs) {
    const std::lock_guard lock(mutex_);
    for (const int part : lanes) {
        const auto lane = static_cast<std::size_t>(part);
        if (recovered_[lane] == epochs[lane]) {
            spread_[lane] = epochs[lane];
        }
    }
}

bool ReadyLanes::is_ready(std::string_view webhook_id) const {
    const std::lock_guard lock(mutex_);
    const auto lane = static_cast<std::size_t>(lane_of(webhook_id));
    return lane < recovered_.size() && recovered_[lane] != 0 && owned_->is_valid();
}

std::vector<std::int64_t> ReadyLanes::epochs() const {
    const std::lock_guard lock(mutex_);
    const bool has_any = std::any_of(spread_.begin(), spread_.end(), [](std::int64_t epoch) { return epoch != 0; });
    return has_any && owned_->is_valid() ? spread_ : std::vector<std::int64_t>();
}

Result<std::size_t> RecoverLanes::operator()(Store& store) const {
    auto recovered = store.recover_in_flight(lanes, owned->lane_epochs, wall_clock_ms());
    if (recovered) {
        ready->recovered(lanes, owned->lane_epochs);
    }
    return recovered;
}

std::shared_ptr<OverdueSpread> spread_of(std::vector<int> lanes, std::vector<std::int64_t> epochs) {
    auto spread = std::make_shared<OverdueSpread>();
    spread->lanes = std::move(lanes);
    spread->lane_epochs = std::move(epochs);
    spread->now = wall_clock_ms();
    spread->overdue_ms = kOverdueMs;
    spread->spread_ms = kSpreadMs;
    return spread;
}

Result<void> SpreadPart::operator()(Store& store) const {
    auto done = store.spread_overdue(*spread);
    if (!done) {
        return done;
    }
    ready->spread(std::exchange(spread->settled, {}), spread->lane_epochs);
    if (spread->is_done() && spread->spread > 0) {
        spdlog::info("delivery.overdue_spread deliveries={} over_ms={} took_ms={}", spread->spread, spread->spread_ms,
                     wall_clock_ms() - spread->now);
    }
    return done;
}

}  // namespace headgate
