// Webhooks are read from the store, a few at a time, when something of theirs is to be sent and what is known of them
// is too old.
#include <iterator>

#include "sidecar/deliver/dispatcher_impl.h"
#include "sidecar/deliver/target_load.h"

namespace headgate {

namespace {

constexpr std::size_t kTargetsPerLoad = 64;
constexpr milliseconds kRefusedLoadPause{10'000};  // of a webhook that cannot be read until somebody mends it

}  // namespace

asio::awaitable<void> Dispatcher::Impl::load_loop() {
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

void Dispatcher::Impl::resume_failed() {
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

bool Dispatcher::Impl::apply_target(Lane& lane, const Result<Store::Target>& found) {
    if (!found && found.error().code != ErrorCode::kNotFound) {
        spdlog::warn("delivery.target_failed webhook={} error=\"{}\"", lane.webhook_id, found.error().message);
        return false;
    }
    if (!found || found->is_deleted) {
        give_up_queue(lane, AttemptOutcome::kCancelled, "webhook_deleted", "the webhook was deleted");
    } else if (!found->webhook.is_active) {
        give_up_queue(lane, AttemptOutcome::kInterrupted, "webhook_disabled", "the webhook is disabled");
    } else if (found->org_suspended) {
        give_up_queue(lane, AttemptOutcome::kInterrupted, "organization_suspended", "the organization is suspended");
    } else {
        auto target = make_delivery_target(*found, wall_clock_ms());
        quota->set_max_in_flight(lane.webhook_id, target->webhook.max_in_flight);
        lanes.set_target(lane, std::move(target));
        settle_gate(lane);
        return true;
    }
    lanes.set_target(lane, nullptr);
    return true;
}

}  // namespace headgate
