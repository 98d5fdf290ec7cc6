// Webhooks as they are read: rows, lists and counters; see sql_store.h. Next file: sql_webhook_changes.h.
#pragma once

#include "sidecar/store/sql_store.h"

namespace headgate {

template <typename Engine>
template <typename Row>
Webhook SqlStore<Engine>::read_webhook(const Row& row, WithSecrets with_secrets) {
    Webhook webhook = read_webhook_columns(row);
    if (with_secrets == WithSecrets::kNo) return webhook;

    if (!row.view(29).empty()) webhook.ed25519_seed = open(row.view(29), webhook_place("ed25519_seed", webhook.id));
    for (auto& [name, value] : from_json_pairs(row.view(7))) {
        webhook.headers.emplace_back(name, open(value, webhook_place("headers", webhook.id)));
    }
    auto secrets = db().query(
        "SELECT id, secret, created_at, expires_at FROM webhook_secrets WHERE webhook_id = $1"
        " ORDER BY created_at DESC, id DESC",
        webhook.id);
    while (secrets.step()) {
        webhook.secrets.push_back(
            {open(secrets.view(1), secret_place(secrets.view(0))), secrets.number(2), secrets.optional_number(3)});
    }
    return webhook;
}

template <typename Engine>
Webhook SqlStore<Engine>::webhook_row(std::string_view org, std::string_view id) {
    auto row = db().query("SELECT " HEADGATE_WEBHOOK_COLUMNS
                          " FROM webhooks WHERE id = $1 AND organization_id = $2 AND deleted_at IS NULL",
                          id, org);
    if (!row.step()) throw_not_found("webhook", id);
    return read_webhook(row, WithSecrets::kYes);
}

template <typename Engine>
Result<Webhook> SqlStore<Engine>::get_webhook(std::string_view org, std::string_view id) {
    return engine().read([&] { return webhook_row(org, id); });
}

template <typename Engine>
Result<Store::Target> SqlStore<Engine>::delivery_target(std::string_view webhook_id) {
    return engine().read([&] {
        auto row =
            db().query("SELECT " HEADGATE_WEBHOOK_COLUMNS ", deleted_at FROM webhooks WHERE id = $1", webhook_id);
        if (!row.step()) throw_not_found("webhook", webhook_id);
        Target target;
        target.webhook = read_webhook(row, WithSecrets::kYes);
        target.is_deleted = !row.is_null(HEADGATE_WEBHOOK_COLUMN_COUNT);
        auto org =
            db().query("SELECT allow_networks, is_suspended, generation, deleted_at FROM organizations WHERE id = $1",
                       target.webhook.org);
        if (!org.step()) throw_not_found("organization", target.webhook.org);
        target.allow_networks = from_json_list(org.view(0));
        target.org_suspended = org.number(1) != 0 || !org.is_null(3);
        target.generation = org.number(2);
        return target;
    });
}

template <typename Engine>
Result<Store::WebhookList> SqlStore<Engine>::list_webhooks(std::string_view org, const WebhookFilter& filter) {
    return engine().read([&] {
        WebhookList list;
        // -1 stands for any; the event must be named in the list as it is asked for.
        int active = filter.is_active ? static_cast<int>(*filter.is_active) : -1;
        auto rows = db().query(Engine::kWebhookPage, org, active, filter.event, filter.page.limit, filter.page.offset);
        // A list shows no secret: one that cannot be opened must not take the others' list away.
        while (rows.step()) list.webhooks.push_back(read_webhook(rows, WithSecrets::kNo));
        auto total = db().query(Engine::kWebhookTotal, org, active, filter.event);
        total.step();
        list.total = total.number(0);
        // The average is of the rates of those webhooks that have one, each weighted alike.
        auto summary = db().query(
            "SELECT count(*), CAST(coalesce(sum(is_active), 0) AS bigint), avg(CASE WHEN total_deliveries > 0 THEN"
            " CAST(100 AS double precision) * (total_deliveries - failed_deliveries) / total_deliveries END)"
            " FROM webhooks WHERE organization_id = $1 AND deleted_at IS NULL",
            org);
        summary.step();
        list.total_webhooks = summary.number(0);
        list.active_webhooks = summary.number(1);
        if (!summary.is_null(2)) list.avg_success_rate = summary.real(2);
        auto events = db().query("SELECT matched_events FROM organizations WHERE id = $1", org);
        if (events.step()) list.total_events = events.number(0);
        return list;
    });
}

template <typename Engine>
Result<Store::DeliveryStats> SqlStore<Engine>::webhook_stats(std::string_view org, std::string_view id) {
    return engine().guarded([&] {
        auto row = db().query(
            "SELECT total_deliveries, failed_deliveries, response_count, response_ms_sum, last_response_ms"
            " FROM webhooks WHERE id = $1 AND organization_id = $2 AND deleted_at IS NULL",
            id, org);
        if (!row.step()) throw_not_found("webhook", id);
        DeliveryStats stats;
        stats.total = row.number(0);
        stats.failed = row.number(1);
        stats.success = stats.total - stats.failed;
        if (row.number(2) > 0) {
            stats.avg_response_time_ms = static_cast<double>(row.number(3)) / static_cast<double>(row.number(2));
        }
        if (!row.is_null(4)) stats.last_response_time_ms = static_cast<double>(row.number(4));
        return stats;
    });
}

}  // namespace headgate
