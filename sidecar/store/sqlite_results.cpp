// What became of deliveries: attempts, and what follows from them. Input: the dispatcher's results. Every lane that is
// no longer ours is left alone: its new owner has sent these deliveries again.
#include <algorithm>
#include <unordered_map>

#include "sidecar/base/failpoint.h"
#include "sidecar/store/id_source.h"
#include "sidecar/store/sqlite_store.h"
#include "sidecar/store/system_events.h"

namespace headgate {
namespace {

// What an attempt makes of its delivery.
struct Outcome {
    std::string_view state, status;
    int finished = 1;
    std::optional<TimeMs> due_at = std::nullopt;
};

Outcome result_of(const AttemptRecord& attempt, std::int64_t attempts_before, std::string_view status_before) {
    switch (attempt.outcome) {
        case AttemptOutcome::kSuccess:
            return {"success", "success"};
        case AttemptOutcome::kRetry:
            return {"retrying", "failed", 1, attempt.next_attempt_at};
        case AttemptOutcome::kDead:
            return {"dead", "failed"};
        case AttemptOutcome::kCancelled:
            return {"cancelled", "cancelled", 0};
        case AttemptOutcome::kInterrupted:
            break;
    }
    return {attempts_before > 0 ? "retrying" : "queued", status_before, 0,
            attempt.next_attempt_at > 0 ? attempt.next_attempt_at : attempt.finished_at};
}

}  // namespace

// The transaction that records a batch of attempts.
class SqliteResults {
 public:
    SqliteResults(SqliteStore& store, Epochs lane_epochs)
        : store_(store), db_(store.db_), lanes_(db_, lane_epochs), rollups_(db_) {}

    void record(const AttemptRecord& attempt) {
        if (!lanes_.holds(attempt.webhook_id)) {
            outcome_.late++;
            return;
        }
        constexpr const char* kById =
            "SELECT d.rowid, d.state, d.status, d.kind, d.attempts, d.holds_order, d.ordering_key, d.replay_id,"
            " d.created_at, d.event_id FROM deliveries d WHERE d.id = ?";
        constexpr const char* kByRow =
            "SELECT d.rowid, d.state, d.status, d.kind, d.attempts, d.holds_order, d.ordering_key, d.replay_id,"
            " d.created_at, d.event_id FROM deliveries d NOT INDEXED WHERE d.rowid = ?2 AND d.id = ?1";
        auto row = attempt.row != 0 ? db_.query(kByRow, attempt.delivery_id, attempt.row)
                                    : db_.query(kById, attempt.delivery_id);
        // Purged meanwhile: there is nothing to attach the row to, and the others must be kept.
        if (!row.step()) return;
        const EventFacts event = event_of(attempt, row.view(9));
        if (attempt.is_kept) insert_attempt(attempt);
        const std::string_view state = row.view(1);
        if (state == "success" || state == "dead" || state == "cancelled") return;
        const Outcome outcome = result_of(attempt, row.number(4), row.view(2));
        db_.execute(
            "UPDATE deliveries SET state = ?, status = ?, attempts = attempts + ?, due_at = coalesce(?, due_at),"
            " updated_at = ? WHERE rowid = ?",
            outcome.state, outcome.status, outcome.finished, outcome.due_at, attempt.finished_at, row.number(0));
        if (row.number(5) != 0 && store_.lets_go(attempt.webhook_id, outcome.state, outcome.status)) {
            outcome_.released +=
                store_.release_order(row.number(0), attempt.webhook_id, row.view(6), attempt.finished_at);
        }
        const bool is_operational = event.via == kViaSystem;
        count(attempt, row, outcome, event.type, is_operational);
        if (attempt.outcome == AttemptOutcome::kDead && !is_operational && row.view(3) != "test") {
            store_.add_system_event(attempt.org, kDeliveryExhaustedType,
                                    delivery_exhausted_payload(attempt, row.view(9), event.type), attempt.finished_at);
        }
        if (!attempt.disable_webhook_reason.empty()) {
            store_.disable_webhook(attempt.webhook_id, attempt.disable_webhook_reason, attempt.finished_at,
                                   !is_operational);
        }
    }

    RecordOutcome finish() {
        rollups_.save();
        save_webhooks();
        return outcome_;
    }

 private:
    struct EventFacts {
        std::string_view type, via;
    };
    // Valid until the next call.
    EventFacts event_of(const AttemptRecord& attempt, std::string_view event_id) {
        if (!attempt.event_type.empty()) return {attempt.event_type, attempt.event_via};
        auto row = db_.query("SELECT type, via FROM events WHERE id = ?", event_id);
        row.step();
        type_ = row.text(0);
        via_ = row.text(1);
        return {type_, via_};
    }

    struct Counted {
        std::int64_t total = 0, failed = 0, responses = 0, response_ms_sum = 0;
        std::optional<std::int64_t> last_response_ms;
        TimeMs last_triggered_at = 0;
        bool succeeded = false;
        std::optional<TimeMs> failing_since;  // the first failure after the last success of this batch
        TimeMs failed_at = 0;
        bool raises_event = false;
    };

    void insert_attempt(const AttemptRecord& attempt) {
        bool goes_on = attempt.outcome == AttemptOutcome::kRetry || attempt.outcome == AttemptOutcome::kInterrupted;
        const std::string id = ids_.next_at(attempt.finished_at);
        db_.execute(
            "INSERT INTO attempts (id, delivery_id, number, outcome, started_at, finished_at, duration_ms, status_code,"
            " error_type, error_message, request_headers, response_headers, response_body, next_attempt_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            id, attempt.delivery_id, attempt.number, outcome_name(attempt.outcome), attempt.started_at,
            attempt.finished_at, attempt.duration_ms, attempt.status_code, attempt.error_type, attempt.error_message,
            attempt.request_headers, attempt.response_headers, attempt.response_body,
            goes_on ? std::optional(attempt.next_attempt_at) : std::nullopt);
    }

    // Counters count deliveries, and those of events only.
    void count(const AttemptRecord& attempt, const SqliteQuery& row, const Outcome& outcome,
               std::string_view event_type, bool is_operational) {
        const std::string_view kind = row.view(3);
        const bool is_finished = outcome.finished > 0;
        if (kind == "event") {
            Rollup& rollup = rollups_.of(attempt.webhook_id, row.number(8), event_type);
            SqliteRollups::move(rollup, row.view(2), outcome.status);
            if (is_finished && attempt.number > 1) rollup.retries++;
            if (is_finished && attempt.status_code > 0) {
                rollup.responses++;
                rollup.response_ms_sum += attempt.duration_ms;
            }
        } else if (!row.view(7).empty()) {
            count_replay(row.view(7), outcome.state, attempt.finished_at);
        }
        if (!is_finished || kind == "test") return;
        Counted& counted = counted_[attempt.webhook_id];
        counted.last_triggered_at = std::max(counted.last_triggered_at, attempt.finished_at);
        if (attempt.outcome == AttemptOutcome::kSuccess) {
            counted.succeeded = true;
            counted.failing_since.reset();
        } else {
            if (!counted.failing_since) counted.failing_since = attempt.finished_at;
            counted.failed_at = std::max(counted.failed_at, attempt.finished_at);
            counted.raises_event = counted.raises_event || !is_operational;
        }
        if (kind != "event") return;
        if (attempt.status_code > 0) {
            counted.responses++;
            counted.response_ms_sum += attempt.duration_ms;
            counted.last_response_ms = attempt.duration_ms;
        }
        if (attempt.outcome == AttemptOutcome::kRetry) return;
        counted.total++;
        if (attempt.outcome == AttemptOutcome::kDead) counted.failed++;
    }

    void count_replay(std::string_view replay_id, std::string_view state, TimeMs now) {
        if (state != "success" && state != "dead") return;
        db_.execute(
            "UPDATE replays SET succeeded = succeeded + ?1, failed = failed + 1 - ?1, updated_at = ?2 WHERE id = ?3",
            state == "success", now, replay_id);
    }

    // One UPDATE for each webhook of the batch.
    void save_webhooks() {
        for (const auto& [webhook_id, counted] : counted_) {
            auto row = db_.query(
                "UPDATE webhooks SET total_deliveries = total_deliveries + ?, failed_deliveries = failed_deliveries + "
                "?,"
                " response_count = response_count + ?, response_ms_sum = response_ms_sum + ?,"
                " last_response_ms = coalesce(?, last_response_ms),"
                " last_triggered_at = max(coalesce(last_triggered_at, 0), ?),"
                " failing_since_at = iif(?, ?, coalesce(failing_since_at, ?)) WHERE id = ?"
                " RETURNING failing_since_at",
                counted.total, counted.failed, counted.responses, counted.response_ms_sum, counted.last_response_ms,
                counted.last_triggered_at, counted.succeeded, counted.failing_since, counted.failing_since, webhook_id);
            const bool has_failed_too_long =
                row.step() && !row.is_null(0) && counted.failed_at - row.number(0) >= kFailingDisabledAfterMs;
            row.run();
            if (has_failed_too_long) {
                store_.disable_webhook(webhook_id, kFailingReason, counted.failed_at, counted.raises_event);
            }
        }
    }

    SqliteStore& store_;
    SqliteConnection& db_;
    SqliteLanes lanes_;
    SqliteRollups rollups_;
    IdSource ids_{0};
    std::string type_, via_;
    RecordOutcome outcome_;
    std::unordered_map<std::string_view, Counted> counted_;
};

Result<RecordOutcome> SqliteStore::record_attempts(std::span<const AttemptRecord> attempts, Epochs lane_epochs) {
    if (attempts.empty()) return RecordOutcome{};
    return write([&] {
        SqliteResults results(*this, lane_epochs);
        for (const AttemptRecord& attempt : attempts) results.record(attempt);
        auto outcome = results.finish();
        failpoint("in_record");
        return outcome;
    });
}

Result<std::size_t> SqliteStore::recover_in_flight(std::span<const int> parts, Epochs lane_epochs, TimeMs now) {
    return write([&] {
        SqliteLanes lanes(db_, lane_epochs);
        for (int part : parts) {
            if (!lanes.holds_lane(part)) throw_lease_lost("lane", part);
        }
        std::vector<AttemptRecord> interrupted;
        auto rows = db_.query(
            "SELECT id, webhook_id, organization_id, attempts, updated_at, lane FROM deliveries"
            " INDEXED BY deliveries_in_flight WHERE state = 'in_flight'");
        while (rows.step()) {
            if (std::find(parts.begin(), parts.end(), rows.number(5)) == parts.end()) continue;
            interrupted.push_back({.delivery_id = rows.text(0),
                                   .webhook_id = rows.text(1),
                                   .org = rows.text(2),
                                   .number = static_cast<int>(rows.number(3)) + 1,
                                   .started_at = rows.number(4),
                                   .finished_at = now,
                                   .duration_ms = 0,
                                   .status_code = 0,
                                   .error_type = "interrupted",
                                   .error_message = "headgate stopped before the result was recorded",
                                   .request_headers = "{}",
                                   .response_headers = "{}",
                                   .response_body = {},
                                   .outcome = AttemptOutcome::kInterrupted,
                                   .next_attempt_at = now,
                                   .disable_webhook_reason = {}});
        }
        SqliteResults results(*this, lane_epochs);
        for (const AttemptRecord& attempt : interrupted) results.record(attempt);
        results.finish();
        failpoint("in_recover");
        return interrupted.size();
    });
}

}  // namespace headgate
