// One visit to the store, on the DB thread.
#include "sidecar/deliver/store_round.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <iterator>
#include <optional>
#include <span>
#include <utility>

#include "sidecar/base/failpoint.h"
#include "sidecar/base/log.h"
#include "sidecar/deliver/attempt.h"
#include "sidecar/store/lane.h"

namespace headgate {

namespace {

Result<RecordOutcome> write_culprit(const RecordAttempts& record_attempts, const AttemptRecord& record) {
    AttemptRecord bare = record;
    bare.error_message.clear();
    bare.request_headers = bare.response_headers = "{}";
    bare.response_body.clear();
    auto written = record_attempts({&bare, 1});
    const auto is_refused = [&written] { return !written && !error_traits(written.error().code).retryable; };
    if (is_refused()) {
        spdlog::error("delivery.record_refused delivery={} webhook={} error={}", record.delivery_id, record.webhook_id,
                      log_value(written.error().message));
        bare.is_kept = false;
        written = record_attempts({&bare, 1});
    }
    if (is_refused()) {
        spdlog::error("delivery.record_given_up delivery={} webhook={} error={}", record.delivery_id, record.webhook_id,
                      log_value(written.error().message));
        return RecordOutcome{};
    }
    return written;
}

// Claims and gives up nothing of its own: only due deliveries for which there is room.
Result<void> claim_due(Store& store, const StoreRound& round, StoreRound::Outcome& outcome) {
    outcome.has_looked = true;
    const std::vector<std::int64_t> epochs = round.ready->epochs();
    if (epochs.empty()) {
        return {};
    }
    auto next_due_at = store.next_due_at(epochs);
    if (next_due_at && *next_due_at && **next_due_at <= round.now) {
        const std::size_t claim_max = round.quota->begin_claim();
        auto claimed = store.claim_due({round.now, claim_max, epochs, [&round](std::string_view webhook_id) {
                                            return round.quota->offer(webhook_id);
                                        }});
        if (!claimed) {
            return tl::unexpected<Error>(std::move(claimed.error()));
        }
        round.quota->finish_claim(*claimed, claim_max, round.now);
        outcome.claimed = std::move(*claimed);
        for (ClaimedDelivery& delivery : outcome.claimed) {
            delivery.lane_epoch = epochs[static_cast<std::size_t>(lane_of(delivery.webhook_id))];
        }
        next_due_at = store.next_due_at(epochs);
    }
    // When only that last question failed, what was claimed must not be lost: the next visit asks again.
    if (next_due_at) {
        outcome.next_due_at = *next_due_at;
    } else if (outcome.claimed.empty()) {
        return tl::unexpected<Error>(std::move(next_due_at.error()));
    }
    return {};
}

}  // namespace

std::vector<std::int64_t> claim_epochs(std::span<const AttemptRecord> records) {
    std::vector<std::int64_t> epochs(kLanes);
    for (const AttemptRecord& record : records) {
        std::int64_t& epoch = epochs[static_cast<std::size_t>(lane_of(record.webhook_id))];
        epoch = std::max(epoch, record.lane_epoch);
    }
    return epochs;
}

bool is_late(const AttemptRecord& record, Epochs epochs) noexcept {
    return record.lane_epoch != epochs[static_cast<std::size_t>(lane_of(record.webhook_id))];
}

Result<void> write_results(const RecordAttempts& record_attempts, ResultBatch& batch) {
    // A run that was refused for good is tried again at half its length; one that was written doubles it.
    std::size_t length = batch.records.size() - batch.written;
    while (batch.written < batch.records.size()) {
        length = std::min(length, batch.records.size() - batch.written);
        const auto run = std::span(batch.records).subspan(batch.written, length);
        auto written = record_attempts(run);
        if (!written && !error_traits(written.error().code).retryable) {
            if (length > 1) {
                length /= 2;
                continue;
            }
            written = write_culprit(record_attempts, run.front());
        }
        if (!written) {
            return tl::unexpected<Error>(std::move(written.error()));
        }
        batch.written += length;
        length *= 2;
    }
    return {};
}

Result<StoreRound::Outcome> StoreRound::operator()(Store& store) const {
    const std::size_t already_written = results->written;
    Outcome outcome;
    std::optional<Error> refused;
    auto done = store.together([&]() -> Result<void> {
        auto written = write_all(store, outcome);
        const bool is_hungry = written && (*written > 0 || quota->wants_claim());
        if (written && (claim == Claim::kYes || (claim == Claim::kIfHungry && is_hungry))) {
            if (auto claimed = claim_due(store, *this, outcome); !claimed) {
                refused = std::move(claimed.error());
            }
        } else if (!written) {
            refused = std::move(written.error());
        }
        return {};  // what was written stays, whatever became of the rest
    });
    if (!done) {
        results->written = already_written;
        quota->undo_claim(outcome.claimed);
        return tl::unexpected<Error>(std::move(done.error()));
    }
    if (results->written > already_written) {
        failpoint("after_record_before_release");
    }
    for (std::size_t i = already_written; i < results->written; ++i) {
        const AttemptRecord& record = results->records[i];
        quota->add_bytes(record.webhook_id, -bytes_of(record));
    }
    if (refused) {
        return tl::unexpected<Error>(std::move(*refused));
    }
    return outcome;
}

Result<std::size_t> StoreRound::write_all(Store& store, Outcome& outcome) const {
    std::size_t released = 0;
    const std::vector<std::int64_t> epochs = claim_epochs(results->records);
    auto written = write_results(
        [&](std::span<const AttemptRecord> records) -> Result<RecordOutcome> {
            // Seldom: a lane came back to us while a result of before was under way.
            std::vector<AttemptRecord> in_time;
            const std::size_t all = records.size();
            if (std::any_of(records.begin(), records.end(), [&](const auto& each) { return is_late(each, epochs); })) {
                std::copy_if(records.begin(), records.end(), std::back_inserter(in_time),
                             [&](const auto& each) { return !is_late(each, epochs); });
                records = in_time;
            }
            auto recorded = store.record_attempts(records, epochs);
            if (recorded) {
                outcome.late += recorded->late + (all - records.size());
                released += recorded->released;
            }
            return recorded;
        },
        *results);
    if (!written) {
        return tl::unexpected<Error>(std::move(written.error()));
    }
    return released;
}

}  // namespace headgate
