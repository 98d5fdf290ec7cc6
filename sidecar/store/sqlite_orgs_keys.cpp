// What of organizations and keys each engine writes in its own way: the change of an organization as the edge has to
// know it, and the use of keys. The rest is in sql_orgs_keys.h.
#include "sidecar/store/sqlite_store.h"

namespace headgate {

// What of a change of the organization the edge has to know.
void SqliteStore::project_org(const Organization& before, const Organization& after) {
    if (before.plan == after.plan && before.is_suspended == after.is_suspended) return;
    if (before.plan != after.plan) {
        db_.execute(
            "UPDATE api_keys SET plan = ?, updated_at = ? WHERE organization_id = ? AND plan = ? AND deleted_at IS "
            "NULL",
            after.plan, after.updated_at, after.id, before.plan);
    }
    db_.execute(
        "INSERT INTO projections (op, ref) SELECT 'key', id FROM api_keys WHERE organization_id = ?"
        " AND deleted_at IS NULL",
        after.id);
    if (after.is_suspended && !before.is_suspended) {
        const TimeMs until = after.updated_at + kRevocationKeptMs;
        db_.execute(
            "INSERT INTO revocations (member, until, created_at) SELECT 'key:' || id, ?1, ?2 FROM api_keys"
            " WHERE organization_id = ?3 AND is_active = 1 AND deleted_at IS NULL"
            " ON CONFLICT (member) DO UPDATE SET until = max(until, excluded.until)",
            until, after.updated_at, after.id);
        db_.execute(
            "INSERT INTO projections (op, ref, until) SELECT 'revoke', 'key:' || id, ? FROM api_keys"
            " WHERE organization_id = ? AND is_active = 1 AND deleted_at IS NULL",
            until, after.id);
    } else if (before.is_suspended && !after.is_suspended) {
        db_.execute(
            "DELETE FROM revocations WHERE member IN (SELECT 'key:' || id FROM api_keys WHERE organization_id = ?"
            " AND is_active = 1 AND deleted_at IS NULL)",
            after.id);
        db_.execute(
            "INSERT INTO projections (op, ref) SELECT 'unrevoke', 'key:' || id FROM api_keys"
            " WHERE organization_id = ? AND is_active = 1 AND deleted_at IS NULL",
            after.id);
    }
}

Result<void> SqliteStore::carry_usage(std::span<const KeyUsage> usage, Epochs shard_epochs) {
    return write([&] {
        PersistBatch as_owner;
        as_owner.shard_epochs = shard_epochs;
        check_leases(as_owner);
        for (const KeyUsage& key : usage) {
            db_.execute(
                "UPDATE api_keys SET usage_count = usage_count + iif(usage_mark = ?2, max(0, ?3 - usage_seen), ?3),"
                " usage_seen = iif(usage_mark = ?2, max(usage_seen, ?3), ?3), usage_mark = ?2,"
                " last_used_at = nullif(max(coalesce(last_used_at, 0), ?4), 0)"
                " WHERE id = ?1 AND (usage_mark <> ?2 OR usage_seen < ?3 OR coalesce(last_used_at, 0) < ?4)",
                key.key_id, key.mark, key.requests, key.last_used_at);
        }
    });
}

}  // namespace headgate
