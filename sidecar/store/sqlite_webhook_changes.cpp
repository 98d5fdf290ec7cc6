// Changes of webhooks. Every change of what is subscribed, or of how it is sent, raises the organization's generation
// in the same transaction, so that the next persist transaction and the dispatcher read it.

#include "common/event_id.h"
#include "sidecar/store/sqlite_parts.h"
#include "sidecar/store/sqlite_store.h"
#include "sidecar/store/system_events.h"

namespace headgate {
void SqliteStore::raise_generation(std::string_view org, TimeMs now) {
    db_.execute("UPDATE organizations SET generation = generation + 1, updated_at = ? WHERE id = ?", now, org);
}

std::string SqliteStore::sealed_headers(const Webhook& webhook) {
    std::vector<std::pair<std::string, std::string>> headers;
    for (const auto& [name, value] : webhook.headers) {
        headers.emplace_back(name, seal(value, webhook_place("headers", webhook.id)));
    }
    return to_json_pairs(headers);
}

std::string SqliteStore::sealed_seed(const Webhook& webhook) {
    if (webhook.ed25519_seed.empty()) return {};
    return seal(webhook.ed25519_seed, webhook_place("ed25519_seed", webhook.id));
}

void SqliteStore::insert_secret(std::string_view webhook_id, const WebhookSecret& secret) {
    std::string id = uuid7(secret.created_at);
    db_.execute("INSERT INTO webhook_secrets (id, webhook_id, secret, created_at, expires_at) VALUES (?, ?, ?, ?, ?)",
                id, webhook_id, seal(secret.key_bytes, secret_place(id)), secret.created_at, secret.expires_at);
}

Result<void> SqliteStore::create_webhook(const Webhook& webhook) {
    return write([&] {
        if (!db_.query("SELECT 1 FROM organizations WHERE id = ? AND deleted_at IS NULL", webhook.org).step()) {
            throw_not_found("organization", webhook.org);
        }
        db_.execute("INSERT INTO webhooks (" HEADGATE_WEBHOOK_COLUMNS
                    ") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, "
                    "?, ?)",
                    webhook.id, webhook.org, webhook.name, webhook.description, webhook.url,
                    to_json_list(webhook.events), webhook.filters, sealed_headers(webhook), webhook.content_type,
                    format_name(webhook.payload_format), webhook.ordering, webhook.timeout_ms, webhook.max_in_flight,
                    webhook.retry.max_retries, to_json_numbers(webhook.retry.schedule_ms), webhook.retry.retry_delay_ms,
                    webhook.retry.backoff_multiplier, webhook.is_active, webhook.disabled_reason, webhook.version,
                    webhook.last_triggered_at, webhook.success_count + webhook.failure_count, webhook.failure_count,
                    webhook.created_at, webhook.updated_at, webhook.body_template, policy_name(webhook.ordering_policy),
                    webhook.rate, webhook.signature_style, sealed_seed(webhook), webhook.failing_since);
        for (const WebhookSecret& secret : webhook.secrets) insert_secret(webhook.id, secret);
        raise_generation(webhook.org, webhook.updated_at);
    });
}

Result<Webhook> SqliteStore::update_webhook(const Webhook& webhook, std::optional<std::int64_t> expected_version) {
    return write([&] {
        Webhook before = webhook_row(webhook.org, webhook.id);
        if (expected_version && before.version != *expected_version) {
            throw SqliteError({ErrorCode::kConflict, "webhook " + webhook.id + " is at version " +
                                                         std::to_string(before.version) + ", not at " +
                                                         std::to_string(*expected_version)});
        }
        db_.execute(
            "UPDATE webhooks SET name = ?, description = ?, url = ?, events = ?, event_filters = ?, headers = ?,"
            " content_type = ?, payload_format = ?, ordering = ?, timeout_ms = ?, max_in_flight = ?, retry_count = ?,"
            " retry_schedule_ms = ?, retry_delay_ms = ?, backoff_multiplier = ?, body_template = ?,"
            " ordering_policy = ?, rate = ?, signature_style = ?, ed25519_seed = ?, version = version + 1,"
            " updated_at = ? WHERE id = ?",
            webhook.name, webhook.description, webhook.url, to_json_list(webhook.events), webhook.filters,
            sealed_headers(webhook), webhook.content_type, format_name(webhook.payload_format), webhook.ordering,
            webhook.timeout_ms, webhook.max_in_flight, webhook.retry.max_retries,
            to_json_numbers(webhook.retry.schedule_ms), webhook.retry.retry_delay_ms, webhook.retry.backoff_multiplier,
            webhook.body_template, policy_name(webhook.ordering_policy), webhook.rate, webhook.signature_style,
            sealed_seed(webhook), webhook.updated_at, webhook.id);
        if (webhook.is_active != before.is_active) {
            write_active(webhook.id, webhook.is_active, webhook.disabled_reason);
        }
        if (before.ordering == "key") settle_order(webhook, webhook.updated_at);
        raise_generation(webhook.org, webhook.updated_at);
        return webhook_row(webhook.org, webhook.id);
    });
}

void SqliteStore::write_active(std::string_view id, bool is_active, std::string_view reason) {
    db_.execute(
        "UPDATE webhooks SET is_active = ?1, disabled_reason = iif(?1, '', ?2),"
        " failing_since_at = iif(?1, NULL, failing_since_at) WHERE id = ?3",
        is_active, reason, id);
}

Result<Webhook> SqliteStore::set_webhook_active(std::string_view org, std::string_view id, bool is_active,
                                                std::string_view reason, TimeMs now) {
    return write([&] {
        Webhook before = webhook_row(org, id);
        if (before.is_active == is_active) return before;
        write_active(id, is_active, reason);
        db_.execute("UPDATE webhooks SET version = version + 1, updated_at = ? WHERE id = ?", now, id);
        raise_generation(org, now);
        return webhook_row(org, id);
    });
}

Result<void> SqliteStore::add_webhook_secret(std::string_view org, std::string_view id, const WebhookSecret& secret,
                                             TimeMs others_expire_at) {
    return write([&] {
        db_.execute(
            "UPDATE webhooks SET version = version + 1, updated_at = ? WHERE id = ? AND organization_id = ?"
            " AND deleted_at IS NULL",
            secret.created_at, id, org);
        if (db_.changes() == 0) throw_not_found("webhook", id);
        db_.execute("DELETE FROM webhook_secrets WHERE webhook_id = ? AND expires_at <= ?", id, secret.created_at);
        db_.execute("UPDATE webhook_secrets SET expires_at = min(coalesce(expires_at, ?1), ?1) WHERE webhook_id = ?2",
                    others_expire_at, id);
        insert_secret(id, secret);
        raise_generation(org, secret.created_at);
    });
}

Result<void> SqliteStore::delete_webhook(std::string_view org, std::string_view id, TimeMs now) {
    return write([&] {
        db_.execute(
            "UPDATE webhooks SET deleted_at = ?1, updated_at = ?1, is_active = 0, version = version + 1"
            " WHERE id = ?2 AND organization_id = ?3 AND deleted_at IS NULL",
            now, id, org);
        if (db_.changes() == 0) throw_not_found("webhook", id);
        // Those that have failed so far are failures no more. Each has its own partial index, here and below.
        db_.execute(
            "UPDATE rollups SET failed_count = max(failed_count - c.n, 0) FROM"
            " (SELECT d.created_at - d.created_at % ?1 AS hour_at, e.type AS event_type, count(*) AS n FROM"
            "   (SELECT event_id, created_at, kind, status FROM deliveries WHERE webhook_id = ?2"
            "    AND state IN ('queued', 'retrying')"
            "    UNION ALL SELECT event_id, created_at, kind, status FROM deliveries WHERE webhook_id = ?2"
            "    AND state = 'in_flight'"
            "    UNION ALL SELECT event_id, created_at, kind, status FROM deliveries WHERE webhook_id = ?2"
            "    AND state = 'blocked') d"
            "  JOIN events e ON e.id = d.event_id WHERE d.kind = 'event' AND d.status = 'failed' GROUP BY 1, 2) c"
            " WHERE rollups.webhook_id = ?2 AND rollups.hour_at = c.hour_at AND rollups.event_type = c.event_type",
            kHourMs, id);
        // A head that was left dead still holds its order.
        db_.execute(
            "UPDATE deliveries SET state = 'cancelled', status = 'cancelled', holds_order = 0, updated_at = ?1"
            " WHERE webhook_id = ?2 AND state IN ('queued', 'retrying')",
            now, id);
        db_.execute(
            "UPDATE deliveries SET state = 'cancelled', status = 'cancelled', holds_order = 0, updated_at = ?1"
            " WHERE webhook_id = ?2 AND state = 'in_flight'",
            now, id);
        db_.execute(
            "UPDATE deliveries SET state = 'cancelled', status = 'cancelled', updated_at = ?1"
            " WHERE webhook_id = ?2 AND state = 'blocked'",
            now, id);
        db_.execute("UPDATE deliveries SET holds_order = 0 WHERE webhook_id = ? AND holds_order = 1", id);
        db_.execute("UPDATE rollups SET pending_count = 0 WHERE webhook_id = ?", id);
        db_.execute(
            "UPDATE replays SET state = 'cancelled', updated_at = ? WHERE webhook_id = ? AND state IN ('running', "
            "'paused')",
            now, id);
        raise_generation(org, now);
    });
}

void SqliteStore::disable_webhook(std::string_view id, std::string_view reason, TimeMs now, bool raises_event) {
    auto row = db_.query(
        "UPDATE webhooks SET is_active = 0, disabled_reason = ?, version = version + 1, updated_at = ?"
        " WHERE id = ? AND is_active = 1 AND deleted_at IS NULL RETURNING organization_id",
        reason, now, id);
    if (!row.step()) return;  // somebody was faster
    std::string org = row.text(0);
    row.run();
    raise_generation(org, now);
    if (raises_event) add_system_event(org, kWebhookDisabledType, webhook_disabled_payload(id, reason), now);
}

void SqliteStore::add_system_event(std::string_view org, std::string_view type, std::string_view payload, TimeMs now) {
    db_.execute("INSERT INTO system_outbox (organization_id, type, payload, created_at) VALUES (?, ?, ?, ?)", org, type,
                payload, now);
}

}  // namespace headgate
