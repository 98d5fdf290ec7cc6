// Which deliveries are due, and claiming them. Input: the dispatcher's questions.
#include <algorithm>
#include <unordered_map>

#include "sidecar/store/lane.h"
#include "sidecar/store/postgres_store.h"

namespace headgate {
namespace {

// The first waiting delivery of each webhook that has one: a loose scan over deliveries_waiting, one step for each
// webhook, however many rows each has.
constexpr const char* kWaitingWebhooks =
    "WITH RECURSIVE first AS ("
    " (SELECT webhook_id, due_at FROM deliveries WHERE state IN ('queued', 'retrying')"
    "  ORDER BY webhook_id, due_at LIMIT 1)"
    " UNION ALL SELECT d.webhook_id, d.due_at FROM first, LATERAL (SELECT webhook_id, due_at FROM deliveries"
    "  WHERE state IN ('queued', 'retrying') AND webhook_id > first.webhook_id"
    "  ORDER BY webhook_id, due_at LIMIT 1) d)"
    " SELECT f.webhook_id, f.due_at FROM first f JOIN webhooks w ON w.id = f.webhook_id"
    " JOIN organizations o ON o.id = w.organization_id"
    " WHERE w.is_active = 1 AND o.is_suspended = 0 AND o.deleted_at IS NULL ORDER BY f.due_at, f.webhook_id";

// Of several webhooks at once: their oldest, at most as many as each has room for, and of all these the oldest.
constexpr const char* kChoose =
    "SELECT d.id, d.lane FROM unnest($1::text[], $2::bigint[]) AS w (id, room) CROSS JOIN LATERAL"
    " (SELECT id, due_at, lane FROM deliveries WHERE state IN ('queued', 'retrying') AND webhook_id = w.id"
    "  AND due_at <= $3 ORDER BY due_at, id LIMIT w.room) d ORDER BY d.due_at, d.id LIMIT $4";

bool holds_lane_of(Epochs lane_epochs, std::string_view webhook_id) {
    const auto lane = static_cast<std::size_t>(lane_of(webhook_id));
    return lane < lane_epochs.size() && lane_epochs[lane] != 0;
}

}  // namespace

std::vector<std::pair<std::string, TimeMs>> PostgresStore::waiting_webhooks(Epochs lane_epochs) {
    std::vector<std::pair<std::string, TimeMs>> webhooks;
    auto rows = db_.query(kWaitingWebhooks);
    while (rows.step()) {
        if (holds_lane_of(lane_epochs, rows.view(0))) webhooks.emplace_back(rows.text(0), rows.number(1));
    }
    return webhooks;
}

Result<std::optional<TimeMs>> PostgresStore::next_due_at(Epochs lane_epochs) {
    return guarded([&]() -> std::optional<TimeMs> {
        auto webhooks = waiting_webhooks(lane_epochs);
        if (webhooks.empty()) return std::nullopt;
        return webhooks.front().second;
    });
}

Result<std::optional<TimeMs>> PostgresStore::oldest_due_at(TimeMs now, Epochs lane_epochs,
                                                           std::span<const std::string> held_back) {
    return guarded([&]() -> std::optional<TimeMs> {
        PgArray due = PgArray::texts();
        for (const auto& [webhook_id, first_due_at] : waiting_webhooks(lane_epochs)) {
            if (first_due_at > now) continue;
            if (std::find(held_back.begin(), held_back.end(), webhook_id) != held_back.end()) continue;
            due.add(webhook_id);
        }
        if (due.empty()) return std::nullopt;
        auto row = db_.query(
            "SELECT min(d.due_at) FROM unnest($1::text[]) AS w (id) CROSS JOIN LATERAL (SELECT due_at FROM deliveries"
            " WHERE state IN ('queued', 'retrying') AND webhook_id = w.id AND due_at <= $2 AND state = 'queued'"
            " ORDER BY due_at LIMIT 1) d",
            due, now);
        row.step();
        return row.optional_number(0);
    });
}

Result<std::vector<ClaimedDelivery>> PostgresStore::claim_due(const ClaimRequest& request) {
    if (request.total_max == 0) return std::vector<ClaimedDelivery>();
    std::vector<Doubtful> claimed;
    auto result = write([&] {
        release_doubtful(request.lane_epochs);
        PgArray ids = PgArray::texts();
        PgArray rooms = PgArray::numbers();
        std::vector<int> lanes;
        for (const auto& [webhook_id, first_due_at] : waiting_webhooks(request.lane_epochs)) {
            if (first_due_at > request.now) break;
            int room = request.room(webhook_id);
            if (room <= 0) continue;
            ids.add(webhook_id);
            rooms.add(std::min<std::int64_t>(room, static_cast<std::int64_t>(request.total_max)));
            lanes.push_back(lane_of(webhook_id));
        }
        std::vector<ClaimedDelivery> deliveries;
        if (ids.empty()) return deliveries;
        std::sort(lanes.begin(), lanes.end());
        lanes.erase(std::unique(lanes.begin(), lanes.end()), lanes.end());
        std::size_t lane_rows = send_lane_locks(lanes);
        std::size_t chosen_rows = db_.send(kChoose, ids, rooms, request.now, request.total_max);
        db_.flush();
        std::vector<bool> held = held_lanes(db_.take(lane_rows), request.lane_epochs);
        auto chosen = db_.take(chosen_rows);
        PgArray chosen_ids = PgArray::texts();
        while (chosen.step()) {
            const auto lane = static_cast<std::size_t>(chosen.number(1));
            if (lane >= held.size() || !held[lane]) continue;  // another instance's by now
            chosen_ids.add(chosen.view(0));
            claimed.push_back({chosen.text(0), static_cast<int>(lane), request.lane_epochs[lane]});
        }
        if (chosen_ids.empty()) return deliveries;
        deliveries = claim(chosen_ids, request.now);
        return deliveries;
    });
    if (!result && result.error().code == ErrorCode::kUnavailable) doubt(std::move(claimed));
    return result;
}

// In the order of `ids`. The conditions once more: the API may have cancelled one meanwhile, or a sibling of this
// connection claimed it.
std::vector<ClaimedDelivery> PostgresStore::claim(const PgArray& ids, TimeMs now) {
    auto rows = db_.query(
        "WITH chosen AS MATERIALIZED (SELECT d.id, c.place FROM unnest($1::text[]) WITH ORDINALITY AS c (id, place)"
        "  JOIN deliveries d ON d.id = c.id AND d.state IN ('queued', 'retrying') ORDER BY d.id FOR UPDATE OF d),"
        " claimed AS (UPDATE deliveries d SET state = 'in_flight', updated_at = $2 FROM chosen c WHERE d.id = c.id"
        "  RETURNING c.place, d.id, d.webhook_id, d.event_id, d.generation, d.attempts)"
        " SELECT id, webhook_id, event_id, generation, attempts FROM claimed ORDER BY place",
        ids, now);
    PgArray event_ids = PgArray::texts();
    std::unordered_map<std::string, std::shared_ptr<const Event>> events;  // one for all deliveries of an event
    while (rows.step()) {
        if (events.try_emplace(rows.text(2)).second) event_ids.add(rows.view(2));
    }
    auto event_rows = db_.query("SELECT " HEADGATE_EVENT_COLUMNS " FROM events WHERE id = ANY ($1)", event_ids);
    while (event_rows.step()) events[event_rows.text(0)] = std::make_shared<const Event>(read_event(event_rows));
    std::vector<ClaimedDelivery> claimed;
    claimed.reserve(static_cast<std::size_t>(rows.rows()));
    rows.rewind();
    while (rows.step()) {
        const auto& event = events[rows.text(2)];
        if (!event) throw_not_found("event", rows.view(2));
        claimed.push_back({.delivery_id = rows.text(0),
                           .webhook_id = rows.text(1),
                           .event = event,
                           .generation = rows.number(3),
                           .attempts = static_cast<int>(rows.number(4))});
    }
    return claimed;
}

}  // namespace headgate
