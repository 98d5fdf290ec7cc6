// The visits to the store: results in, deliveries that are due out. While one transaction runs, the next one's results
// are gathered.
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "sidecar/base/log.h"
#include "sidecar/base/trouble.h"
#include "sidecar/deliver/dispatcher_impl.h"

namespace headgate {

namespace {

constexpr TimeMs kLaneIdleMs = 60'000;
constexpr milliseconds kPollInterval{500};
constexpr milliseconds kSweepInterval{10'000};
// Results wait for others this long, or for so many: what they cost is the transaction, more than the row.
constexpr milliseconds kGroupWait{25};
constexpr std::size_t kGroupMax = 256;

// What is due already but was not claimed waits for room: looking again at once would not find any.
milliseconds until_next_look(std::optional<TimeMs> next_due_at) {
    const TimeMs now = wall_clock_ms();
    if (!next_due_at || *next_due_at <= now) {
        return kPollInterval;
    }
    return std::min(kPollInterval, milliseconds(*next_due_at - now));
}

}  // namespace

asio::awaitable<void> Dispatcher::Impl::store_loop() {
    milliseconds backoff = kBackoffMin;
    Trouble trouble;
    auto next_sweep = steady_clock::now() + kSweepInterval;
    for (;;) {
        const bool has_results = !results.empty() || !writing->records.empty();
        const bool polls = !is_stopping && steady_clock::now() >= next_poll;
        if (!has_results && !polls && !(may_be_hungry && !is_stopping)) {
            if (is_final) {
                co_return;
            }
            co_await store_signal.wait_until(next_poll);
            if (is_stopping) {
                next_poll = steady_clock::time_point::max();
            }
            continue;
        }
        if (has_results && !polls && may_wait_for_others()) {
            co_await store_signal.wait_until(std::min(next_poll, results_since + kGroupWait));
            continue;
        }
        if (const auto step = clock.step(wall_clock_ms(), gate_now_ms())) {
            co_await mend_times(*step);
        }
        if (writing->records.empty()) {
            writing->records = std::exchange(results, {});
            is_result_urgent = false;
            writing->written = 0;
        }
        const bool has_final_failure =
            std::any_of(writing->records.begin(), writing->records.end(), [](const AttemptRecord& record) {
                return record.outcome == AttemptOutcome::kDead || !record.disable_webhook_reason.empty();
            });
        StoreRound round{writing, quota, ready, StoreRound::Claim::kNo, wall_clock_ms()};
        if (!is_stopping) {
            round.claim = polls ? StoreRound::Claim::kYes : StoreRound::Claim::kIfHungry;
        }
        may_be_hungry = false;
        auto outcome = co_await db.run(std::move(round));
        if (writing->written == writing->records.size()) {
            writing->records.clear();
            writing->written = 0;
        }
        if (!outcome) {
            if (trouble.is_news(outcome.error().message)) {
                spdlog::warn("delivery.store_failed error={} unwritten={} action=retry",
                             log_value(outcome.error().message), unwritten());
            }
            if (counters.refused_since_ms == 0) {
                counters.refused_since_ms = steady_clock_ms();
            }
            next_poll = steady_clock::now() + backoff;
            co_await pause(backoff);
            backoff = std::min(backoff * 2, kBackoffMax);
            continue;
        }
        backoff = kBackoffMin;
        counters.refused_since_ms = 0;
        if (const auto failures = trouble.end(); failures > 0) {
            spdlog::info("delivery.store_recovered failures={}", failures);
        }
        if (outcome->late > 0) {
            counters.late += outcome->late;
            spdlog::warn("delivery.late results={} action=left_to_the_new_owner", outcome->late);
        }
        if (has_final_failure && options.on_final_failure) {
            options.on_final_failure();
        }
        if (outcome->has_looked) {
            next_poll = steady_clock::now() + until_next_look(outcome->next_due_at);
        }
        accept(std::move(outcome->claimed), true);
        if (steady_clock::now() >= next_sweep) {
            next_sweep = steady_clock::now() + kSweepInterval;
            lanes.forget_idle(wall_clock_ms() - kLaneIdleMs, gate_now_ms(),
                              [this](const std::string& webhook_id) { quota->forget(webhook_id); });
        }
    }
}

// Not when something follows from a result, or there is room for more deliveries than results to write.
bool Dispatcher::Impl::may_wait_for_others() const {
    const auto most = std::min(kGroupMax, kUnwrittenPerInFlight / 2 * static_cast<std::size_t>(lanes.max_in_flight()));
    return writing->records.empty() && results.size() < most && !is_result_urgent && !is_stopping && !may_be_hungry &&
           !quota->wants_claim() && steady_clock::now() < results_since + kGroupWait;
}

void Dispatcher::Impl::keep_result(AttemptRecord attempt, bool is_urgent) {
    if (results.empty()) {
        results_since = steady_clock::now();
    }
    is_result_urgent = is_result_urgent || is_urgent || attempt.outcome != AttemptOutcome::kSuccess;
    results.push_back(std::move(attempt));
    if (results.size() == 1 || is_result_urgent || !may_wait_for_others()) {
        store_signal.wake();
    }
}

// Before anything is claimed by the new time. When it fails, what waits does so until its time as it stands.
asio::awaitable<void> Dispatcher::Impl::mend_times(TimeMs step) {
    const std::vector<std::int64_t> epochs = ready->epochs();
    std::vector<int> ours;
    for (std::size_t lane = 0; lane < epochs.size(); ++lane) {
        if (epochs[lane] != 0) {
            ours.push_back(static_cast<int>(lane));
        }
    }
    auto spread = spread_of(std::move(ours), epochs);
    Result<void> done;
    while (done && !spread->is_done() && !is_stopping) {
        SpreadPart part{ready, spread};
        done = co_await db.run(std::move(part));
    }
    if (done) {
        spdlog::warn("delivery.clock_stepped ms={} deliveries={} action=times_spread", step,
                     spread->spread + spread->mended);
    } else {
        spdlog::error("delivery.clock_stepped ms={} error=\"{}\"", step, done.error().message);
    }
}

asio::awaitable<void> Dispatcher::Impl::pause(milliseconds duration) {
    asio::steady_timer timer(executor, duration);
    boost::system::error_code ignored;
    co_await timer.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
}

}  // namespace headgate
