// How far the spreading of overdue deliveries is: what Store::spread_overdue() takes along from part to part, so that a
// million of them neither hold back who else wants the store nor have to be in memory. It is forgotten when the process
// ends: what has been spread is no longer overdue, and the next owner counts the rest.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "sidecar/store/rows.h"

namespace headgate {

struct OverdueSpread {
    // What is asked for: of these lanes, at these epochs (by lane).
    std::vector<int> lanes;
    std::vector<std::int64_t> lane_epochs;
    TimeMs now = 0, overdue_ms = 0, spread_ms = 0;
    std::size_t part_max = 2000;  // deliveries that one call looks at

    // What came of it so far.
    std::vector<int> settled;  // lanes of which nothing is to be spread any more; whoever has seen them takes them out
    std::size_t spread = 0, mended = 0;
    [[nodiscard]] bool is_done() const noexcept { return step_ == Step::kDone; }

    // -- of the stores: which webhooks have any, how many each, their new times; then the times ahead of each webhook.
    enum class Step : std::uint8_t { kLook, kCount, kSpread, kMend, kDone };
    struct Share {
        std::string webhook_id;
        int lane = 0;
        std::int64_t overdue = 0;
    };
    // Where in a webhook's deliveries, by (due_at, id or row).
    struct Place {
        std::size_t index = 0;  // which share, or which webhook
        std::int64_t passed = 0;
        TimeMs due_at = 0;
        std::string id{};
        std::int64_t row = 0;
    };

    [[nodiscard]] Step step() const noexcept { return step_; }
    [[nodiscard]] const std::vector<Share>& shares() const noexcept { return shares_; }
    [[nodiscard]] const std::vector<std::string>& webhooks() const noexcept { return webhooks_; }
    [[nodiscard]] const Place& place() const noexcept { return place_; }
    [[nodiscard]] bool wants_lane(int lane) const;
    // `webhooks`: all of these lanes that have anything waiting. `shares`: those with anything overdue, not counted
    // yet.
    void looked(std::vector<std::string> webhooks, std::vector<Share> shares);
    // How many a count looks at in one call: it reads the index only.
    [[nodiscard]] std::size_t count_max() const noexcept { return part_max * 25; }
    // The new time of a share's next delivery but `passed`. Each webhook's are even by themselves, in their order, and
    // those of many webhooks with few each do not begin together.
    [[nodiscard]] TimeMs time_of(std::size_t share, std::int64_t passed) const;
    void counted(std::size_t share, std::int64_t more) { shares_[share].overdue += more; }
    // A part is written: go on from here. Called after its commit.
    void went_on(Place place, std::size_t changed);

 private:
    void settle_up_to(std::size_t share);

    Step step_ = Step::kLook;
    std::vector<Share> shares_;  // by lane
    std::vector<std::string> webhooks_;
    Place place_;
};

}  // namespace headgate
