// What became of deliveries: attempts, and what follows from them. Input: the dispatcher's results. Every lane that is
// no longer ours is left alone: its new owner has sent these deliveries again. Three round trips for a batch: the lanes
// and what has to be locked; the locks with the rows; all changes and the commit.
#include "sidecar/store/postgres_results.h"

#include <algorithm>

#include "sidecar/base/failpoint.h"
#include "sidecar/store/id_source.h"
#include "sidecar/store/lane.h"
#include "sidecar/store/postgres_text.h"
#include "sidecar/store/system_events.h"

namespace headgate {

RecordOutcome PostgresResults::record(std::span<const AttemptRecord> attempts) {
    keep_held(attempts);
    if (attempts_.empty()) return outcome_;
    lock_rows();
    for (const AttemptRecord* attempt : attempts_) apply(*attempt);
    send_attempts();
    send_deliveries();
    send_released();
    send_replays();
    send_webhooks();
    send_disabled();
    rollups_.send(db_);
    return outcome_;
}

std::size_t PostgresResults::take_released() {
    return released_ticket_ ? static_cast<std::size_t>(db_.take(*released_ticket_).affected()) : 0;
}

// ---- locks ----------------------------------------------------------------------------------

void PostgresResults::keep_held(std::span<const AttemptRecord> attempts) {
    store_.release_doubtful(lane_epochs_);
    std::set<int> lanes;
    for (const AttemptRecord& attempt : attempts) lanes.insert(lane_of(attempt.webhook_id));
    std::size_t lane_rows = store_.send_lane_locks({lanes.begin(), lanes.end()});
    PgArray webhooks = PgArray::texts();
    PgArray deliveries = PgArray::texts();
    for (const AttemptRecord& attempt : attempts) {
        webhooks.add(attempt.webhook_id);
        deliveries.add(attempt.delivery_id);
    }
    std::size_t webhook_rows =
        db_.send("SELECT id, organization_id, failing_since_at FROM webhooks WHERE id = ANY ($1)", webhooks);
    std::size_t ordered_rows =
        db_.send("SELECT webhook_id, ordering_key FROM deliveries WHERE id = ANY ($1) AND holds_order = 1", deliveries);
    db_.flush();

    std::vector<bool> held = PostgresStore::held_lanes(db_.take(lane_rows), lane_epochs_);
    std::map<std::string, std::pair<std::string, std::optional<TimeMs>>> known;
    PgResult rows = db_.take(webhook_rows);
    while (rows.step()) known[rows.text(0)] = {rows.text(1), rows.optional_number(2)};
    std::set<std::string> orgs;  // whose subscriptions this batch may change
    for (const AttemptRecord& attempt : attempts) {
        const auto lane = static_cast<std::size_t>(lane_of(attempt.webhook_id));
        if (lane >= held.size() || !held[lane]) {
            outcome_.late++;
            continue;
        }
        attempts_.push_back(&attempt);
        webhooks_.try_emplace(attempt.webhook_id);
        deliveries_.try_emplace(attempt.delivery_id);
        auto webhook = known.find(attempt.webhook_id);
        if (webhook == known.end()) continue;
        const auto& [org, failing_since] = webhook->second;
        if (!attempt.disable_webhook_reason.empty() ||
            (failing_since && attempt.finished_at - *failing_since >= kFailingDisabledAfterMs)) {
            orgs.insert(org);
        }
    }
    if (attempts_.empty()) return;
    if (!orgs.empty()) {
        PgArray ids = PgArray::texts();
        for (const std::string& org : orgs) ids.add(org);
        db_.send("SELECT id FROM organizations WHERE id = ANY ($1) ORDER BY id FOR NO KEY UPDATE", ids);
    }
    PgArray ids = PgArray::texts();
    for (const auto& [id, webhook] : webhooks_) ids.add(id);
    webhook_ticket_ = db_.send(
        "SELECT id, organization_id, ordering_policy, is_active = 1 AND deleted_at IS NULL, failing_since_at"
        " FROM webhooks WHERE id = ANY ($1) ORDER BY id FOR NO KEY UPDATE",
        ids);
    std::set<std::pair<std::string, std::string>> ordered;
    PgResult keys = db_.take(ordered_rows);
    while (keys.step()) ordered.emplace(keys.text(0), keys.text(1));
    if (!ordered.empty()) store_.send_heads({ordered.begin(), ordered.end()});
}

void PostgresResults::lock_rows() {
    PgArray ids = PgArray::texts();
    for (const auto& [id, delivery] : deliveries_) ids.add(id);
    std::size_t delivery_rows = db_.send(
        "SELECT d.id, d.state, d.status, d.kind, d.attempts, d.holds_order, d.ordering_key, d.replay_id, d.created_at,"
        " d.due_at, e.type, e.via, e.id FROM deliveries d JOIN events e ON e.id = d.event_id WHERE d.id = ANY ($1)"
        " ORDER BY d.id FOR UPDATE OF d",
        ids);
    db_.flush();
    PgResult rows = db_.take(webhook_ticket_);
    while (rows.step()) {
        WebhookRow& webhook = webhooks_[rows.text(0)];
        webhook.org = rows.text(1);
        webhook.ordering_policy = rows.text(2);
        webhook.is_active = rows.number(3) != 0;
        webhook.failing_since = rows.optional_number(4);
    }
    rows = db_.take(delivery_rows);
    while (rows.step()) {
        deliveries_[rows.text(0)] = {.state = rows.text(1),
                                     .status = rows.text(2),
                                     .kind = rows.text(3),
                                     .ordering_key = rows.text(6),
                                     .replay_id = rows.text(7),
                                     .event_type = rows.text(10),
                                     .via = rows.text(11),
                                     .event_id = rows.text(12),
                                     .attempts = rows.number(4),
                                     .created_at = rows.number(8),
                                     .due_at = rows.number(9),
                                     .holds_order = rows.number(5) != 0};
    }
}

// ---- what attempts change -------------------------------------------------------------------

PostgresResults::Change PostgresResults::change_of(const AttemptRecord& attempt, const DeliveryRow& row) {
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
    return {row.attempts > 0 ? "retrying" : "queued", row.status, 0,
            attempt.next_attempt_at > 0 ? attempt.next_attempt_at : attempt.finished_at};
}

bool PostgresResults::lets_go(const WebhookRow& webhook, const DeliveryRow& row) {
    if (row.state == "success" || row.state == "cancelled") return true;
    if (row.status != "failed") return false;
    return webhook.ordering_policy == "skip" || (webhook.ordering_policy == "dead" && row.state == "dead");
}

void PostgresResults::apply(const AttemptRecord& attempt) {
    DeliveryRow& row = deliveries_[attempt.delivery_id];
    // Purged meanwhile: there is nothing to attach the row to, and the others must be kept.
    if (row.event_id.empty()) return;
    if (attempt.is_kept) kept_.push_back(&attempt);
    if (row.state == "success" || row.state == "dead" || row.state == "cancelled") return;
    WebhookRow& webhook = webhooks_[attempt.webhook_id];
    const std::string status_before = row.status;
    const Change change = change_of(attempt, row);
    const int finished = change.finished;
    row.status = std::string(change.status);
    row.state = change.state;
    row.attempts += finished;
    if (change.due_at) row.due_at = *change.due_at;
    row.updated_at = attempt.finished_at;
    row.is_changed = true;
    if (row.holds_order && lets_go(webhook, row)) {
        row.holds_order = false;
        released_.push_back({attempt.webhook_id, row.ordering_key, attempt.finished_at});
    }
    count(attempt, row, status_before, finished);
    const bool is_operational = row.via == kViaSystem;
    if (attempt.outcome == AttemptOutcome::kDead && !is_operational && row.kind != "test") {
        store_.send_system_event(attempt.org, kDeliveryExhaustedType,
                                 delivery_exhausted_payload(attempt, row.event_id, row.event_type),
                                 attempt.finished_at);
    }
    if (!attempt.disable_webhook_reason.empty()) {
        note_disable(webhook, attempt.disable_webhook_reason, attempt.finished_at, !is_operational);
    }
}

// Counters count deliveries, and those of events only.
void PostgresResults::count(const AttemptRecord& attempt, const DeliveryRow& row, std::string_view status_before,
                            int finished) {
    const bool is_finished = finished > 0;
    if (row.kind == "event") {
        PgRollups::Change& change = rollups_.of(attempt.webhook_id, row.created_at, row.event_type);
        PgRollups::move(change, status_before, row.status);
        if (is_finished && attempt.number > 1) change.retries++;
        if (is_finished && attempt.status_code > 0) {
            change.responses++;
            change.response_ms_sum += attempt.duration_ms;
        }
    } else if (!row.replay_id.empty() && (row.state == "success" || row.state == "dead")) {
        auto& [succeeded, failed] = replays_[row.replay_id];
        (row.state == "success" ? succeeded : failed)++;
    }
    if (!is_finished || row.kind == "test") return;
    WebhookRow& webhook = webhooks_[attempt.webhook_id];
    webhook.has_finished = true;
    webhook.last_triggered_at = std::max(webhook.last_triggered_at, attempt.finished_at);
    if (attempt.outcome == AttemptOutcome::kSuccess) {
        webhook.failing_since.reset();
    } else {
        if (!webhook.failing_since) webhook.failing_since = attempt.finished_at;
        webhook.failed_at = std::max(webhook.failed_at, attempt.finished_at);
        webhook.raises_event = webhook.raises_event || row.via != kViaSystem;
    }
    if (row.kind != "event") return;
    if (attempt.status_code > 0) {
        webhook.responses++;
        webhook.response_ms_sum += attempt.duration_ms;
        webhook.last_response_ms = attempt.duration_ms;
    }
    if (attempt.outcome == AttemptOutcome::kRetry) return;
    webhook.total++;
    if (attempt.outcome == AttemptOutcome::kDead) webhook.failed++;
}

void PostgresResults::note_disable(WebhookRow& webhook, std::string_view reason, TimeMs now, bool raises_event) {
    if (!webhook.is_active || !webhook.disable_reason.empty()) return;
    webhook.disable_reason = reason;
    webhook.disabled_at = now;
    webhook.raises_event = raises_event;
}

// ---- rows -----------------------------------------------------------------------------------

void PostgresResults::send_attempts() {
    if (kept_.empty()) return;
    PgArray texts[8] = {PgArray::texts(), PgArray::texts(), PgArray::texts(), PgArray::texts(),
                        PgArray::texts(), PgArray::texts(), PgArray::texts(), PgArray::texts()};
    PgArray numbers[6] = {PgArray::numbers(), PgArray::numbers(), PgArray::numbers(),
                          PgArray::numbers(), PgArray::numbers(), PgArray::numbers()};
    IdSource ids(0);
    for (const AttemptRecord* attempt : kept_) {
        const bool goes_on =
            attempt->outcome == AttemptOutcome::kRetry || attempt->outcome == AttemptOutcome::kInterrupted;
        texts[0].add(ids.next_at(attempt->finished_at));
        texts[1].add(attempt->delivery_id);
        texts[2].add(outcome_name(attempt->outcome));
        texts[3].add(storable_text(attempt->error_type));
        texts[4].add(storable_text(attempt->error_message));
        texts[5].add(storable_text(attempt->request_headers));
        texts[6].add(storable_text(attempt->response_headers));
        texts[7].add(storable_text(attempt->response_body));
        numbers[0].add(attempt->number);
        numbers[1].add(attempt->started_at);
        numbers[2].add(attempt->finished_at);
        numbers[3].add(attempt->duration_ms);
        numbers[4].add(attempt->status_code);
        numbers[5].add(goes_on ? std::optional(attempt->next_attempt_at) : std::nullopt);
    }
    db_.send(
        "INSERT INTO attempts (id, delivery_id, outcome, error_type, error_message, request_headers, response_headers,"
        " response_body, number, started_at, finished_at, duration_ms, status_code, next_attempt_at)"
        " SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],"
        " $8::text[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[], $14::bigint[])",
        texts[0], texts[1], texts[2], texts[3], texts[4], texts[5], texts[6], texts[7], numbers[0], numbers[1],
        numbers[2], numbers[3], numbers[4], numbers[5]);
}

void PostgresResults::send_deliveries() {
    PgArray texts[3] = {PgArray::texts(), PgArray::texts(), PgArray::texts()};
    PgArray numbers[4] = {PgArray::numbers(), PgArray::numbers(), PgArray::numbers(), PgArray::numbers()};
    for (const auto& [id, row] : deliveries_) {
        if (!row.is_changed) continue;
        texts[0].add(id);
        texts[1].add(row.state);
        texts[2].add(row.status);
        const std::int64_t values[4] = {row.attempts, row.due_at, row.holds_order ? 1 : 0, row.updated_at};
        for (std::size_t i = 0; i < 4; i++) numbers[i].add(values[i]);
    }
    if (texts[0].empty()) return;
    db_.send(
        "UPDATE deliveries d SET state = n.state, status = n.status, attempts = n.attempts, due_at = n.due_at,"
        " holds_order = n.holds_order, updated_at = n.updated_at"
        " FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[])"
        " AS n (id, state, status, attempts, due_at, holds_order, updated_at) WHERE d.id = n.id",
        texts[0], texts[1], texts[2], numbers[0], numbers[1], numbers[2], numbers[3]);
}

void PostgresResults::send_released() {
    if (released_.empty()) return;
    std::vector<PostgresStore::OrderingKey> keys;
    keys.reserve(released_.size());
    for (const Released& head : released_) keys.push_back({head.webhook_id, head.ordering_key, head.now});
    released_ticket_ = store_.send_next_heads(keys);
}

void PostgresResults::send_replays() {
    for (const auto& [id, counts] : replays_) {
        db_.send("UPDATE replays SET succeeded = succeeded + $1, failed = failed + $2 WHERE id = $3", counts.first,
                 counts.second, id);
    }
}

void PostgresResults::send_webhooks() {
    PgArray ids = PgArray::texts();
    PgArray numbers[7] = {PgArray::numbers(), PgArray::numbers(), PgArray::numbers(), PgArray::numbers(),
                          PgArray::numbers(), PgArray::numbers(), PgArray::numbers()};
    for (auto& [id, webhook] : webhooks_) {
        if (!webhook.has_finished || webhook.org.empty()) continue;
        ids.add(id);
        const std::int64_t counts[4] = {webhook.total, webhook.failed, webhook.responses, webhook.response_ms_sum};
        for (std::size_t i = 0; i < 4; i++) numbers[i].add(counts[i]);
        numbers[4].add(webhook.last_response_ms);
        numbers[5].add(webhook.last_triggered_at);
        numbers[6].add(webhook.failing_since);
        if (webhook.failing_since && webhook.failed_at - *webhook.failing_since >= kFailingDisabledAfterMs) {
            note_disable(webhook, kFailingReason, webhook.failed_at, webhook.raises_event);
        }
    }
    if (ids.empty()) return;
    db_.send(
        "UPDATE webhooks w SET total_deliveries = w.total_deliveries + n.total,"
        " failed_deliveries = w.failed_deliveries + n.failed, response_count = w.response_count + n.responses,"
        " response_ms_sum = w.response_ms_sum + n.sum, last_response_ms = coalesce(n.last, w.last_response_ms),"
        " last_triggered_at = greatest(coalesce(w.last_triggered_at, 0), n.triggered), failing_since_at = n.failing"
        " FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[],"
        " $8::bigint[]) AS n (id, total, failed, responses, sum, last, triggered, failing) WHERE w.id = n.id",
        ids, numbers[0], numbers[1], numbers[2], numbers[3], numbers[4], numbers[5], numbers[6]);
}

void PostgresResults::send_disabled() {
    for (const auto& [id, webhook] : webhooks_) {
        if (webhook.disable_reason.empty()) continue;
        std::string reason = storable_text(webhook.disable_reason);
        db_.send(
            "UPDATE webhooks SET is_active = 0, disabled_reason = $1, version = version + 1, updated_at = $2"
            " WHERE id = $3",
            reason, webhook.disabled_at, id);
        db_.send("UPDATE organizations SET generation = generation + 1, updated_at = $1 WHERE id = $2",
                 webhook.disabled_at, webhook.org);
        if (webhook.raises_event) {
            store_.send_system_event(webhook.org, kWebhookDisabledType, webhook_disabled_payload(id, reason),
                                     webhook.disabled_at);
        }
    }
}

// ---- the store's side -----------------------------------------------------------------------

void PostgresStore::send_system_event(std::string_view org, std::string_view type, std::string_view payload,
                                      TimeMs now) {
    db_.send("INSERT INTO system_outbox (organization_id, type, payload, created_at) VALUES ($1, $2, $3, $4)", org,
             type, payload, now);
}

std::size_t PostgresStore::send_next_heads(const std::vector<OrderingKey>& keys) {
    PgArray webhooks = PgArray::texts();
    PgArray ordering_keys = PgArray::texts();
    PgArray times = PgArray::numbers();
    for (const OrderingKey& key : keys) {
        webhooks.add(key.webhook_id);
        ordering_keys.add(key.ordering_key);
        times.add(key.now);
    }
    return db_.send(
        "UPDATE deliveries d SET state = CASE WHEN d.attempts > 0 THEN 'retrying' ELSE 'queued' END, holds_order = 1,"
        " due_at = n.now, updated_at = n.now FROM (SELECT next.id, k.now"
        "  FROM unnest($1::text[], $2::text[], $3::bigint[]) AS k (webhook_id, ordering_key, now) CROSS JOIN LATERAL"
        "  (SELECT id FROM deliveries WHERE state = 'blocked' AND webhook_id = k.webhook_id"
        "   AND ordering_key = k.ordering_key ORDER BY shard, stream_ms, stream_seq LIMIT 1) next) n"
        " WHERE d.id = n.id",
        webhooks, ordering_keys, times);
}

Result<RecordOutcome> PostgresStore::record_attempts(std::span<const AttemptRecord> attempts, Epochs lane_epochs) {
    if (attempts.empty()) return RecordOutcome{};
    std::optional<PostgresResults> results;
    auto outcome = write([&] {
        auto recorded = results.emplace(*this, lane_epochs).record(attempts);
        failpoint("in_record");
        return recorded;
    });
    if (outcome) outcome->released = results->take_released();
    return outcome;
}

Result<std::size_t> PostgresStore::recover_in_flight(std::span<const int> lanes, Epochs lane_epochs, TimeMs now) {
    std::vector<int> sorted(lanes.begin(), lanes.end());
    std::sort(sorted.begin(), sorted.end());
    return write([&] {
        std::size_t lane_rows = send_lane_locks(sorted);
        std::size_t stuck_rows = db_.send(
            "SELECT id, webhook_id, organization_id, attempts, updated_at FROM deliveries"
            " WHERE state = 'in_flight' AND lane = ANY ($1)",
            std::span<const int>(sorted));
        db_.flush();
        std::vector<bool> held = held_lanes(db_.take(lane_rows), lane_epochs);
        for (int lane : sorted) {
            if (static_cast<std::size_t>(lane) >= held.size() || !held[static_cast<std::size_t>(lane)]) {
                throw_lane_lost(lane);
            }
        }
        std::vector<AttemptRecord> interrupted;
        PgResult rows = db_.take(stuck_rows);
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
        if (!interrupted.empty()) PostgresResults(*this, lane_epochs).record(interrupted);
        failpoint("in_recover");
        return interrupted.size();
    });
}

}  // namespace headgate
