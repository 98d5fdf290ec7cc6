// Changes of webhooks. Every change of what is subscribed, or of how it is sent, raises the organization's generation
// in the same transaction, so that the next persist transaction and the dispatcher read it. See sql_store.h.
#pragma once

#include "common/event_id.h"
#include "sidecar/store/sql_store.h"

namespace headgate {

template <typename Engine>
std::string SqlStore<Engine>::seal(std::string_view plain, const std::string& place) {
    engine().note_master_key();
    auto sealed = secrets_.seal(plain, place);
    if (!sealed) throw StoreFailure(sealed.error());
    return std::move(*sealed);
}

template <typename Engine>
std::string SqlStore<Engine>::open(std::string_view sealed, const std::string& place) {
    auto plain = secrets_.open(sealed, place);
    if (!plain) throw StoreFailure({ErrorCode::kCorrupt, place + ": " + plain.error().message});
    return std::move(*plain);
}

template <typename Engine>
void SqlStore<Engine>::raise_generation(std::string_view org, TimeMs now) {
    db().execute("UPDATE organizations SET generation = generation + 1, updated_at = $1 WHERE id = $2", now, org);
}

template <typename Engine>
std::string SqlStore<Engine>::sealed_headers(const Webhook& webhook) {
    std::vector<std::pair<std::string, std::string>> headers;
    for (const auto& [name, value] : webhook.headers) {
        headers.emplace_back(name, seal(value, webhook_place("headers", webhook.id)));
    }
    return to_json_pairs(headers);
}

template <typename Engine>
std::string SqlStore<Engine>::sealed_seed(const Webhook& webhook) {
    if (webhook.ed25519_seed.empty()) return {};
    return seal(webhook.ed25519_seed, webhook_place("ed25519_seed", webhook.id));
}

template <typename Engine>
void SqlStore<Engine>::insert_secret(std::string_view webhook_id, const WebhookSecret& secret) {
    std::string id = uuid7(secret.created_at);
    db().execute(
        "INSERT INTO webhook_secrets (id, webhook_id, secret, created_at, expires_at) VALUES ($1, $2, $3, $4, $5)", id,
        webhook_id, seal(secret.key_bytes, secret_place(id)), secret.created_at, secret.expires_at);
}

template <typename Engine>
Result<void> SqlStore<Engine>::create_webhook(const Webhook& webhook) {
    return engine().write([&] {
        engine().lock_org(webhook.org);
        db().execute("INSERT INTO webhooks (" HEADGATE_WEBHOOK_COLUMNS
                     ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, "
                     "$20, $21, $22, $23, $24, $25, $26, $27, $28, $29, "
                     "$30, $31)",
                     webhook.id, webhook.org, webhook.name, webhook.description, webhook.url,
                     to_json_list(webhook.events), webhook.filters, sealed_headers(webhook), webhook.content_type,
                     format_name(webhook.payload_format), webhook.ordering, webhook.timeout_ms, webhook.max_in_flight,
                     webhook.retry.max_retries, to_json_numbers(webhook.retry.schedule_ms),
                     webhook.retry.retry_delay_ms, webhook.retry.backoff_multiplier, webhook.is_active,
                     webhook.disabled_reason, webhook.version, webhook.last_triggered_at,
                     webhook.success_count + webhook.failure_count, webhook.failure_count, webhook.created_at,
                     webhook.updated_at, webhook.body_template, policy_name(webhook.ordering_policy), webhook.rate,
                     webhook.signature_style, sealed_seed(webhook), webhook.failing_since);
        for (const WebhookSecret& secret : webhook.secrets) insert_secret(webhook.id, secret);
        raise_generation(webhook.org, webhook.updated_at);
    });
}

template <typename Engine>
Result<Webhook> SqlStore<Engine>::update_webhook(const Webhook& webhook, std::optional<std::int64_t> expected_version) {
    return engine().write([&] {
        engine().lock_org(webhook.org);
        Webhook before = webhook_row(webhook.org, webhook.id);
        if (expected_version && before.version != *expected_version) {
            throw_conflict("webhook " + webhook.id + " is at version " + std::to_string(before.version) + ", not at " +
                           std::to_string(*expected_version));
        }
        db().execute(
            "UPDATE webhooks SET name = $1, description = $2, url = $3, events = $4, event_filters = $5, headers = $6,"
            " content_type = $7, payload_format = $8, ordering = $9, timeout_ms = $10, max_in_flight = $11, "
            "retry_count = $12,"
            " retry_schedule_ms = $13, retry_delay_ms = $14, backoff_multiplier = $15, body_template = $16,"
            " ordering_policy = $17, rate = $18, signature_style = $19, ed25519_seed = $20, version = version + 1,"
            " updated_at = $21 WHERE id = $22",
            webhook.name, webhook.description, webhook.url, to_json_list(webhook.events), webhook.filters,
            sealed_headers(webhook), webhook.content_type, format_name(webhook.payload_format), webhook.ordering,
            webhook.timeout_ms, webhook.max_in_flight, webhook.retry.max_retries,
            to_json_numbers(webhook.retry.schedule_ms), webhook.retry.retry_delay_ms, webhook.retry.backoff_multiplier,
            webhook.body_template, policy_name(webhook.ordering_policy), webhook.rate, webhook.signature_style,
            sealed_seed(webhook), webhook.updated_at, webhook.id);
        if (webhook.is_active != before.is_active) {
            write_active(webhook.id, webhook.is_active, webhook.disabled_reason);
        }
        if (before.ordering == "key") engine().settle_order(webhook, webhook.updated_at);
        raise_generation(webhook.org, webhook.updated_at);
        return webhook_row(webhook.org, webhook.id);
    });
}

template <typename Engine>
void SqlStore<Engine>::write_active(std::string_view id, bool is_active, std::string_view reason) {
    db().execute(
        "UPDATE webhooks SET is_active = $1, disabled_reason = CASE WHEN $1 = 1 THEN '' ELSE $2 END,"
        " failing_since_at = CASE WHEN $1 = 1 THEN NULL ELSE failing_since_at END WHERE id = $3",
        is_active, reason, id);
}

template <typename Engine>
Result<Webhook> SqlStore<Engine>::set_webhook_active(std::string_view org, std::string_view id, bool is_active,
                                                     std::string_view reason, TimeMs now) {
    return engine().write([&] {
        engine().lock_org(org);
        Webhook before = webhook_row(org, id);
        if (before.is_active == is_active) return before;
        write_active(id, is_active, reason);
        db().execute("UPDATE webhooks SET version = version + 1, updated_at = $1 WHERE id = $2", now, id);
        raise_generation(org, now);
        return webhook_row(org, id);
    });
}

template <typename Engine>
Result<void> SqlStore<Engine>::add_webhook_secret(std::string_view org, std::string_view id,
                                                  const WebhookSecret& secret, TimeMs others_expire_at) {
    return engine().write([&] {
        engine().lock_org(org);
        db().execute(
            "UPDATE webhooks SET version = version + 1, updated_at = $1 WHERE id = $2 AND organization_id = $3"
            " AND deleted_at IS NULL",
            secret.created_at, id, org);
        if (db().changes() == 0) throw_not_found("webhook", id);
        db().execute("DELETE FROM webhook_secrets WHERE webhook_id = $1 AND expires_at <= $2", id, secret.created_at);
        db().execute(
            "UPDATE webhook_secrets SET expires_at = $1 WHERE webhook_id = $2 AND coalesce(expires_at, $1 + 1) > $1",
            others_expire_at, id);
        insert_secret(id, secret);
        raise_generation(org, secret.created_at);
    });
}

template <typename Engine>
Result<void> SqlStore<Engine>::delete_webhook(std::string_view org, std::string_view id, TimeMs now) {
    return engine().write([&] {
        engine().lock_org(org);
        db().execute(
            "UPDATE webhooks SET deleted_at = $1, updated_at = $1, is_active = 0, version = version + 1"
            " WHERE id = $2 AND organization_id = $3 AND deleted_at IS NULL",
            now, id, org);
        if (db().changes() == 0) throw_not_found("webhook", id);
        engine().cancel_deliveries(id, now);
        db().execute("UPDATE rollups SET pending_count = 0 WHERE webhook_id = $1 AND pending_count <> 0", id);
        db().execute(
            "UPDATE replays SET state = 'cancelled', updated_at = $1 WHERE webhook_id = $2"
            " AND state IN ('running', 'paused')",
            now, id);
        raise_generation(org, now);
    });
}

}  // namespace headgate
