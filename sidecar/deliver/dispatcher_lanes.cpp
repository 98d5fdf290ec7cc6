// Lanes come and go: what the dispatcher makes of a change of leases.
#include "sidecar/base/log.h"
#include "sidecar/base/trouble.h"
#include "sidecar/deliver/dispatcher_impl.h"
#include "sidecar/store/lane.h"

namespace headgate {

void Dispatcher::Impl::follow(OwnedPartsPtr now_owned) {
    const OwnedPartsPtr before = std::exchange(owned, std::move(now_owned));
    for (std::size_t part = 0; owned->is_shared() && part < owned->lane_epochs.size(); ++part) {
        const std::int64_t epoch = owned->lane_epochs[part];
        const bool is_known = before != nullptr && before->lane_epochs[part] == epoch;
        if (epoch != 0 && !is_known) {
            lanes.gained(static_cast<int>(part), gate_now_ms());
        }
    }
    ready->follow(owned);
    for (Lane* lane : lanes.all()) {
        if (!lane->queue.empty() && !is_held(lane->queue.front(), lane->part)) {
            for (const HeldDelivery& delivery : lanes.drain(*lane)) {
                let_go(delivery, lane->webhook_id, lane->part);
            }
        }
    }
    recover_signal.wake();
    pump();
}

bool Dispatcher::Impl::is_held(const HeldDelivery& delivery, int part) const {
    return owned->lane_epochs[static_cast<std::size_t>(part)] == delivery.lane_epoch;
}

void Dispatcher::Impl::let_go(const HeldDelivery& delivery, std::string_view webhook_id, int part) {
    const auto& leaving = owned->leaving_lanes;
    if (std::find(leaving.begin(), leaving.end(), part) != leaving.end()) {
        add_result(delivery, record_unsent(delivery, webhook_id, AttemptOutcome::kInterrupted, "interrupted",
                                           "another instance sends it", wall_clock_ms()));
        return;
    }
    quota->add_bytes(webhook_id, -bytes_of(delivery));
    quota->give_back(webhook_id);
}

bool Dispatcher::Impl::is_lane_in_use(int part) const {
    const auto is_of_part = [part](const AttemptRecord& record) { return lane_of(record.webhook_id) == part; };
    return lanes.is_part_in_use(part) || std::any_of(results.begin(), results.end(), is_of_part) ||
           std::any_of(writing->records.begin(), writing->records.end(), is_of_part);
}

asio::awaitable<void> Dispatcher::Impl::recover_loop() {
    milliseconds backoff = kBackoffMin;
    Trouble trouble;
    while (!is_stopping) {
        Result<void> done;
        RecoverLanes recover{ready, ready->unrecovered(), owned};
        if (!recover.lanes.empty()) {
            done = co_await recover_in_flight(std::move(recover));
        } else if (auto unspread = ready->unspread(); !unspread.empty()) {
            auto spread = spread_of(std::move(unspread), owned->lane_epochs);
            done = co_await spread_lanes(std::move(spread));
        } else {
            co_await recover_signal.wait_until(steady_clock::time_point::max());
            continue;
        }
        if (done) {
            backoff = kBackoffMin;
            (void)trouble.end();
            continue;
        }
        if (trouble.is_news(done.error().message)) {
            spdlog::warn("delivery.recover_failed error={} action=retry", log_value(done.error().message));
        }
        co_await recover_signal.wait_until(steady_clock::now() + backoff);
        backoff = std::min(backoff * 2, kBackoffMax);
    }
}

asio::awaitable<Result<void>> Dispatcher::Impl::recover_in_flight(RecoverLanes recover) {
    const std::size_t lanes_asked = recover.lanes.size();
    auto recovered = co_await db.run(std::move(recover));
    if (!recovered) {
        co_return tl::unexpected<Error>(std::move(recovered.error()));
    }
    spdlog::info("delivery.recovered interrupted={} lanes={}", *recovered, lanes_asked);
    co_return Result<void>{};
}

// Part by part, so that what else wants the store has its turn in between. Ends early when lanes were gained meanwhile:
// they are recovered first, and what is left of these begins anew. Times ahead it mends to the end, as nothing would
// ask for that again.
asio::awaitable<Result<void>> Dispatcher::Impl::spread_lanes(std::shared_ptr<OverdueSpread> spread) {
    std::size_t waiting = spread->lanes.size();
    const auto may_go_on = [&] { return spread->step() == OverdueSpread::Step::kMend || ready->unrecovered().empty(); };
    while (!spread->is_done() && !is_stopping && may_go_on()) {
        SpreadPart part{ready, spread};
        auto done = co_await db.run(std::move(part));
        if (!done) {
            co_return done;
        }
        if (const std::size_t now_waiting = ready->unspread().size(); now_waiting != waiting) {
            waiting = now_waiting;
            next_poll = steady_clock::now();
            store_signal.wake();
        }
    }
    co_return Result<void>{};
}

}  // namespace headgate
