// Deliveries as they are read: by event, by id, in lists, with their attempts; and why an event has none.
#include "sidecar/store/postgres_store.h"

#define HEADGATE_DELIVERY_COLUMNS \
    "id, webhook_id, event_id, state, status, kind, ordering_key, attempts, due_at, created_at, updated_at"

namespace headgate {
namespace {

Delivery read_delivery(const PgResult& row) {
    return {.id = row.text(0),
            .webhook_id = row.text(1),
            .event_id = row.text(2),
            .state = row.text(3),
            .status = row.text(4),
            .kind = row.text(5),
            .ordering_key = row.text(6),
            .attempts = static_cast<int>(row.number(7)),
            .due_at = row.number(8),
            .created_at = row.number(9),
            .updated_at = row.number(10)};
}

}  // namespace

Result<std::vector<Delivery>> PostgresStore::deliveries_of_event(std::string_view org, std::string_view event_id) {
    return guarded([&] {
        std::vector<Delivery> deliveries;
        auto rows = db_.query("SELECT " HEADGATE_DELIVERY_COLUMNS
                              " FROM deliveries WHERE event_id = $1 AND organization_id = $2 ORDER BY id",
                              event_id, org);
        while (rows.step()) deliveries.push_back(read_delivery(rows));
        return deliveries;
    });
}

Delivery PostgresStore::delivery_row(std::string_view org, std::string_view id) {
    auto row = db_.query("SELECT " HEADGATE_DELIVERY_COLUMNS " FROM deliveries WHERE id = $1 AND organization_id = $2",
                         id, org);
    if (!row.step()) throw_pg_not_found("delivery", id);
    return read_delivery(row);
}

Result<Delivery> PostgresStore::get_delivery(std::string_view org, std::string_view id) {
    return guarded([&] { return delivery_row(org, id); });
}

Result<std::vector<Delivery>> PostgresStore::list_deliveries(std::string_view org, const DeliveryQuery& query) {
    return guarded([&] {
        std::vector<Delivery> deliveries;
        // By webhook or by event first of all: each has its index in the order of the list. NULL stands for any.
        constexpr const char* kOfWebhook =
            "SELECT " HEADGATE_DELIVERY_COLUMNS
            " FROM deliveries WHERE webhook_id = $1 AND organization_id = $2 AND ($3 = '' OR event_id = $3)"
            " AND ($4 = '' OR state = $4) AND ($5::bigint IS NULL OR created_at >= $5)"
            " AND ($6::bigint IS NULL OR created_at < $6) AND ($7 = '' OR id < $7) ORDER BY id DESC LIMIT $8";
        constexpr const char* kOfEvent =
            "SELECT " HEADGATE_DELIVERY_COLUMNS
            " FROM deliveries WHERE ($1 = '' OR webhook_id = $1) AND organization_id = $2 AND event_id = $3"
            " AND ($4 = '' OR state = $4) AND ($5::bigint IS NULL OR created_at >= $5)"
            " AND ($6::bigint IS NULL OR created_at < $6) AND ($7 = '' OR id < $7) ORDER BY id DESC LIMIT $8";
        constexpr const char* kOfAll =
            "SELECT " HEADGATE_DELIVERY_COLUMNS
            " FROM deliveries WHERE ($1 = '' OR webhook_id = $1) AND organization_id = $2"
            " AND ($3 = '' OR event_id = $3) AND ($4 = '' OR state = $4) AND ($5::bigint IS NULL OR created_at >= $5)"
            " AND ($6::bigint IS NULL OR created_at < $6) AND ($7 = '' OR id < $7) ORDER BY id DESC LIMIT $8";
        const char* sql = !query.event_id.empty() ? kOfEvent : !query.webhook_id.empty() ? kOfWebhook : kOfAll;
        auto rows = db_.query(sql, query.webhook_id, org, query.event_id, query.state, query.since, query.until,
                              query.after, query.limit);
        while (rows.step()) deliveries.push_back(read_delivery(rows));
        return deliveries;
    });
}

Result<std::vector<AttemptRecord>> PostgresStore::attempts_of_delivery(std::string_view org,
                                                                       std::string_view delivery_id) {
    return guarded([&] {
        const Delivery delivery = delivery_row(org, delivery_id);
        std::vector<AttemptRecord> attempts;
        auto rows = db_.query("SELECT " HEADGATE_ATTEMPT_COLUMNS " FROM attempts WHERE delivery_id = $1 ORDER BY id",
                              delivery_id);
        while (rows.step()) {
            attempts.push_back(read_attempt(rows, delivery.id, delivery.webhook_id, org));
        }
        return attempts;
    });
}

Result<std::vector<LedgerEntry>> PostgresStore::ledger_of_event(std::string_view org, std::string_view event_id) {
    return guarded([&] {
        std::vector<LedgerEntry> entries;
        auto rows = db_.query(
            "SELECT event_id, webhook_id, reason, created_at FROM ledger WHERE event_id = $1 AND organization_id = $2"
            " ORDER BY webhook_id",
            event_id, org);
        while (rows.step()) entries.push_back({rows.text(0), rows.text(1), rows.text(2), rows.number(3)});
        return entries;
    });
}

}  // namespace headgate
