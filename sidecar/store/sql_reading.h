// What became of events, and who owns which shard, as it is read; and the acknowledgement. See sql_store.h.
#pragma once

#include "sidecar/store/sql_store.h"

namespace headgate {

template <typename Engine>
Result<std::vector<Event>> SqlStore<Engine>::inbox(std::string_view org, const InboxQuery& query) {
    return engine().guarded([&] {
        constexpr const char* kNewest = "SELECT " HEADGATE_EVENT_COLUMNS
                                        " FROM events WHERE organization_id = $1 AND status = 'pending' ORDER BY "
                                        "created_at DESC, seq DESC LIMIT $2";
        constexpr const char* kOldest =
            "SELECT " HEADGATE_EVENT_COLUMNS
            " FROM events WHERE organization_id = $1 AND status = 'pending' ORDER BY seq LIMIT $2";
        std::vector<Event> events;
        auto rows = db().query(query.ascending ? kOldest : kNewest, org, query.limit);
        while (rows.step()) events.push_back(read_event(rows));
        return events;
    });
}

template <typename Engine>
Event SqlStore<Engine>::event_row(std::string_view org, std::string_view id) {
    auto row =
        db().query("SELECT " HEADGATE_EVENT_COLUMNS " FROM events WHERE id = $1 AND organization_id = $2", id, org);
    if (!row.step()) throw_not_found("event", id);
    return read_event(row);
}

template <typename Engine>
Result<Event> SqlStore<Engine>::get_event(std::string_view org, std::string_view id) {
    return engine().guarded([&] { return event_row(org, id); });
}

template <typename Engine>
Result<Event> SqlStore<Engine>::ack_event(std::string_view org, std::string_view id, TimeMs now) {
    return engine().write([&] {
        db().execute(
            "UPDATE events SET status = 'delivered', updated_at = $1 WHERE id = $2 AND organization_id = $3"
            " AND status = 'pending'",
            now, id, org);
        return event_row(org, id);
    });
}

template <typename Engine>
Result<std::vector<Delivery>> SqlStore<Engine>::deliveries_of_event(std::string_view org, std::string_view event_id) {
    return engine().guarded([&] {
        std::vector<Delivery> deliveries;
        auto rows = db().query("SELECT " HEADGATE_DELIVERY_COLUMNS
                               " FROM deliveries WHERE event_id = $1 AND organization_id = $2 ORDER BY id",
                               event_id, org);
        while (rows.step()) deliveries.push_back(read_delivery(rows));
        return deliveries;
    });
}

template <typename Engine>
Result<std::vector<LedgerEntry>> SqlStore<Engine>::ledger_of_event(std::string_view org, std::string_view event_id) {
    return engine().guarded([&] {
        std::vector<LedgerEntry> entries;
        auto rows = db().query(
            "SELECT event_id, webhook_id, reason, created_at FROM ledger WHERE event_id = $1 AND organization_id = $2"
            " ORDER BY webhook_id",
            event_id, org);
        while (rows.step()) entries.push_back({rows.text(0), rows.text(1), rows.text(2), rows.number(3)});
        return entries;
    });
}

template <typename Engine>
Result<std::vector<Rollup>> SqlStore<Engine>::rollups(std::string_view org, std::string_view webhook_id, TimeMs since,
                                                      TimeMs until) {
    return engine().read([&] {
        if (!db().query("SELECT 1 FROM webhooks WHERE id = $1 AND organization_id = $2", webhook_id, org).step()) {
            throw_not_found("webhook", webhook_id);
        }
        std::vector<Rollup> rollups;
        auto rows = db().query(
            "SELECT " HEADGATE_ROLLUP_COLUMNS
            " FROM rollups WHERE webhook_id = $1 AND hour_at >= $2 AND hour_at < $3 ORDER BY hour_at, event_type",
            webhook_id, since, until);
        while (rows.step()) rollups.push_back(read_rollup(rows));
        return rollups;
    });
}

template <typename Engine>
Result<std::vector<Store::ShardLease>> SqlStore<Engine>::shard_leases() {
    return engine().guarded([&] {
        std::vector<ShardLease> leases;
        auto rows = db().query("SELECT part, owner, epoch, until FROM leases WHERE kind = 'shard' ORDER BY part");
        while (rows.step())
            leases.push_back({static_cast<int>(rows.number(0)), rows.text(1), rows.number(2), rows.number(3)});
        return leases;
    });
}

}  // namespace headgate
