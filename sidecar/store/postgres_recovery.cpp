// Deliveries as an operator handles them: retry and cancel by hand, spreading of what is overdue. Next file:
// postgres_replays.cpp, many of them at once.
#include <algorithm>

#include "sidecar/store/lane.h"
#include "sidecar/store/postgres_parts.h"
#include "sidecar/store/postgres_store.h"

namespace headgate {

// In the order of locks: the webhook, its ordering key, the delivery.
PostgresStore::ByHand PostgresStore::lock_delivery(std::string_view org, std::string_view id) {
    const Delivery seen = delivery_row(org, id);
    db_.send("SELECT id FROM webhooks WHERE id = $1 FOR NO KEY UPDATE", seen.webhook_id);
    if (!seen.ordering_key.empty()) send_heads({{seen.webhook_id, seen.ordering_key}});
    auto row = db_.query("SELECT holds_order, replay_id FROM deliveries WHERE id = $1 FOR UPDATE", id);
    if (!row.step()) throw_not_found("delivery", id);
    return {delivery_row(org, id), row.number(0) != 0, row.text(1)};
}

// What is dead was counted as a failure: it no longer is one.
void PostgresStore::uncount_dead(const ByHand& row) {
    if (row.delivery.state != "dead") return;
    if (row.delivery.kind == "event") {
        db_.send(
            "UPDATE webhooks SET total_deliveries = total_deliveries - 1, failed_deliveries = failed_deliveries - 1"
            " WHERE id = $1",
            row.delivery.webhook_id);
    } else if (!row.replay_id.empty()) {
        db_.send("UPDATE replays SET failed = failed - 1 WHERE id = $1", row.replay_id);
    }
}

void PostgresStore::set_by_hand(const Delivery& delivery, std::string_view state, std::string_view status,
                                TimeMs due_at, TimeMs now) {
    db_.send("UPDATE deliveries SET state = $1, status = $2, due_at = $3, updated_at = $4 WHERE id = $5", state, status,
             due_at, now, delivery.id);
    if (delivery.kind != "event" || status == delivery.status) return;
    auto event = db_.query("SELECT type FROM events WHERE id = $1", delivery.event_id);
    if (!event.step()) return;
    PgRollups rollups;
    PgRollups::move(rollups.of(delivery.webhook_id, delivery.created_at, event.view(0)), delivery.status, status);
    rollups.send(db_);
}

Result<Delivery> PostgresStore::retry_delivery(std::string_view org, std::string_view id, TimeMs now) {
    return write([&] {
        const ByHand row = lock_delivery(org, id);
        const Delivery& delivery = row.delivery;
        if (delivery.state == "in_flight" || delivery.state == "success") {
            throw_conflict("delivery " + delivery.id + " is " + delivery.state);
        }
        if (delivery.state == "blocked") {
            throw_conflict("delivery " + delivery.id + " waits for an earlier one of its ordering key");
        }
        if (!db_.query("SELECT 1 FROM webhooks WHERE id = $1 AND deleted_at IS NULL", delivery.webhook_id).step()) {
            throw_conflict("webhook " + delivery.webhook_id + " was deleted");
        }
        uncount_dead(row);
        const bool was_tried = delivery.attempts > 0;
        set_by_hand(delivery, was_tried ? "retrying" : "queued", was_tried ? "failed" : "pending", now, now);
        return delivery_row(org, id);
    });
}

Result<Delivery> PostgresStore::cancel_delivery(std::string_view org, std::string_view id, TimeMs now) {
    return write([&] {
        const ByHand row = lock_delivery(org, id);
        const Delivery& delivery = row.delivery;
        if (delivery.state == "in_flight" || delivery.state == "success") {
            throw_conflict("delivery " + delivery.id + " is " + delivery.state);
        }
        if (delivery.state == "cancelled") return delivery;
        uncount_dead(row);
        set_by_hand(delivery, "cancelled", "cancelled", delivery.due_at, now);
        if (row.holds_order) {
            db_.send("UPDATE deliveries SET holds_order = 0 WHERE id = $1", id);
            send_next_heads({{delivery.webhook_id, delivery.ordering_key, now}});
        }
        return delivery_row(org, id);
    });
}

Result<std::size_t> PostgresStore::spread_overdue(std::span<const int> lanes, Epochs lane_epochs, TimeMs now,
                                                  TimeMs overdue_ms, TimeMs spread_ms) {
    constexpr std::size_t kBatch = 5000;
    struct Overdue {
        std::string id;
        TimeMs due_at = 0;
        int lane = 0;
    };
    std::vector<int> sorted(lanes.begin(), lanes.end());
    std::sort(sorted.begin(), sorted.end());
    auto overdue = guarded([&] {
        PgArray ids = PgArray::texts();
        for (const auto& [webhook_id, first_due_at] : waiting_webhooks(lane_epochs)) {
            if (first_due_at >= now - overdue_ms) break;
            if (std::binary_search(sorted.begin(), sorted.end(), lane_of(webhook_id))) ids.add(webhook_id);
        }
        std::vector<Overdue> rows;
        auto due = db_.query(
            "SELECT id, due_at, lane FROM deliveries WHERE state IN ('queued', 'retrying') AND webhook_id = ANY ($1)"
            " AND due_at < $2 ORDER BY due_at, id",
            ids, now - overdue_ms);
        rows.reserve(static_cast<std::size_t>(due.rows()));
        while (due.step()) rows.push_back({due.text(0), due.number(1), static_cast<int>(due.number(2))});
        return rows;
    });
    if (!overdue) return tl::unexpected<Error>(overdue.error());
    // In several transactions: a hundred thousand rows must not hold back those who want to write meanwhile. Whoever
    // was sent, cancelled or spread since is left alone.
    const auto total = static_cast<std::int64_t>(overdue->size());
    std::size_t spread = 0;
    for (std::size_t start = 0; start < overdue->size(); start += kBatch) {
        const std::size_t end = std::min(start + kBatch, overdue->size());
        auto written = write([&] {
            std::vector<bool> held = held_lanes_now(sorted, lane_epochs);
            PgArray ids = PgArray::texts();
            PgArray before = PgArray::numbers();
            PgArray after = PgArray::numbers();
            for (std::size_t index = start; index < end; index++) {
                const Overdue& row = (*overdue)[index];
                if (!held[static_cast<std::size_t>(row.lane)]) {
                    throw PgError(
                        {ErrorCode::kLeaseLost, "the lease of lane " + std::to_string(row.lane) + " is not held"});
                }
                ids.add(row.id);
                before.add(row.due_at);
                after.add(now + spread_ms * static_cast<std::int64_t>(index) / total);
            }
            return static_cast<std::size_t>(db_.execute(
                "UPDATE deliveries d SET due_at = n.after FROM unnest($1::text[], $2::bigint[], $3::bigint[])"
                " AS n (id, before, after) WHERE d.id = n.id AND d.due_at = n.before"
                " AND d.state IN ('queued', 'retrying')",
                ids, before, after));
        });
        if (!written) return tl::unexpected<Error>(written.error());
        spread += *written;
    }
    auto mended = mend_times_ahead(sorted, lane_epochs, now);
    if (!mended) return mended;
    return spread + *mended;
}

Result<std::size_t> PostgresStore::mend_times_ahead(const std::vector<int>& lanes, Epochs lane_epochs, TimeMs now) {
    constexpr std::int64_t kBatch = 5000;
    std::size_t mended = 0;
    for (std::int64_t changed = kBatch; changed == kBatch; mended += static_cast<std::size_t>(changed)) {
        auto written = write([&] {
            std::vector<bool> held = held_lanes_now(lanes, lane_epochs);
            PgArray ids = PgArray::texts();
            for (const auto& [webhook_id, first_due_at] : waiting_webhooks(lane_epochs)) {
                const int lane = lane_of(webhook_id);
                if (!std::binary_search(lanes.begin(), lanes.end(), lane)) continue;
                if (!held[static_cast<std::size_t>(lane)]) {
                    throw PgError(
                        {ErrorCode::kLeaseLost, "the lease of lane " + std::to_string(lane) + " is not held"});
                }
                ids.add(webhook_id);
            }
            return db_.execute(
                "UPDATE deliveries d SET due_at = $1 + greatest(d.due_at - d.updated_at, 0), updated_at = $1 FROM"
                " (SELECT id FROM deliveries WHERE state IN ('queued', 'retrying') AND webhook_id = ANY ($2)"
                "  AND due_at > $3 AND updated_at > $3 ORDER BY id LIMIT $4 FOR UPDATE) n WHERE d.id = n.id",
                now, ids, now + kClockAheadMs, kBatch);
        });
        if (!written) return tl::unexpected<Error>(written.error());
        changed = *written;
    }
    return mended;
}

}  // namespace headgate
