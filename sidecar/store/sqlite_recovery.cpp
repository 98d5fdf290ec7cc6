// Deliveries as an operator sees and handles them: lists, attempts, retry and cancel.
// Next file: sqlite_replay.cpp, many of them at once.
#include <algorithm>
#include <limits>

#include "common/event_id.h"
#include "sidecar/store/sqlite_store.h"

namespace headgate {
namespace {

// The smallest id that a time can have: ids are made with their row's creation time.
std::string id_floor(TimeMs at) {
    char text[kEventIdBytes];
    uuid7_format(std::max<TimeMs>(at, 0), {}, text);
    return {text, kEventIdBytes};
}

constexpr const char* kOneDelivery =
    "SELECT " HEADGATE_DELIVERY_COLUMNS
    ", rowid, holds_order, replay_id FROM deliveries WHERE id = ? AND organization_id = ?";

// ?1 webhook or event, ?2 organization, ?3 the id before which it begins, ?4 the smallest, ?5 state, ?6 since, ?7
// until.
#define HEADGATE_DELIVERY_PAGE                                                                            \
    " AND organization_id = ?2 AND id < ?3 AND id >= ?4 AND (?5 = '' OR state = ?5) AND created_at >= ?6" \
    " AND created_at < ?7 ORDER BY id DESC LIMIT ?8"
constexpr const char* kPageOfWebhook = "SELECT " HEADGATE_DELIVERY_COLUMNS
                                       " FROM deliveries INDEXED BY deliveries_webhook"
                                       " WHERE webhook_id = ?1" HEADGATE_DELIVERY_PAGE;
constexpr const char* kDeadOfWebhook = "SELECT " HEADGATE_DELIVERY_COLUMNS
                                       " FROM deliveries INDEXED BY deliveries_dead"
                                       " WHERE state = 'dead' AND webhook_id = ?1" HEADGATE_DELIVERY_PAGE;
constexpr const char* kPageOfEvent = "SELECT " HEADGATE_DELIVERY_COLUMNS
                                     " FROM deliveries INDEXED BY deliveries_event"
                                     " WHERE event_id = ?1 AND (?9 = '' OR webhook_id = ?9)" HEADGATE_DELIVERY_PAGE;

}  // namespace

// ---- reading --------------------------------------------------------------------------------

Result<Delivery> SqliteStore::get_delivery(std::string_view org, std::string_view id) {
    return guarded([&] { return delivery_by_hand(org, id).delivery; });
}

Result<std::vector<Delivery>> SqliteStore::list_deliveries(std::string_view org, const DeliveryQuery& query) {
    return read([&] {
        const TimeMs since = query.since.value_or(0);
        const TimeMs until = query.until.value_or(std::numeric_limits<TimeMs>::max());
        // Behind every id, as no hexadecimal digit is.
        std::string before = query.until ? id_floor(until) : "~";
        if (!query.after.empty()) before = std::min(before, query.after);
        const std::string floor = id_floor(since);
        std::vector<Delivery> page;
        auto add = [&](const char* sql, std::string_view of) {
            auto rows = db_.query(sql, of, org, before, floor, query.state, since, until, query.limit);
            while (rows.step()) page.push_back(read_delivery(rows));
        };
        const char* of_webhook = query.state == "dead" ? kDeadOfWebhook : kPageOfWebhook;
        if (!query.event_id.empty()) {
            auto rows = db_.query(kPageOfEvent, query.event_id, org, before, floor, query.state, since, until,
                                  query.limit, query.webhook_id);
            while (rows.step()) page.push_back(read_delivery(rows));
        } else if (!query.webhook_id.empty()) {
            add(of_webhook, query.webhook_id);
        } else {
            // A page of each webhook, and the newest of these: there is no index by organization, because each
            // delivery would pay for it.
            auto webhooks = db_.query("SELECT id FROM webhooks WHERE organization_id = ?", org);
            while (webhooks.step()) {
                add(of_webhook, webhooks.view(0));
                std::sort(page.begin(), page.end(), [](const auto& a, const auto& b) { return a.id > b.id; });
                const auto limit = static_cast<std::size_t>(std::max(query.limit, 0));
                if (page.size() > limit) page.resize(limit);
            }
        }
        return page;
    });
}

Result<std::vector<AttemptRecord>> SqliteStore::attempts_of_delivery(std::string_view org,
                                                                     std::string_view delivery_id) {
    return read([&] {
        auto delivery =
            db_.query("SELECT webhook_id FROM deliveries WHERE id = ? AND organization_id = ?", delivery_id, org);
        if (!delivery.step()) throw_not_found("delivery", delivery_id);
        std::vector<AttemptRecord> attempts;
        auto rows = db_.query("SELECT " HEADGATE_ATTEMPT_COLUMNS " FROM attempts WHERE delivery_id = ? ORDER BY rowid",
                              delivery_id);
        while (rows.step()) {
            attempts.push_back(read_attempt(rows, std::string(delivery_id), delivery.text(0), org));
        }
        return attempts;
    });
}

// ---- by hand --------------------------------------------------------------------------------

SqliteStore::ByHand SqliteStore::delivery_by_hand(std::string_view org, std::string_view id) {
    auto row = db_.query(kOneDelivery, id, org);
    if (!row.step()) throw_not_found("delivery", id);
    return {read_delivery(row), row.number(11), row.number(12) != 0, row.text(13)};
}

// What is dead was counted as a failure: it no longer is one.
void SqliteStore::uncount_dead(const Delivery& delivery, std::string_view replay_id) {
    if (delivery.state != "dead") return;
    if (delivery.kind == "event") {
        db_.execute(
            "UPDATE webhooks SET total_deliveries = total_deliveries - 1, failed_deliveries = failed_deliveries - 1"
            " WHERE id = ?",
            delivery.webhook_id);
    } else if (!replay_id.empty()) {
        db_.execute("UPDATE replays SET failed = failed - 1 WHERE id = ?", replay_id);
    }
}

void SqliteStore::set_by_hand(const Delivery& delivery, std::string_view state, std::string_view status, TimeMs due_at,
                              TimeMs now) {
    db_.execute("UPDATE deliveries SET state = ?, status = ?, due_at = ?, updated_at = ? WHERE id = ?", state, status,
                due_at, now, delivery.id);
    if (delivery.kind != "event" || status == delivery.status) return;
    auto event = db_.query("SELECT type FROM events WHERE id = ?", delivery.event_id);
    if (!event.step()) return;
    SqliteRollups rollups(db_);
    SqliteRollups::move(rollups.of(delivery.webhook_id, delivery.created_at, event.view(0)), delivery.status, status);
    rollups.save();
}

Result<Delivery> SqliteStore::retry_delivery(std::string_view org, std::string_view id, TimeMs now) {
    return write([&] {
        const auto [delivery, rowid, holds_order, replay_id] = delivery_by_hand(org, id);
        if (delivery.state == "in_flight" || delivery.state == "success") {
            throw_conflict("delivery " + delivery.id + " is " + delivery.state);
        }
        if (delivery.state == "blocked") {
            throw_conflict("delivery " + delivery.id + " waits for an earlier one of its ordering key");
        }
        if (!db_.query("SELECT 1 FROM webhooks WHERE id = ? AND deleted_at IS NULL", delivery.webhook_id).step()) {
            throw_conflict("webhook " + delivery.webhook_id + " was deleted");
        }
        uncount_dead(delivery, replay_id);
        const bool was_tried = delivery.attempts > 0;
        set_by_hand(delivery, was_tried ? "retrying" : "queued", was_tried ? "failed" : "pending", now, now);
        return delivery_by_hand(org, id).delivery;
    });
}

Result<Delivery> SqliteStore::cancel_delivery(std::string_view org, std::string_view id, TimeMs now) {
    return write([&] {
        const auto [delivery, rowid, holds_order, replay_id] = delivery_by_hand(org, id);
        if (delivery.state == "in_flight" || delivery.state == "success") {
            throw_conflict("delivery " + delivery.id + " is " + delivery.state);
        }
        if (delivery.state == "cancelled") return delivery;
        uncount_dead(delivery, replay_id);
        set_by_hand(delivery, "cancelled", "cancelled", delivery.due_at, now);
        if (holds_order) release_order(rowid, delivery.webhook_id, delivery.ordering_key, now);
        return delivery_by_hand(org, id).delivery;
    });
}

}  // namespace headgate
