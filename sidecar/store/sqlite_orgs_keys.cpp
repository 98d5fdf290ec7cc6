// Organizations, API keys, and what of them is still to be projected to Redis.
#include "sidecar/store/sqlite_store.h"

namespace headgate {

// ---- organizations --------------------------------------------------------------------------

Result<void> SqliteStore::create_org(const Organization& org) {
    return write([&] {
        db_.execute(
            "INSERT INTO organizations (id, name, plan, is_suspended, allow_networks, created_at, updated_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            org.id, org.name, org.plan, org.is_suspended, to_json_list(org.allow_networks), org.created_at,
            org.updated_at);
    });
}

Result<std::vector<Organization>> SqliteStore::list_orgs() {
    return guarded([&] {
        std::vector<Organization> orgs;
        auto rows = db_.query("SELECT " HEADGATE_ORG_COLUMNS
                              " FROM organizations"
                              " WHERE deleted_at IS NULL ORDER BY id");
        while (rows.step()) orgs.push_back(read_org(rows));
        return orgs;
    });
}

Result<Organization> SqliteStore::get_org(std::string_view id) {
    return guarded([&] {
        auto row = db_.query("SELECT " HEADGATE_ORG_COLUMNS
                             " FROM organizations"
                             " WHERE id = ? AND deleted_at IS NULL",
                             id);
        if (!row.step()) throw_not_found("organization", id);
        return read_org(row);
    });
}

Result<void> SqliteStore::update_org(const Organization& org) {
    return write([&] {
        Organization before;
        {
            auto row = db_.query(
                "SELECT " HEADGATE_ORG_COLUMNS " FROM organizations WHERE id = ? AND deleted_at IS NULL", org.id);
            if (!row.step()) throw_not_found("organization", org.id);
            before = read_org(row);
        }
        db_.execute(
            "UPDATE organizations SET name = ?, plan = ?, is_suspended = ?, allow_networks = ?, updated_at = ?,"
            " generation = generation + 1 WHERE id = ?",
            org.name, org.plan, org.is_suspended, to_json_list(org.allow_networks), org.updated_at, org.id);
        project_org(before, org);
    });
}

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

// ---- API keys -------------------------------------------------------------------------------

Result<void> SqliteStore::create_key(const ApiKey& key) {
    return write([&] {
        if (!db_.query("SELECT 1 FROM organizations WHERE id = ? AND deleted_at IS NULL", key.org).step()) {
            throw_not_found("organization", key.org);
        }
        db_.execute(
            "INSERT INTO api_keys (id, key_hash, key_prefix, organization_id, user_id, name, description, scopes,"
            " allowed_ips, plan, limits, expires_at, is_active, created_at, updated_at)"
            " VALUES (?, ?, ?, ?, nullif(?, ''), ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            key.id, key.key_hash, key.key_prefix, key.org, key.user_id, key.name, key.description,
            json_of_words(key.scopes), json_of_words(key.allowed_ips), key.plan, key.limits, key.expires_at,
            key.is_active, key.created_at, key.updated_at);
        db_.execute("INSERT INTO projections (op, ref) VALUES ('key', ?)", key.id);
    });
}

Result<std::vector<ApiKey>> SqliteStore::list_keys(std::string_view org) {
    return guarded([&] {
        std::vector<ApiKey> keys;
        auto rows = db_.query("SELECT " HEADGATE_KEY_COLUMNS
                              " FROM api_keys WHERE organization_id = ? AND deleted_at IS NULL ORDER BY id",
                              org);
        while (rows.step()) keys.push_back(read_key(rows));
        return keys;
    });
}

Result<ApiKey> SqliteStore::get_key(std::string_view org, std::string_view id) {
    return guarded([&] {
        auto row = db_.query("SELECT " HEADGATE_KEY_COLUMNS
                             " FROM api_keys WHERE id = ? AND organization_id = ? AND deleted_at IS NULL",
                             id, org);
        if (!row.step()) throw_not_found("API key", id);
        return read_key(row);
    });
}

Result<ApiKey> SqliteStore::get_key_any_org(std::string_view id) {
    return guarded([&] {
        auto row = db_.query("SELECT " HEADGATE_KEY_COLUMNS " FROM api_keys WHERE id = ? AND deleted_at IS NULL", id);
        if (!row.step()) throw_not_found("API key", id);
        return read_key(row);
    });
}

Result<ApiKey> SqliteStore::find_key_by_hash(std::string_view key_hash) {
    return guarded([&] {
        auto row = db_.query("SELECT " HEADGATE_KEY_COLUMNS " FROM api_keys WHERE key_hash = ? AND deleted_at IS NULL",
                             key_hash);
        // The hash is a credential's: it is not repeated in a message.
        if (!row.step()) throw SqliteError({ErrorCode::kNotFound, "no API key has this hash"});
        return read_key(row);
    });
}

Result<std::vector<ApiKey>> SqliteStore::keys_after(std::string_view id, std::size_t max) {
    return guarded([&] {
        std::vector<ApiKey> keys;
        auto rows = db_.query("SELECT " HEADGATE_KEY_COLUMNS
                              " FROM api_keys WHERE id > ? AND deleted_at IS NULL ORDER BY id LIMIT ?",
                              id, max);
        while (rows.step()) keys.push_back(read_key(rows));
        return keys;
    });
}

// The key stays visible, inactive; tokens made from it are refused by the revocation.
Result<void> SqliteStore::revoke_key(std::string_view org, std::string_view id, TimeMs now) {
    return write([&] {
        db_.execute(
            "UPDATE api_keys SET is_active = 0, updated_at = ?1 WHERE id = ?2 AND organization_id = ?3"
            " AND deleted_at IS NULL AND is_active = 1",
            now, id, org);
        if (db_.changes() == 0) {
            if (!db_.query("SELECT 1 FROM api_keys WHERE id = ? AND organization_id = ? AND deleted_at IS NULL", id,
                           org)
                     .step()) {
                throw_not_found("API key", id);
            }
            return;  // revoked before
        }
        std::string member = "key:" + std::string(id);
        TimeMs until = now + kRevocationKeptMs;
        db_.execute(
            "INSERT INTO revocations (member, until, created_at) VALUES (?1, ?2, ?3)"
            " ON CONFLICT (member) DO UPDATE SET until = max(until, excluded.until)",
            member, until, now);
        db_.execute("INSERT INTO projections (op, ref) VALUES ('key', ?)", id);
        db_.execute("INSERT INTO projections (op, ref, until) VALUES ('revoke', ?, ?)", member, until);
    });
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

// ---- projection -----------------------------------------------------------------------------

Result<std::vector<Store::ProjectionEntry>> SqliteStore::pending_projections(std::size_t max) {
    return guarded([&] {
        std::vector<ProjectionEntry> entries;
        auto rows = db_.query("SELECT id, op, ref, until FROM projections ORDER BY id LIMIT ?", max);
        while (rows.step()) entries.push_back({rows.number(0), rows.text(1), rows.text(2), rows.number(3)});
        return entries;
    });
}

Result<void> SqliteStore::finish_projections(std::int64_t up_to_id) {
    return write([&] { db_.execute("DELETE FROM projections WHERE id <= ?", up_to_id); });
}

Result<std::vector<Store::ProjectionEntry>> SqliteStore::revocations(TimeMs now) {
    return guarded([&] {
        std::vector<ProjectionEntry> entries;
        auto rows = db_.query("SELECT member, until FROM revocations WHERE until > ? ORDER BY member", now);
        while (rows.step()) entries.push_back({0, "revoke", rows.text(0), rows.number(1)});
        return entries;
    });
}

}  // namespace headgate
