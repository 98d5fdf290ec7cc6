// The half that both engines share, on PostgreSQL, with the few statements of it that are its own; see sql_store.h.
#include "sidecar/store/postgres_store.h"
#include "sidecar/store/sql_orgs_keys.h"
#include "sidecar/store/sql_reading.h"
#include "sidecar/store/sql_replays.h"
#include "sidecar/store/sql_webhook_changes.h"
#include "sidecar/store/sql_webhooks.h"

namespace headgate {

const char* const PostgresStore::kWebhookPage =
    "SELECT " HEADGATE_WEBHOOK_COLUMNS
    " FROM webhooks WHERE organization_id = $1 AND deleted_at IS NULL AND ($2 = -1 OR is_active = $2)"
    " AND ($3 = '' OR events::jsonb ? $3) ORDER BY id DESC LIMIT $4 OFFSET $5";
const char* const PostgresStore::kWebhookTotal =
    "SELECT count(*) FROM webhooks WHERE organization_id = $1 AND deleted_at IS NULL"
    " AND ($2 = -1 OR is_active = $2) AND ($3 = '' OR events::jsonb ? $3)";

void PostgresStore::lock_org(std::string_view org) {
    if (!db_.query("SELECT 1 FROM organizations WHERE id = $1 AND deleted_at IS NULL FOR NO KEY UPDATE", org).step()) {
        throw_not_found("organization", org);
    }
}

// An entry is done with when every entry up to its id is: none may be committed later with a smaller one.
void PostgresStore::order_projections() { db_.send("LOCK TABLE projections IN SHARE ROW EXCLUSIVE MODE"); }

void PostgresStore::cancel_deliveries(std::string_view webhook, TimeMs now) {
    db_.execute(
        "UPDATE deliveries SET state = 'cancelled', status = 'cancelled', holds_order = 0, updated_at = $1"
        " WHERE webhook_id = $2 AND state IN ('queued', 'retrying', 'blocked', 'in_flight')",
        now, webhook);
    db_.execute("UPDATE deliveries SET holds_order = 0 WHERE webhook_id = $1 AND holds_order = 1", webhook);
}

void PostgresStore::lock_replay(std::string_view org, std::string_view id) {
    db_.send("SELECT id FROM replays WHERE id = $1 AND organization_id = $2 FOR UPDATE", id, org);
}

template class SqlStore<PostgresStore>;
template Webhook SqlStore<PostgresStore>::read_webhook(const PgResult& row, WithSecrets with_secrets);

}  // namespace headgate
