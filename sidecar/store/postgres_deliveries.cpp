// Deliveries as they are read: by id, in lists, with their attempts.
#include "sidecar/store/postgres_store.h"

namespace headgate {
Delivery PostgresStore::delivery_row(std::string_view org, std::string_view id) {
    auto row = db_.query("SELECT " HEADGATE_DELIVERY_COLUMNS " FROM deliveries WHERE id = $1 AND organization_id = $2",
                         id, org);
    if (!row.step()) throw_not_found("delivery", id);
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

}  // namespace headgate
