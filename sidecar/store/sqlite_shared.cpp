// The half that both engines share, on SQLite, with the few statements of it that are its own; see sql_store.h.
#include "sidecar/store/sql_orgs_keys.h"
#include "sidecar/store/sql_reading.h"
#include "sidecar/store/sql_replays.h"
#include "sidecar/store/sql_webhook_changes.h"
#include "sidecar/store/sql_webhooks.h"
#include "sidecar/store/sqlite_store.h"
#include "sidecar/store/system_events.h"

namespace headgate {

const char* const SqliteStore::kWebhookPage =
    "SELECT " HEADGATE_WEBHOOK_COLUMNS
    " FROM webhooks WHERE organization_id = ?1 AND deleted_at IS NULL AND (?2 = -1 OR is_active = ?2)"
    " AND (?3 = '' OR EXISTS (SELECT 1 FROM json_each(events) WHERE value = ?3))"
    " ORDER BY id DESC LIMIT ?4 OFFSET ?5";
const char* const SqliteStore::kWebhookTotal =
    "SELECT count(*) FROM webhooks WHERE organization_id = ?1 AND deleted_at IS NULL AND (?2 = -1 OR is_active = ?2)"
    " AND (?3 = '' OR EXISTS (SELECT 1 FROM json_each(events) WHERE value = ?3))";

// The transaction itself keeps all others out.
void SqliteStore::lock_org(std::string_view org) {
    if (!db_.query("SELECT 1 FROM organizations WHERE id = ? AND deleted_at IS NULL", org).step()) {
        throw_not_found("organization", org);
    }
}

// One statement for each partial index; a head that was left dead still holds its order.
void SqliteStore::cancel_deliveries(std::string_view webhook, TimeMs now) {
    db_.execute(
        "UPDATE deliveries SET state = 'cancelled', status = 'cancelled', holds_order = 0, updated_at = ?1"
        " WHERE webhook_id = ?2 AND state IN ('queued', 'retrying')",
        now, webhook);
    db_.execute(
        "UPDATE deliveries SET state = 'cancelled', status = 'cancelled', holds_order = 0, updated_at = ?1"
        " WHERE webhook_id = ?2 AND state = 'in_flight'",
        now, webhook);
    db_.execute(
        "UPDATE deliveries SET state = 'cancelled', status = 'cancelled', updated_at = ?1"
        " WHERE webhook_id = ?2 AND state = 'blocked'",
        now, webhook);
    db_.execute("UPDATE deliveries SET holds_order = 0 WHERE webhook_id = ? AND holds_order = 1", webhook);
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

template class SqlStore<SqliteStore>;
template Webhook SqlStore<SqliteStore>::read_webhook(const SqliteQuery& row, WithSecrets with_secrets);

}  // namespace headgate
