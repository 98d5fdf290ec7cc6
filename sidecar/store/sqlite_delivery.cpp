// Deliveries: which are due, what became of them. Input: the dispatcher's questions and results.
#include <algorithm>
#include <queue>
#include <unordered_map>

#include "common/event_id.h"
#include "sidecar/store/lane.h"
#include "sidecar/store/sqlite_store.h"

namespace headgate {
namespace {

// The first waiting delivery of the next webhook that has one: a loose scan over the index, one
// step for each webhook, however many rows each has.
constexpr const char* kNextWaitingWebhook =
    "SELECT d.webhook_id, d.due_at, w.is_active AND NOT o.is_suspended AND o.deleted_at IS NULL"
    " FROM (SELECT webhook_id, due_at FROM deliveries INDEXED BY deliveries_waiting"
    "  WHERE state IN ('queued', 'retrying') AND webhook_id > ? ORDER BY webhook_id, due_at LIMIT 1) d"
    " JOIN webhooks w ON w.id = d.webhook_id JOIN organizations o ON o.id = w.organization_id";

bool holds_lane_of(Epochs lane_epochs, std::string_view webhook_id) {
    const auto lane = static_cast<std::size_t>(lane_of(webhook_id));
    return lane < lane_epochs.size() && lane_epochs[lane] != 0;
}

std::string_view outcome_name(AttemptOutcome outcome) {
    switch (outcome) {
        case AttemptOutcome::kSuccess:
            return "success";
        case AttemptOutcome::kRetry:
            return "retry";
        case AttemptOutcome::kDead:
            return "dead";
        case AttemptOutcome::kCancelled:
            return "cancelled";
        case AttemptOutcome::kInterrupted:
            break;
    }
    return "interrupted";
}

AttemptOutcome outcome_of(std::string_view name) {
    for (auto outcome :
         {AttemptOutcome::kSuccess, AttemptOutcome::kRetry, AttemptOutcome::kDead, AttemptOutcome::kCancelled}) {
        if (outcome_name(outcome) == name) return outcome;
    }
    return AttemptOutcome::kInterrupted;
}

}  // namespace

std::vector<std::pair<std::string, TimeMs>> SqliteStore::waiting_webhooks(Epochs lane_epochs) {
    std::vector<std::pair<std::string, TimeMs>> webhooks;
    std::string last;
    for (;;) {
        auto row = db_.query(kNextWaitingWebhook, last);
        if (!row.step()) return webhooks;
        std::string webhook_id = row.text(0);
        if (row.number(2) != 0 && holds_lane_of(lane_epochs, webhook_id))
            webhooks.emplace_back(webhook_id, row.number(1));
        last = std::move(webhook_id);
    }
}

Result<std::optional<TimeMs>> SqliteStore::next_due_at(Epochs lane_epochs) {
    return guarded([&]() -> std::optional<TimeMs> {
        std::optional<TimeMs> next;
        for (const auto& [webhook_id, due_at] : waiting_webhooks(lane_epochs))
            next = std::min(next.value_or(due_at), due_at);
        return next;
    });
}

Result<std::optional<TimeMs>> SqliteStore::oldest_due_at(TimeMs now, Epochs lane_epochs,
                                                         std::span<const std::string> held_back) {
    return guarded([&]() -> std::optional<TimeMs> {
        std::optional<TimeMs> oldest;
        for (const auto& [webhook_id, first_due_at] : waiting_webhooks(lane_epochs)) {
            if (first_due_at > now) continue;
            if (std::find(held_back.begin(), held_back.end(), webhook_id) != held_back.end()) continue;
            auto row = db_.query(
                "SELECT due_at FROM deliveries INDEXED BY deliveries_waiting WHERE state IN ('queued', 'retrying')"
                " AND webhook_id = ? AND due_at <= ? AND state = 'queued' ORDER BY due_at LIMIT 1",
                webhook_id, now);
            if (row.step()) oldest = std::min(oldest.value_or(row.number(0)), row.number(0));
        }
        return oldest;
    });
}

Result<std::vector<ClaimedDelivery>> SqliteStore::claim_due(const ClaimRequest& request) {
    const auto& [now, total_max, lane_epochs, room] = request;
    if (total_max == 0) return std::vector<ClaimedDelivery>();
    return write([&] {
        auto webhooks = waiting_webhooks(request.lane_epochs);
        std::sort(webhooks.begin(), webhooks.end(), [](const auto& a, const auto& b) {
            return std::pair(a.second, a.first) < std::pair(b.second, b.first);
        });
        // The oldest `total_max` seen so far, the newest of them on top. Webhooks come in the order of
        // their oldest delivery: once that is newer than the top, no later one can contribute.
        std::priority_queue<DueRow> chosen;
        for (const auto& [webhook_id, first_due_at] : webhooks) {
            if (first_due_at > now) break;
            if (chosen.size() == total_max && first_due_at > chosen.top().first) break;
            int free = room(webhook_id);
            if (free <= 0) continue;
            auto rows = db_.query(
                "SELECT due_at, rowid FROM deliveries INDEXED BY deliveries_waiting WHERE state IN ('queued', "
                "'retrying')"
                " AND webhook_id = ? AND due_at <= ? ORDER BY due_at, rowid LIMIT ?",
                webhook_id, now, std::min<std::size_t>(static_cast<std::size_t>(free), total_max));
            while (rows.step()) {
                DueRow due{rows.number(0), rows.number(1)};
                if (chosen.size() == total_max) {
                    if (!(due < chosen.top())) break;
                    chosen.pop();
                }
                chosen.push(due);
            }
        }
        std::vector<DueRow> due(chosen.size());
        for (auto slot = due.rbegin(); slot != due.rend(); ++slot) {
            *slot = chosen.top();
            chosen.pop();
        }
        return claim(due, now);
    });
}

std::vector<ClaimedDelivery> SqliteStore::claim(const std::vector<DueRow>& due, TimeMs now) {
    std::vector<ClaimedDelivery> claimed;
    claimed.reserve(due.size());
    std::unordered_map<std::string, std::shared_ptr<const Event>> events;  // one for all deliveries of an event
    auto update = db_.query(
        "UPDATE deliveries SET state = 'in_flight', updated_at = ? WHERE rowid = ?"
        " RETURNING id, webhook_id, event_id, generation, attempts, organization_id");
    for (const DueRow& delivery : due) {
        update.bind_all(now, delivery.second);
        update.step();
        ClaimedDelivery row{.delivery_id = update.text(0),
                            .webhook_id = update.text(1),
                            .event = nullptr,
                            .generation = update.number(3),
                            .attempts = static_cast<int>(update.number(4))};
        std::string event_id = update.text(2);
        std::string org = update.text(5);
        update.run();
        update.rewind();
        auto& event = events[event_id];
        if (!event) event = std::make_shared<const Event>(event_row(org, event_id));
        row.event = event;
        claimed.push_back(std::move(row));
    }
    return claimed;
}

// ---- results --------------------------------------------------------------------------------

// The transaction that records a batch of attempts.
class SqliteResults {
 public:
    explicit SqliteResults(SqliteStore& store) : store_(store), db_(store.db_) {}

    void record(const AttemptRecord& attempt) {
        bool applied = update_delivery(attempt);
        if (!applied && !db_.query("SELECT 1 FROM deliveries WHERE id = ?", attempt.delivery_id).step()) {
            return;  // purged meanwhile: there is nothing to attach the row to, and the others must be kept
        }
        insert_attempt(attempt);
        if (applied) count(attempt);
        if (!attempt.disable_webhook_reason.empty()) {
            store_.disable_webhook(attempt.webhook_id, attempt.disable_webhook_reason, attempt.finished_at);
        }
    }

    // One UPDATE for each webhook of the batch.
    void save_counters() {
        for (const auto& [webhook_id, counted] : counted_) {
            db_.execute(
                "UPDATE webhooks SET total_deliveries = total_deliveries + ?, failed_deliveries = failed_deliveries + "
                "?,"
                " response_count = response_count + ?, response_ms_sum = response_ms_sum + ?,"
                " last_response_ms = coalesce(?, last_response_ms),"
                " last_triggered_at = max(coalesce(last_triggered_at, 0), ?) WHERE id = ?",
                counted.total, counted.failed, counted.responses, counted.response_ms_sum, counted.last_response_ms,
                counted.last_triggered_at, webhook_id);
        }
    }

 private:
    struct Counted {
        std::int64_t total = 0, failed = 0, responses = 0, response_ms_sum = 0;
        std::optional<std::int64_t> last_response_ms;
        TimeMs last_triggered_at = 0;
    };

    // False when the delivery is finished already, cancelled or gone.
    bool update_delivery(const AttemptRecord& attempt) {
        constexpr const char* kFinish =
            "UPDATE deliveries SET state = ?1, status = ?2, attempts = attempts + ?3, due_at = coalesce(?4, due_at),"
            " updated_at = ?5 WHERE id = ?6 AND state IN ('queued', 'in_flight', 'retrying', 'blocked')";
        constexpr const char* kInterrupt =
            "UPDATE deliveries SET state = iif(attempts > 0, 'retrying', 'queued'), due_at = ?1, updated_at = ?2"
            " WHERE id = ?3 AND state IN ('queued', 'in_flight', 'retrying', 'blocked')";
        auto finish = [&](std::string_view state, std::string_view status, int finished,
                          std::optional<std::int64_t> due_at) {
            db_.execute(kFinish, state, status, finished, due_at, attempt.finished_at, attempt.delivery_id);
        };
        switch (attempt.outcome) {
            case AttemptOutcome::kSuccess:
                finish("success", "success", 1, std::nullopt);
                break;
            case AttemptOutcome::kRetry:
                finish("retrying", "failed", 1, attempt.next_attempt_at);
                break;
            case AttemptOutcome::kDead:
                finish("dead", "failed", 1, std::nullopt);
                break;
            case AttemptOutcome::kCancelled:
                finish("cancelled", "cancelled", 0, std::nullopt);
                break;
            case AttemptOutcome::kInterrupted:
                db_.execute(kInterrupt, attempt.next_attempt_at > 0 ? attempt.next_attempt_at : attempt.finished_at,
                            attempt.finished_at, attempt.delivery_id);
                break;
        }
        return db_.changes() > 0;
    }

    void insert_attempt(const AttemptRecord& attempt) {
        bool goes_on = attempt.outcome == AttemptOutcome::kRetry || attempt.outcome == AttemptOutcome::kInterrupted;
        std::string id = uuid7(attempt.finished_at);
        db_.execute(
            "INSERT INTO attempts (id, delivery_id, number, outcome, started_at, finished_at, duration_ms, status_code,"
            " error_type, error_message, request_headers, response_headers, response_body, next_attempt_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            id, attempt.delivery_id, attempt.number, outcome_name(attempt.outcome), attempt.started_at,
            attempt.finished_at, attempt.duration_ms, attempt.status_code, attempt.error_type, attempt.error_message,
            attempt.request_headers, attempt.response_headers, attempt.response_body,
            goes_on ? std::optional(attempt.next_attempt_at) : std::nullopt);
    }

    void count(const AttemptRecord& attempt) {
        if (attempt.outcome == AttemptOutcome::kCancelled || attempt.outcome == AttemptOutcome::kInterrupted) return;
        Counted& counted = counted_[attempt.webhook_id];
        counted.last_triggered_at = std::max(counted.last_triggered_at, attempt.finished_at);
        if (attempt.status_code > 0) {
            counted.responses++;
            counted.response_ms_sum += attempt.duration_ms;
            counted.last_response_ms = attempt.duration_ms;
        }
        if (attempt.outcome == AttemptOutcome::kRetry) return;
        counted.total++;
        if (attempt.outcome == AttemptOutcome::kDead) counted.failed++;
    }

    SqliteStore& store_;
    SqliteConnection& db_;
    std::unordered_map<std::string_view, Counted> counted_;
};

Result<RecordOutcome> SqliteStore::record_attempts(std::span<const AttemptRecord> attempts, Epochs) {
    if (attempts.empty()) return RecordOutcome{};
    return write([&] {
        SqliteResults results(*this);
        for (const AttemptRecord& attempt : attempts) results.record(attempt);
        results.save_counters();
        return RecordOutcome{};
    });
}

Result<std::size_t> SqliteStore::recover_in_flight(std::span<const int>, Epochs, TimeMs now) {
    return write([&] {
        std::vector<AttemptRecord> interrupted;
        auto rows = db_.query(
            "SELECT id, webhook_id, organization_id, attempts, updated_at FROM deliveries"
            " INDEXED BY deliveries_in_flight WHERE state = 'in_flight'");
        while (rows.step()) {
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
        SqliteResults results(*this);
        for (const AttemptRecord& attempt : interrupted) results.record(attempt);
        return interrupted.size();
    });
}

// ---- reading --------------------------------------------------------------------------------

Result<std::vector<Delivery>> SqliteStore::deliveries_of_event(std::string_view org, std::string_view event_id) {
    return guarded([&] {
        std::vector<Delivery> deliveries;
        auto rows = db_.query(
            "SELECT id, webhook_id, event_id, state, status, attempts, due_at, created_at, updated_at FROM deliveries"
            " WHERE event_id = ? AND organization_id = ? ORDER BY id",
            event_id, org);
        while (rows.step()) {
            deliveries.push_back({.id = rows.text(0),
                                  .webhook_id = rows.text(1),
                                  .event_id = rows.text(2),
                                  .state = rows.text(3),
                                  .status = rows.text(4),
                                  .kind = "event",
                                  .ordering_key = {},
                                  .attempts = static_cast<int>(rows.number(5)),
                                  .due_at = rows.number(6),
                                  .created_at = rows.number(7),
                                  .updated_at = rows.number(8)});
        }
        return deliveries;
    });
}

Result<std::vector<AttemptRecord>> SqliteStore::attempts_of_delivery(std::string_view org,
                                                                     std::string_view delivery_id) {
    return read([&] {
        auto delivery =
            db_.query("SELECT webhook_id FROM deliveries WHERE id = ? AND organization_id = ?", delivery_id, org);
        if (!delivery.step()) throw_not_found("delivery", delivery_id);
        std::vector<AttemptRecord> attempts;
        auto rows = db_.query(
            "SELECT number, started_at, finished_at, duration_ms, status_code, error_type, error_message,"
            " request_headers, response_headers, response_body, outcome, coalesce(next_attempt_at, 0) FROM attempts"
            " WHERE delivery_id = ? ORDER BY rowid",
            delivery_id);
        while (rows.step()) {
            attempts.push_back({.delivery_id = std::string(delivery_id),
                                .webhook_id = delivery.text(0),
                                .org = std::string(org),
                                .number = static_cast<int>(rows.number(0)),
                                .started_at = rows.number(1),
                                .finished_at = rows.number(2),
                                .duration_ms = rows.number(3),
                                .status_code = static_cast<int>(rows.number(4)),
                                .error_type = rows.text(5),
                                .error_message = rows.text(6),
                                .request_headers = rows.text(7),
                                .response_headers = rows.text(8),
                                .response_body = rows.text(9),
                                .outcome = outcome_of(rows.view(10)),
                                .next_attempt_at = rows.number(11),
                                .disable_webhook_reason = {}});
        }
        return attempts;
    });
}

}  // namespace headgate
