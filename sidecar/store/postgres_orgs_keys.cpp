// Organizations, API keys, and what of them is still to be projected to Redis.
#include "sidecar/store/postgres_store.h"

namespace headgate {

// ---- organizations --------------------------------------------------------------------------

Result<void> PostgresStore::create_org(const Organization& org) {
    return write([&] {
        db_.execute(
            "INSERT INTO organizations (id, name, plan, is_suspended, allow_networks, created_at, updated_at)"
            " VALUES ($1, $2, $3, $4, $5, $6, $7)",
            org.id, org.name, org.plan, org.is_suspended, to_json_list(org.allow_networks), org.created_at,
            org.updated_at);
    });
}

Result<std::vector<Organization>> PostgresStore::list_orgs() {
    return guarded([&] {
        std::vector<Organization> orgs;
        auto rows = db_.query("SELECT " HEADGATE_ORG_COLUMNS
                              " FROM organizations"
                              " WHERE deleted_at IS NULL ORDER BY id");
        while (rows.step()) orgs.push_back(read_org(rows));
        return orgs;
    });
}

Result<Organization> PostgresStore::get_org(std::string_view id) {
    return guarded([&] {
        auto row = db_.query("SELECT " HEADGATE_ORG_COLUMNS
                             " FROM organizations"
                             " WHERE id = $1 AND deleted_at IS NULL",
                             id);
        if (!row.step()) throw_pg_not_found("organization", id);
        return read_org(row);
    });
}

Result<void> PostgresStore::update_org(const Organization& org) {
    return write([&] {
        auto row = db_.query("SELECT " HEADGATE_ORG_COLUMNS
                             " FROM organizations WHERE id = $1 AND deleted_at IS NULL FOR NO KEY UPDATE",
                             org.id);
        if (!row.step()) throw_pg_not_found("organization", org.id);
        const Organization before = read_org(row);
        db_.execute(
            "UPDATE organizations SET name = $1, plan = $2, is_suspended = $3, allow_networks = $4, updated_at = $5,"
            " generation = generation + 1 WHERE id = $6",
            org.name, org.plan, org.is_suspended, to_json_list(org.allow_networks), org.updated_at, org.id);
        project_org(before, org);
    });
}

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

// ---- API keys -------------------------------------------------------------------------------

// An entry is done with when every entry up to its id is: none may be committed later with a smaller one.
void PostgresStore::order_projections() { db_.send("LOCK TABLE projections IN SHARE ROW EXCLUSIVE MODE"); }

Result<void> PostgresStore::create_key(const ApiKey& key) {
    return write([&] {
        if (!db_.query("SELECT 1 FROM organizations WHERE id = $1 AND deleted_at IS NULL", key.org).step()) {
            throw_pg_not_found("organization", key.org);
        }
        db_.execute(
            "INSERT INTO api_keys (id, key_hash, key_prefix, organization_id, user_id, name, description, scopes,"
            " allowed_ips, plan, limits, expires_at, is_active, created_at, updated_at)"
            " VALUES ($1, $2, $3, $4, nullif($5, ''), $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)",
            key.id, key.key_hash, key.key_prefix, key.org, key.user_id, key.name, key.description,
            json_of_words(key.scopes), json_of_words(key.allowed_ips), key.plan, key.limits, key.expires_at,
            key.is_active, key.created_at, key.updated_at);
        order_projections();
        db_.execute("INSERT INTO projections (op, ref) VALUES ('key', $1)", key.id);
    });
}

Result<std::vector<ApiKey>> PostgresStore::list_keys(std::string_view org) {
    return guarded([&] {
        std::vector<ApiKey> keys;
        auto rows = db_.query("SELECT " HEADGATE_KEY_COLUMNS
                              " FROM api_keys WHERE organization_id = $1 AND deleted_at IS NULL ORDER BY id",
                              org);
        while (rows.step()) keys.push_back(read_key(rows));
        return keys;
    });
}

Result<ApiKey> PostgresStore::get_key(std::string_view org, std::string_view id) {
    return guarded([&] {
        auto row = db_.query("SELECT " HEADGATE_KEY_COLUMNS
                             " FROM api_keys WHERE id = $1 AND organization_id = $2 AND deleted_at IS NULL",
                             id, org);
        if (!row.step()) throw_pg_not_found("API key", id);
        return read_key(row);
    });
}

Result<ApiKey> PostgresStore::get_key_any_org(std::string_view id) {
    return guarded([&] {
        auto row = db_.query("SELECT " HEADGATE_KEY_COLUMNS " FROM api_keys WHERE id = $1 AND deleted_at IS NULL", id);
        if (!row.step()) throw_pg_not_found("API key", id);
        return read_key(row);
    });
}

Result<ApiKey> PostgresStore::find_key_by_hash(std::string_view key_hash) {
    return guarded([&] {
        auto row = db_.query("SELECT " HEADGATE_KEY_COLUMNS " FROM api_keys WHERE key_hash = $1 AND deleted_at IS NULL",
                             key_hash);
        // The hash is a credential's: it is not repeated in a message.
        if (!row.step()) throw PgError({ErrorCode::kNotFound, "no API key has this hash"});
        return read_key(row);
    });
}

Result<std::vector<ApiKey>> PostgresStore::keys_after(std::string_view id, std::size_t max) {
    return guarded([&] {
        std::vector<ApiKey> keys;
        auto rows = db_.query("SELECT " HEADGATE_KEY_COLUMNS
                              " FROM api_keys WHERE id > $1 AND deleted_at IS NULL ORDER BY id LIMIT $2",
                              id, max);
        while (rows.step()) keys.push_back(read_key(rows));
        return keys;
    });
}

// The key stays visible, inactive; tokens made from it are refused by the revocation.
Result<void> PostgresStore::revoke_key(std::string_view org, std::string_view id, TimeMs now) {
    return write([&] {
        db_.execute(
            "UPDATE api_keys SET is_active = 0, updated_at = $1 WHERE id = $2 AND organization_id = $3"
            " AND deleted_at IS NULL AND is_active = 1",
            now, id, org);
        if (db_.changes() == 0) {
            if (!db_.query("SELECT 1 FROM api_keys WHERE id = $1 AND organization_id = $2 AND deleted_at IS NULL", id,
                           org)
                     .step()) {
                throw_pg_not_found("API key", id);
            }
            return;  // revoked before
        }
        order_projections();
        std::string member = "key:" + std::string(id);
        TimeMs until = now + kRevocationKeptMs;
        db_.execute(
            "INSERT INTO revocations (member, until, created_at) VALUES ($1, $2, $3)"
            " ON CONFLICT (member) DO UPDATE SET until = greatest(revocations.until, excluded.until)",
            member, until, now);
        db_.execute("INSERT INTO projections (op, ref) VALUES ('key', $1)", id);
        db_.execute("INSERT INTO projections (op, ref, until) VALUES ('revoke', $1, $2)", member, until);
    });
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

// ---- projection -----------------------------------------------------------------------------

Result<std::vector<Store::ProjectionEntry>> PostgresStore::pending_projections(std::size_t max) {
    return guarded([&] {
        std::vector<ProjectionEntry> entries;
        auto rows = db_.query("SELECT id, op, ref, until FROM projections ORDER BY id LIMIT $1", max);
        while (rows.step()) entries.push_back({rows.number(0), rows.text(1), rows.text(2), rows.number(3)});
        return entries;
    });
}

Result<void> PostgresStore::finish_projections(std::int64_t up_to_id) {
    return write([&] { db_.execute("DELETE FROM projections WHERE id <= $1", up_to_id); });
}

Result<std::vector<Store::ProjectionEntry>> PostgresStore::revocations(TimeMs now) {
    return guarded([&] {
        std::vector<ProjectionEntry> entries;
        auto rows = db_.query("SELECT member, until FROM revocations WHERE until > $1 ORDER BY member", now);
        while (rows.step()) entries.push_back({0, "revoke", rows.text(0), rows.number(1)});
        return entries;
    });
}

}  // namespace headgate
