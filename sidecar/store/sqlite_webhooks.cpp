// Webhooks as they are read: rows, lists and counters. Next file: sqlite_webhook_changes.cpp.
#include "sidecar/store/sqlite_store.h"

namespace headgate {
Webhook SqliteStore::read_webhook(const SqliteQuery& row, WithSecrets with_secrets) {
    Webhook webhook = read_webhook_columns(row);
    if (with_secrets == WithSecrets::kNo) return webhook;

    if (!row.view(29).empty()) webhook.ed25519_seed = open(row.view(29), webhook_place("ed25519_seed", webhook.id));
    for (auto& [name, value] : from_json_pairs(row.view(7))) {
        webhook.headers.emplace_back(name, open(value, webhook_place("headers", webhook.id)));
    }
    auto secrets = db_.query(
        "SELECT id, secret, created_at, expires_at FROM webhook_secrets WHERE webhook_id = ?"
        " ORDER BY created_at DESC, id DESC",
        webhook.id);
    while (secrets.step()) {
        webhook.secrets.push_back(
            {open(secrets.view(1), secret_place(secrets.view(0))), secrets.number(2), secrets.optional_number(3)});
    }
    return webhook;
}

Webhook SqliteStore::webhook_row(std::string_view org, std::string_view id) {
    auto row = db_.query("SELECT " HEADGATE_WEBHOOK_COLUMNS
                         " FROM webhooks WHERE id = ? AND organization_id = ? AND deleted_at IS NULL",
                         id, org);
    if (!row.step()) throw_not_found("webhook", id);
    return read_webhook(row, WithSecrets::kYes);
}

Result<Webhook> SqliteStore::get_webhook(std::string_view org, std::string_view id) {
    return read([&] { return webhook_row(org, id); });
}

Result<Store::Target> SqliteStore::delivery_target(std::string_view webhook_id) {
    return read([&] {
        auto row = db_.query("SELECT " HEADGATE_WEBHOOK_COLUMNS ", deleted_at FROM webhooks WHERE id = ?", webhook_id);
        if (!row.step()) throw_not_found("webhook", webhook_id);
        Target target;
        target.webhook = read_webhook(row, WithSecrets::kYes);
        target.is_deleted = !row.is_null(HEADGATE_WEBHOOK_COLUMN_COUNT);
        auto org =
            db_.query("SELECT allow_networks, is_suspended, generation, deleted_at FROM organizations WHERE id = ?",
                      target.webhook.org);
        if (!org.step()) throw_not_found("organization", target.webhook.org);
        target.allow_networks = from_json_list(org.view(0));
        target.org_suspended = org.number(1) != 0 || !org.is_null(3);
        target.generation = org.number(2);
        return target;
    });
}

Result<Store::WebhookList> SqliteStore::list_webhooks(std::string_view org, const WebhookFilter& filter) {
    return read([&] {
        WebhookList list;
        // -1 stands for any; the event must be named in the list as it is asked for.
        int active = filter.is_active ? static_cast<int>(*filter.is_active) : -1;
        constexpr const char* kPage =
            "SELECT " HEADGATE_WEBHOOK_COLUMNS
            " FROM webhooks WHERE organization_id = ?1 AND deleted_at IS NULL AND (?2 = -1 OR is_active = ?2)"
            " AND (?3 = '' OR EXISTS (SELECT 1 FROM json_each(events) WHERE value = ?3))"
            " ORDER BY id DESC LIMIT ?4 OFFSET ?5";
        auto rows = db_.query(kPage, org, active, filter.event, filter.page.limit, filter.page.offset);
        // A list shows no secret: one that cannot be opened must not take the others' list away.
        while (rows.step()) list.webhooks.push_back(read_webhook(rows, WithSecrets::kNo));
        auto total = db_.query(
            "SELECT count(*) FROM webhooks WHERE organization_id = ?1 AND deleted_at IS NULL"
            " AND (?2 = -1 OR is_active = ?2)"
            " AND (?3 = '' OR EXISTS (SELECT 1 FROM json_each(events) WHERE value = ?3))",
            org, active, filter.event);
        total.step();
        list.total = total.number(0);
        // The average is of the rates of those webhooks that have one, each weighted alike.
        auto summary = db_.query(
            "SELECT count(*), coalesce(sum(is_active), 0), avg(CASE WHEN total_deliveries > 0 THEN"
            " 100.0 * (total_deliveries - failed_deliveries) / total_deliveries END)"
            " FROM webhooks WHERE organization_id = ? AND deleted_at IS NULL",
            org);
        summary.step();
        list.total_webhooks = summary.number(0);
        list.active_webhooks = summary.number(1);
        if (!summary.is_null(2)) list.avg_success_rate = summary.real(2);
        auto events = db_.query("SELECT matched_events FROM organizations WHERE id = ?", org);
        if (events.step()) list.total_events = events.number(0);
        return list;
    });
}

Result<Store::DeliveryStats> SqliteStore::webhook_stats(std::string_view org, std::string_view id) {
    return guarded([&] {
        auto row = db_.query(
            "SELECT total_deliveries, failed_deliveries, response_count, response_ms_sum, last_response_ms"
            " FROM webhooks WHERE id = ? AND organization_id = ? AND deleted_at IS NULL",
            id, org);
        if (!row.step()) throw_not_found("webhook", id);
        DeliveryStats stats;
        stats.total = row.number(0);
        stats.failed = row.number(1);
        stats.success = stats.total - stats.failed;
        if (row.number(2) > 0) {
            stats.avg_response_time_ms = static_cast<double>(row.number(3)) / static_cast<double>(row.number(2));
        }
        if (!row.is_null(4)) stats.last_response_time_ms = row.real(4);
        return stats;
    });
}

}  // namespace headgate
