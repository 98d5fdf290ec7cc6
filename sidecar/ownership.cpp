// The rounds of ownership.h.
#include "sidecar/ownership.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "sidecar/base/log.h"
#include "sidecar/base/wall_clock.h"

namespace headgate {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr milliseconds kRetryInterval{250};

// On the DB thread.
struct Round {
    OwnershipOptions options;
    LeaseKeeper::Idle released;
    bool is_leaving = false;
    Result<LeaseView> operator()(Store& store) const {
        return store.renew_leases({.owner = options.owner,
                                   .shards = options.shards,
                                   .lanes = options.lanes,
                                   .released_shards = released.shards,
                                   .released_lanes = released.lanes,
                                   .is_leaving = is_leaving,
                                   .now = wall_clock_ms()});
    }
};

std::ptrdiff_t count(const std::vector<std::int64_t>& epochs) {
    return std::count_if(epochs.begin(), epochs.end(), [](std::int64_t epoch) { return epoch != 0; });
}

}  // namespace

Ownership::Ownership(boost::asio::any_io_executor executor, DbExecutor& db, OwnershipOptions options, PartUsers users)
    : db_(db),
      options_(std::move(options)),
      users_(std::move(users)),
      keeper_(options_.shards, options_.lanes, options_.is_shared),
      wake_(std::move(executor)) {}

boost::asio::awaitable<Result<void>> Ownership::renew() {
    Round round{options_, keeper_.idle(users_.is_shard_in_use, users_.is_lane_in_use)};
    LeaseKeeper::Idle released = round.released;
    auto began = steady_clock::now();
    auto view = co_await db_.run(std::move(round));
    if (!view) {
        if (refused_since_ms_ == 0) refused_since_ms_ = steady_clock_ms();
        co_return tl::unexpected<Error>(view.error());
    }
    refused_since_ms_ = 0;
    // At the end nothing is begun any more that a round may have brought.
    if (is_leaving_) co_return Result<void>{};
    instances_ = view->instances;
    OwnedPartsPtr before = keeper_.owned();
    OwnedPartsPtr after = keeper_.renewed(*view, released, began);
    next_round_ = keeper_.next_round(*view, began, steady_clock::now());
    note_changes(*before, *after);
    users_.follow(std::move(after));
    co_return Result<void>{};
}

boost::asio::awaitable<void> Ownership::run() {
    while (!is_leaving_) {
        auto renewed = co_await renew();
        if (is_leaving_) break;
        if (renewed) {
            if (const auto failures = trouble_.end(); failures > 0)
                spdlog::info("leases_recovered failures={}", failures);
        } else if (trouble_.is_news(renewed.error().message)) {
            spdlog::warn("leases_failed error={} action=retry", log_value(renewed.error().message));
        }
        // Nobody needs to be told: a snapshot says by itself when it has ended.
        bool was_fenced = std::exchange(is_fenced_, !keeper_.owned()->is_valid());
        if (!was_fenced && is_fenced_) spdlog::error("leases_too_old action=stop_until_renewed");
        if (was_fenced && !is_fenced_) spdlog::info("leases_renewed action=go_on");
        co_await wake_.wait_until(renewed ? next_round_ : steady_clock::now() + kRetryInterval);
    }
}

void Ownership::poke() { wake_.wake(); }

boost::asio::awaitable<void> Ownership::leave() {
    is_leaving_ = true;
    wake_.wake();
    users_.follow(keeper_.left());
    Round round{options_, {}, true};
    // On the thread it comes behind a round that is under way.
    auto left = co_await db_.run(std::move(round));
    if (!left) spdlog::warn("leases_not_released error={}", log_value(left.error().message));
}

void Ownership::note_changes(const OwnedParts& before, const OwnedParts& after) {
    if (before.shard_epochs == after.shard_epochs && before.lane_epochs == after.lane_epochs) return;
    spdlog::info("parts_owned shards={} lanes={} leaving_shards={} leaving_lanes={} instances={}",
                 count(after.shard_epochs), count(after.lane_epochs), after.leaving_shards.size(),
                 after.leaving_lanes.size(), instances_);
}

}  // namespace headgate
