// Opening, migrations and counters; see postgres_store.h.
#include "sidecar/store/postgres_store.h"

#include "common/hmac.h"
#include "sidecar/base/wall_clock.h"
#include "sidecar/store/migrations.h"
#include "sidecar/store/open_store.h"

namespace headgate {
namespace {

// Two programs that start together migrate one after the other. The number is ours alone: "headgate" as bytes.
constexpr const char* kLockMigrations = "SELECT pg_advisory_xact_lock(7522537965574647653)";

}  // namespace

Result<std::unique_ptr<Store>> open_postgres_store(const StoreOptions& options) {
    auto secrets = SecretBox::make(options.master_key, options.previous_master_keys);
    if (!secrets) return tl::unexpected<Error>(secrets.error());
    auto store = std::make_unique<PostgresStore>(PgTarget{.url = options.url,
                                                          .password = options.password,
                                                          .read_only = options.read_only,
                                                          .own_servers = options.own_servers},
                                                 std::move(*secrets));
    auto key_fits = store->check_master_key();
    if (!key_fits) return tl::unexpected<Error>(store->final_error(key_fits.error()));
    return std::unique_ptr<Store>(std::move(store));
}

// Waiting for a server that is away makes sense, for one that refuses us does not.
Error PostgresStore::final_error(Error error) {
    if (error.code != ErrorCode::kUnavailable || db_.is_connected()) return error;
    const auto refused = [&]() -> Result<bool> {
        try {
            return db_.is_login_refused();
        } catch (const std::exception& failure) {
            return fail(ErrorCode::kInternal, failure.what());
        }
    }();
    if (refused && *refused) error.code = ErrorCode::kInvalidArgument;
    return error;
}

// ---- migrations -----------------------------------------------------------------------------

Result<int> PostgresStore::schema_version() {
    return guarded([&]() -> int {
        if (!db_.query("SELECT 1 WHERE to_regclass('schema_migrations') IS NOT NULL").step()) return 0;
        auto row = db_.query("SELECT coalesce(max(version), 0) FROM schema_migrations");
        row.step();
        return static_cast<int>(row.number(0));
    });
}

std::vector<AppliedMigration> PostgresStore::applied_migrations() {
    if (!db_.query("SELECT 1 WHERE to_regclass('schema_migrations') IS NOT NULL").step()) return {};
    return read_applied_migrations(
        db_.query("SELECT " HEADGATE_APPLIED_COLUMNS " FROM schema_migrations ORDER BY version"));
}

Result<std::vector<MigrationRow>> PostgresStore::migrations() {
    return read([&] { return migration_rows(postgres_migrations(), applied_migrations()); });
}

// Half a store looks like a whole one: nothing may be read, sent or written there.
void PostgresStore::refuse_unfinished_copy() {
    if (!db_.query("SELECT 1 WHERE to_regclass('store_copy') IS NOT NULL").step()) return;
    if (!db_.query("SELECT 1 FROM store_copy WHERE finished_at IS NULL").step()) return;
    throw PgError(
        {ErrorCode::kConflict,
         "a copy into this store has not ended, or was not verified: `headgate migrate copy` goes on with it"});
}

Result<int> PostgresStore::migrate() {
    // All of them in one transaction. Waiting for the other program, and the work itself, may take long.
    return write([&]() -> int {
        try {
            return apply_migrations();
        } catch (PgError& failure) {
            // No permission, no such schema: it stays so until somebody changes it.
            if (failure.sqlstate.starts_with("42")) failure.error.code = ErrorCode::kInvalidArgument;
            throw;
        }
    });
}

int PostgresStore::apply_migrations() {
    db_.send("SET LOCAL statement_timeout = 0");
    db_.send("SET LOCAL lock_timeout = '15s'");
    db_.send(kLockMigrations);
    db_.execute(
        "CREATE TABLE IF NOT EXISTS schema_migrations (version BIGINT PRIMARY KEY, name TEXT NOT NULL,"
        " sha256 TEXT NOT NULL, applied_at BIGINT NOT NULL)");
    auto waiting = waiting_migrations(postgres_migrations(), applied_migrations());
    if (!waiting) throw PgError(std::move(waiting.error()));
    refuse_unfinished_copy();
    for (const Migration& migration : *waiting) {
        db_.execute_script(migration.sql);
        db_.execute("INSERT INTO schema_migrations (version, name, sha256, applied_at) VALUES ($1, $2, $3, $4)",
                    migration.version, migration.name, migration_sha256(migration), wall_clock_ms());
    }
    note_master_key();
    make_partitions(wall_clock_ms());
    return static_cast<int>(waiting->size());
}

// ---- counters -------------------------------------------------------------------------------

Result<Store::Totals> PostgresStore::totals() {
    return guarded([&]() -> Totals {
        auto row = db_.query(
            "SELECT (SELECT coalesce(sum(seq), 0)::bigint FROM organizations),"
            " (SELECT coalesce(sum(deliveries_made), 0)::bigint FROM organizations),"
            " (SELECT coalesce(sum(total_deliveries), 0)::bigint FROM webhooks),"
            " (SELECT coalesce(sum(failed_deliveries), 0)::bigint FROM webhooks),"
            " (SELECT count(*) FROM deliveries WHERE state IN ('queued', 'retrying'))"
            " + (SELECT count(*) FROM deliveries WHERE state = 'in_flight'),"
            " (SELECT count(*) FROM quarantine)");
        row.step();
        return {.events = row.number(0),
                .deliveries = row.number(1),
                .success = row.number(2) - row.number(3),
                .dead = row.number(3),
                .pending = row.number(4),
                .quarantined = row.number(5)};
    });
}

Result<void> PostgresStore::ping() {
    auto is_read_only = guarded([&] {
        auto row = db_.query(
            "SELECT current_setting('transaction_read_only') = 'on', (SELECT generation FROM organizations LIMIT 1)");
        row.step();
        return row.number(0) != 0;
    });
    if (!is_read_only) return tl::unexpected<Error>(is_read_only.error());
    if (!*is_read_only) return {};
    db_.disconnect();
    return fail(ErrorCode::kUnavailable, "store: PostgreSQL takes no writes");
}

}  // namespace headgate
