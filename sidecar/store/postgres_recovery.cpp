// Deliveries as an operator handles them: retry and cancel by hand. Next file: postgres_replays.cpp, many of them at
// once.
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

}  // namespace headgate
