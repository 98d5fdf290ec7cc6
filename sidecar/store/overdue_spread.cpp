// See overdue_spread.h.
#include "sidecar/store/overdue_spread.h"

#include <algorithm>
#include <tuple>

namespace headgate {

bool OverdueSpread::wants_lane(int lane) const { return std::find(lanes.begin(), lanes.end(), lane) != lanes.end(); }

void OverdueSpread::looked(std::vector<std::string> webhooks, std::vector<Share> shares) {
    webhooks_ = std::move(webhooks);
    shares_ = std::move(shares);
    std::sort(shares_.begin(), shares_.end(), [](const Share& a, const Share& b) {
        return std::tie(a.lane, a.webhook_id) < std::tie(b.lane, b.webhook_id);
    });
    for (int lane : lanes) {
        if (std::none_of(shares_.begin(), shares_.end(), [lane](const Share& share) { return share.lane == lane; })) {
            settled.push_back(lane);
        }
    }
    step_ = Step::kCount;
    went_on({}, 0);
}

TimeMs OverdueSpread::time_of(std::size_t share, std::int64_t passed) const {
    const std::int64_t overdue = std::max<std::int64_t>(shares_[share].overdue, 1);
    const auto all = static_cast<std::int64_t>(shares_.size());
    const std::int64_t index = std::min(passed, overdue - 1);
    return now + spread_ms * (index * all + static_cast<std::int64_t>(share)) / (overdue * all);
}

void OverdueSpread::went_on(Place place, std::size_t changed) {
    if (step_ == Step::kCount && place.index == shares_.size()) {
        step_ = Step::kSpread;
        place = {};
    } else if (step_ == Step::kSpread) {
        spread += changed;
        settle_up_to(place.index);
    } else if (step_ == Step::kMend) {
        mended += changed;
    }
    if (step_ == Step::kSpread && place.index == shares_.size()) {
        step_ = Step::kMend;
        place = {};
    }
    if (step_ == Step::kMend && place.index == webhooks_.size()) {
        step_ = Step::kDone;
    }
    place_ = std::move(place);
}

// From the present one on: those of each lane come together.
void OverdueSpread::settle_up_to(std::size_t share) {
    for (std::size_t i = place_.index; i < share; i++) {
        if (i + 1 == shares_.size() || shares_[i + 1].lane != shares_[i].lane) settled.push_back(shares_[i].lane);
    }
}

}  // namespace headgate
