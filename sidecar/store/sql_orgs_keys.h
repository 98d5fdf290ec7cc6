// Organizations, API keys, and what of them is still to be projected to Redis; see sql_store.h.
#pragma once

#include "sidecar/store/sql_store.h"

namespace headgate {

// ---- organizations --------------------------------------------------------------------------

template <typename Engine>
Result<void> SqlStore<Engine>::create_org(const Organization& org) {
    return engine().write([&] {
        db().execute(
            "INSERT INTO organizations (id, name, plan, is_suspended, allow_networks, created_at, updated_at)"
            " VALUES ($1, $2, $3, $4, $5, $6, $7)",
            org.id, org.name, org.plan, org.is_suspended, to_json_list(org.allow_networks), org.created_at,
            org.updated_at);
    });
}

template <typename Engine>
Result<std::vector<Organization>> SqlStore<Engine>::list_orgs() {
    return engine().guarded([&] {
        std::vector<Organization> orgs;
        auto rows = db().query("SELECT " HEADGATE_ORG_COLUMNS
                               " FROM organizations"
                               " WHERE deleted_at IS NULL ORDER BY id");
        while (rows.step()) orgs.push_back(read_org(rows));
        return orgs;
    });
}

template <typename Engine>
Result<Organization> SqlStore<Engine>::get_org(std::string_view id) {
    return engine().guarded([&] {
        auto row = db().query("SELECT " HEADGATE_ORG_COLUMNS
                              " FROM organizations"
                              " WHERE id = $1 AND deleted_at IS NULL",
                              id);
        if (!row.step()) throw_not_found("organization", id);
        return read_org(row);
    });
}

template <typename Engine>
Result<void> SqlStore<Engine>::update_org(const Organization& org) {
    return engine().write([&] {
        engine().lock_org(org.id);
        Organization before;
        {
            auto row = db().query("SELECT " HEADGATE_ORG_COLUMNS " FROM organizations WHERE id = $1", org.id);
            if (!row.step()) throw_not_found("organization", org.id);
            before = read_org(row);
        }
        db().execute(
            "UPDATE organizations SET name = $1, plan = $2, is_suspended = $3, allow_networks = $4, updated_at = $5,"
            " generation = generation + 1 WHERE id = $6",
            org.name, org.plan, org.is_suspended, to_json_list(org.allow_networks), org.updated_at, org.id);
        engine().project_org(before, org);
    });
}

// ---- API keys -------------------------------------------------------------------------------

template <typename Engine>
Result<void> SqlStore<Engine>::create_key(const ApiKey& key) {
    return engine().write([&] {
        if (!db().query("SELECT 1 FROM organizations WHERE id = $1 AND deleted_at IS NULL", key.org).step()) {
            throw_not_found("organization", key.org);
        }
        db().execute(
            "INSERT INTO api_keys (id, key_hash, key_prefix, organization_id, user_id, name, description, scopes,"
            " allowed_ips, plan, limits, expires_at, is_active, created_at, updated_at)"
            " VALUES ($1, $2, $3, $4, nullif($5, ''), $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)",
            key.id, key.key_hash, key.key_prefix, key.org, key.user_id, key.name, key.description,
            json_of_words(key.scopes), json_of_words(key.allowed_ips), key.plan, key.limits, key.expires_at,
            key.is_active, key.created_at, key.updated_at);
        engine().order_projections();
        db().execute("INSERT INTO projections (op, ref) VALUES ('key', $1)", key.id);
    });
}

template <typename Engine>
Result<std::vector<ApiKey>> SqlStore<Engine>::list_keys(std::string_view org) {
    return engine().guarded([&] {
        std::vector<ApiKey> keys;
        auto rows = db().query("SELECT " HEADGATE_KEY_COLUMNS
                               " FROM api_keys WHERE organization_id = $1 AND deleted_at IS NULL ORDER BY id",
                               org);
        while (rows.step()) keys.push_back(read_key(rows));
        return keys;
    });
}

template <typename Engine>
Result<ApiKey> SqlStore<Engine>::get_key(std::string_view org, std::string_view id) {
    return engine().guarded([&] {
        auto row = db().query("SELECT " HEADGATE_KEY_COLUMNS
                              " FROM api_keys WHERE id = $1 AND organization_id = $2 AND deleted_at IS NULL",
                              id, org);
        if (!row.step()) throw_not_found("API key", id);
        return read_key(row);
    });
}

template <typename Engine>
Result<ApiKey> SqlStore<Engine>::get_key_any_org(std::string_view id) {
    return engine().guarded([&] {
        auto row = db().query("SELECT " HEADGATE_KEY_COLUMNS " FROM api_keys WHERE id = $1 AND deleted_at IS NULL", id);
        if (!row.step()) throw_not_found("API key", id);
        return read_key(row);
    });
}

template <typename Engine>
Result<ApiKey> SqlStore<Engine>::find_key_by_hash(std::string_view key_hash) {
    return engine().guarded([&] {
        auto row = db().query(
            "SELECT " HEADGATE_KEY_COLUMNS " FROM api_keys WHERE key_hash = $1 AND deleted_at IS NULL", key_hash);
        // The hash is a credential's: it is not repeated in a message.
        if (!row.step()) throw StoreFailure({ErrorCode::kNotFound, "no API key has this hash"});
        return read_key(row);
    });
}

template <typename Engine>
Result<std::vector<ApiKey>> SqlStore<Engine>::keys_after(std::string_view id, std::size_t max) {
    return engine().guarded([&] {
        std::vector<ApiKey> keys;
        auto rows = db().query("SELECT " HEADGATE_KEY_COLUMNS
                               " FROM api_keys WHERE id > $1 AND deleted_at IS NULL ORDER BY id LIMIT $2",
                               id, max);
        while (rows.step()) keys.push_back(read_key(rows));
        return keys;
    });
}

// The key stays visible, inactive; tokens made from it are refused by the revocation.
template <typename Engine>
Result<void> SqlStore<Engine>::revoke_key(std::string_view org, std::string_view id, TimeMs now) {
    return engine().write([&] {
        db().execute(
            "UPDATE api_keys SET is_active = 0, updated_at = $1 WHERE id = $2 AND organization_id = $3"
            " AND deleted_at IS NULL AND is_active = 1",
            now, id, org);
        if (db().changes() == 0) {
            if (!db().query("SELECT 1 FROM api_keys WHERE id = $1 AND organization_id = $2 AND deleted_at IS NULL", id,
                            org)
                     .step()) {
                throw_not_found("API key", id);
            }
            return;  // revoked before
        }
        engine().order_projections();
        std::string member = "key:" + std::string(id);
        TimeMs until = now + kRevocationKeptMs;
        db().execute(
            "INSERT INTO revocations (member, until, created_at) VALUES ($1, $2, $3)"
            " ON CONFLICT (member) DO UPDATE SET until = excluded.until WHERE revocations.until < excluded.until",
            member, until, now);
        db().execute("INSERT INTO projections (op, ref) VALUES ('key', $1)", id);
        db().execute("INSERT INTO projections (op, ref, until) VALUES ('revoke', $1, $2)", member, until);
    });
}

// ---- projection -----------------------------------------------------------------------------

template <typename Engine>
Result<std::vector<Store::ProjectionEntry>> SqlStore<Engine>::pending_projections(std::size_t max) {
    return engine().guarded([&] {
        std::vector<ProjectionEntry> entries;
        auto rows = db().query("SELECT id, op, ref, until FROM projections ORDER BY id LIMIT $1", max);
        while (rows.step()) entries.push_back({rows.number(0), rows.text(1), rows.text(2), rows.number(3)});
        return entries;
    });
}

template <typename Engine>
Result<void> SqlStore<Engine>::finish_projections(std::int64_t up_to_id) {
    return engine().write([&] { db().execute("DELETE FROM projections WHERE id <= $1", up_to_id); });
}

template <typename Engine>
Result<std::vector<Store::ProjectionEntry>> SqlStore<Engine>::revocations(TimeMs now) {
    return engine().guarded([&] {
        std::vector<ProjectionEntry> entries;
        auto rows = db().query("SELECT member, until FROM revocations WHERE until > $1 ORDER BY member", now);
        while (rows.step()) entries.push_back({0, "revoke", rows.text(0), rows.number(1)});
        return entries;
    });
}

}  // namespace headgate
