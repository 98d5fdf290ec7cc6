// What of organizations and keys each engine writes in its own way: the change of an organization as the edge has to
// know it, and the use of keys. The rest is in sql_orgs_keys.h.
#include "sidecar/store/postgres_store.h"

namespace headgate {

// What of a change of the organization the edge has to know.
void PostgresStore::project_org(const Organization& before, const Organization& after) {
    if (before.plan == after.plan && before.is_suspended == after.is_suspended) return;
    if (before.plan != after.plan) {
        db_.execute(
            "UPDATE api_keys SET plan = $1, updated_at = $2 WHERE organization_id = $3 AND plan = $4"
            " AND deleted_at IS NULL",
            after.plan, after.updated_at, after.id, before.plan);
    }
    order_projections();  // behind the rows of keys, as who revokes one does it
    db_.execute(
        "INSERT INTO projections (op, ref) SELECT 'key', id FROM api_keys WHERE organization_id = $1"
        " AND deleted_at IS NULL",
        after.id);
    if (after.is_suspended && !before.is_suspended) {
        const TimeMs until = after.updated_at + kRevocationKeptMs;
        db_.execute(
            "INSERT INTO revocations (member, until, created_at) SELECT 'key:' || id, $1, $2 FROM api_keys"
            " WHERE organization_id = $3 AND is_active = 1 AND deleted_at IS NULL"
            " ON CONFLICT (member) DO UPDATE SET until = greatest(revocations.until, excluded.until)",
            until, after.updated_at, after.id);
        db_.execute(
            "INSERT INTO projections (op, ref, until) SELECT 'revoke', 'key:' || id, $1 FROM api_keys"
            " WHERE organization_id = $2 AND is_active = 1 AND deleted_at IS NULL",
            until, after.id);
    } else if (before.is_suspended && !after.is_suspended) {
        db_.execute(
            "DELETE FROM revocations WHERE member IN (SELECT 'key:' || id FROM api_keys WHERE organization_id = $1"
            " AND is_active = 1 AND deleted_at IS NULL)",
            after.id);
        db_.execute(
            "INSERT INTO projections (op, ref) SELECT 'unrevoke', 'key:' || id FROM api_keys"
            " WHERE organization_id = $1 AND is_active = 1 AND deleted_at IS NULL",
            after.id);
    }
}

Result<void> PostgresStore::carry_usage(std::span<const KeyUsage> usage, Epochs shard_epochs) {
    return write([&] {
        const std::vector<int> owned = {0};
        const std::size_t locks = send_shard_locks(owned);
        db_.flush();
        check_shards(db_.take(locks), owned, shard_epochs);
        for (const KeyUsage& key : usage) {
            db_.send(
                "UPDATE api_keys SET usage_count = usage_count + CASE WHEN usage_mark = $2 THEN"
                " greatest(0, $3 - usage_seen) ELSE $3 END,"
                " usage_seen = CASE WHEN usage_mark = $2 THEN greatest(usage_seen, $3) ELSE $3 END, usage_mark = $2,"
                " last_used_at = nullif(greatest(coalesce(last_used_at, 0), $4), 0)"
                " WHERE id = $1 AND (usage_mark <> $2 OR usage_seen < $3 OR coalesce(last_used_at, 0) < $4)",
                key.key_id, key.mark, key.requests, key.last_used_at);
        }
        db_.flush();
    });
}

}  // namespace headgate
