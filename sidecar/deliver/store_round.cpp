// One visit to the store, on the DB thread.
#include "sidecar/deliver/store_round.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <span>
#include <utility>

#include "sidecar/deliver/attempt.h"
#include "sidecar/io/failpoint.h"

namespace headgate {

namespace {

Result<RecordOutcome> write_culprit(const RecordAttempts& record_attempts, const AttemptRecord& record) {
    AttemptRecord bare = record;
    bare.error_message.clear();
    bare.request_headers = bare.response_headers = "{}";
    bare.response_body.clear();
    auto written = record_attempts({&bare, 1});
    if (!written && !error_traits(written.error().code).retryable) {
        spdlog::error("delivery.record_refused delivery={} webhook={} error=\"{}\"", record.delivery_id,
                      record.webhook_id, written.error().message);
        return RecordOutcome{};
    }
    return written;
}

// Claims and gives up nothing of its own: only due deliveries for which there is room.
Result<void> claim_due(Store& store, const StoreRound& round, StoreRound::Outcome& outcome) {
    outcome.has_looked = true;
    auto next_due_at = store.next_due_at(round.owned->lane_epochs);
    if (next_due_at && *next_due_at && **next_due_at <= round.now) {
        const std::size_t claim_max = round.quota->begin_claim();
        auto claimed =
            store.claim_due({round.now, claim_max, round.owned->lane_epochs,
                             [&round](std::string_view webhook_id) { return round.quota->offer(webhook_id); }});
        if (!claimed) {
            return tl::unexpected<Error>(std::move(claimed.error()));
        }
        round.quota->finish_claim(*claimed, claim_max);
        outcome.claimed = std::move(*claimed);
        next_due_at = store.next_due_at(round.owned->lane_epochs);
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
    auto written = write_results(
        [&store, this](std::span<const AttemptRecord> records) {
            return store.record_attempts(records, owned->lane_epochs);
        },
        *results);
    if (results->written > already_written) {
        HEADGATE_FAILPOINT("after_record_before_release");
    }
    for (std::size_t i = already_written; i < results->written; ++i) {
        const AttemptRecord& record = results->records[i];
        quota->add_bytes(record.webhook_id, -bytes_of(record));
        quota->give_back(record.webhook_id);
    }
    if (!written) {
        return tl::unexpected<Error>(std::move(written.error()));
    }
    Outcome outcome;
    if (claim == Claim::kYes || (claim == Claim::kIfHungry && quota->wants_claim())) {
        if (auto claimed = claim_due(store, *this, outcome); !claimed) {
            return tl::unexpected<Error>(std::move(claimed.error()));
        }
    }
    return outcome;
}

}  // namespace headgate
