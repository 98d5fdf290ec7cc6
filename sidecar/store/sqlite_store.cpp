// Opening, migrations, leases and counters; see sqlite_store.h.
#include "sidecar/store/sqlite_store.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#include "common/hmac.h"
#include "sidecar/base/failpoint.h"
#include "sidecar/base/wall_clock.h"
#include "sidecar/store/migrations.h"
#include "sidecar/store/open_store.h"

namespace headgate {
namespace {

constexpr std::string_view kUrlScheme = "sqlite:";

Result<SqliteStore::FileLock> lock_for_serving(const std::string& db_path) {
    std::string path = db_path + ".lock";
    int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return fail(ErrorCode::kUnavailable, "cannot open " + path + ": " + std::generic_category().message(errno));
    SqliteStore::FileLock lock(fd);
    if (::flock(fd, LOCK_EX | LOCK_NB) != 0) {
        char pid[32] = {};
        ssize_t length = ::pread(fd, pid, sizeof pid - 1, 0);
        std::string_view holder(pid, length > 0 ? static_cast<std::size_t>(length) : 0);
        while (!holder.empty() && holder.back() == '\n') holder.remove_suffix(1);
        return fail(ErrorCode::kConflict, "another `headgate serve` holds " + db_path + ", pid " +
                                              (holder.empty() ? "unknown" : std::string(holder)));
    }
    std::string pid = std::to_string(::getpid()) + "\n";
    if (::ftruncate(fd, 0) != 0 || ::pwrite(fd, pid.data(), pid.size(), 0) != static_cast<ssize_t>(pid.size())) {
        return fail(ErrorCode::kUnavailable, "cannot write " + path + ": " + std::generic_category().message(errno));
    }
    return lock;
}

}  // namespace

SqliteStore::FileLock::~FileLock() {
    if (fd_ >= 0) ::close(fd_);  // and the lock with it; the file stays, as unlinking it would race
}

Result<std::unique_ptr<Store>> open_sqlite_store(const StoreOptions& options) {
    if (options.url.size() <= kUrlScheme.size()) {
        return fail(ErrorCode::kInvalidArgument, "store.url must name a file: sqlite:/path/to/file.db");
    }
    std::string path = options.url.substr(kUrlScheme.size());
    auto secrets = SecretBox::make(options.master_key, options.previous_master_keys);
    if (!secrets) return tl::unexpected<Error>(secrets.error());
    SqliteStore::FileLock lock;
    if (options.exclusive) {
        auto held = lock_for_serving(path);
        if (!held) return tl::unexpected<Error>(held.error());
        lock = std::move(*held);
    }
    try {
        auto store = std::make_unique<SqliteStore>(path, options.read_only, std::move(*secrets), std::move(lock));
        auto key_fits = store->check_master_key();
        if (!key_fits) return tl::unexpected<Error>(key_fits.error());
        if (options.exclusive) store->tend_wal_beside(path);
        return std::unique_ptr<Store>(std::move(store));
    } catch (const StoreFailure& failure) {
        return tl::unexpected<Error>(failure.error);
    }
}

SqliteStore::SqliteStore(const std::string& path, bool read_only, SecretBox secrets, FileLock lock)
    : SqlStore(std::move(secrets)), lock_(std::move(lock)), db_(path, read_only) {}

void SqliteStore::roll_back() noexcept {
    // When the rollback itself fails, SQLite has rolled back already (disk full, out of memory).
    (void)guarded([&] { db_.execute("ROLLBACK"); });
}

void SqliteStore::roll_back_part() noexcept {
    auto undone = guarded([&] {
        db_.execute("ROLLBACK TO part");
        db_.execute("RELEASE part");
    });
    if (!undone && db_.in_transaction()) roll_back();  // all of it: together() sees that
}

Result<void> SqliteStore::together(const std::function<Result<void>()>& work) {
    // The disk is waited for by the WAL thread, if there is one.
    commits_wait_ = !wal_thread_;
    auto done = write([&] {
        is_together_ = true;
        auto done = guarded([&] { return work(); });
        is_together_ = false;
        if (!done) throw SqliteError(std::move(done.error()));
        if (!*done) throw SqliteError(std::move(done->error()));
        // COMMIT would say so too, but not why.
        if (!db_.in_transaction()) throw SqliteError({ErrorCode::kUnavailable, "store: the transaction has ended"});
    });
    if (wal_thread_) wal_thread_->sync_soon();
    commits_wait_ = true;
    // For single statements; a transaction says it again, should this fail for want of memory.
    (void)guarded([&] { db_.set_commits_wait(true); });
    return done;
}

// ---- migrations -----------------------------------------------------------------------------

Result<int> SqliteStore::schema_version() {
    return guarded([&]() -> int {
        if (!db_.query("SELECT 1 FROM sqlite_master WHERE name = 'schema_migrations'").step()) return 0;
        auto row = db_.query("SELECT coalesce(max(version), 0) FROM schema_migrations");
        row.step();
        return static_cast<int>(row.number(0));
    });
}

std::vector<AppliedMigration> SqliteStore::applied_migrations() {
    if (!db_.query("SELECT 1 FROM sqlite_master WHERE name = 'schema_migrations'").step()) return {};
    return read_applied_migrations(
        db_.query("SELECT " HEADGATE_APPLIED_COLUMNS " FROM schema_migrations ORDER BY version"));
}

Result<std::vector<MigrationRow>> SqliteStore::migrations() {
    return read([&] { return migration_rows(sqlite_migrations(), applied_migrations()); });
}

Result<int> SqliteStore::migrate() {
    // All of them in one transaction: two processes that start together migrate once.
    return write([&]() -> int {
        db_.execute(
            "CREATE TABLE IF NOT EXISTS schema_migrations (version INTEGER PRIMARY KEY, name TEXT NOT NULL,"
            " sha256 TEXT NOT NULL, applied_at INTEGER NOT NULL) STRICT");
        auto waiting = waiting_migrations(sqlite_migrations(), applied_migrations());
        if (!waiting) throw SqliteError(std::move(waiting.error()));
        for (const Migration& migration : *waiting) {
            db_.execute_script(migration.sql);
            db_.execute("INSERT INTO schema_migrations (version, name, sha256, applied_at) VALUES (?, ?, ?, ?)",
                        migration.version, migration.name, migration_sha256(migration), wall_clock_ms());
        }
        note_master_key();
        return static_cast<int>(waiting->size());
    });
}

// ---- leases ---------------------------------------------------------------------------------

// The file lock says that there is no other instance: what is not ours is a dead process's, and ours at once.
std::vector<Lease> SqliteStore::lease_all(std::string_view kind, int parts, const LeaseRound& round) {
    db_.execute(
        "UPDATE leases SET epoch = iif(owner = ?1, epoch, epoch + 1), owner = ?1, until = ?2 WHERE kind = ?3 AND part "
        "< ?4",
        round.owner, round.now + kLeaseMs, kind, parts);
    // Parts beyond (more shards once than now) have no owner.
    db_.execute("UPDATE leases SET epoch = epoch + 1, owner = '' WHERE kind = ? AND part >= ? AND owner <> ''", kind,
                parts);
    for (int part = 0; part < parts; part++) {
        db_.execute(
            "INSERT INTO leases (kind, part, owner, epoch, until) VALUES (?, ?, ?, 1, ?) ON CONFLICT DO NOTHING", kind,
            part, round.owner, round.now + kLeaseMs);
    }
    std::vector<Lease> held;
    auto rows = db_.query("SELECT part, epoch FROM leases WHERE kind = ? AND part < ? ORDER BY part", kind, parts);
    while (rows.step()) held.push_back({static_cast<int>(rows.number(0)), rows.number(1)});
    return held;
}

Result<LeaseView> SqliteStore::renew_leases(const LeaseRound& round) {
    return write([&] {
        LeaseView view;
        if (round.is_leaving) {
            db_.execute("UPDATE leases SET epoch = epoch + 1, owner = '', until = 0 WHERE owner = ?", round.owner);
            return view;
        }
        view.instances = 1;
        view.shards = lease_all("shard", round.shards, round);
        failpoint("in_renew");
        view.lanes = lease_all("lane", round.lanes, round);
        return view;
    });
}

// ---- counters -------------------------------------------------------------------------------

Result<Store::Totals> SqliteStore::totals() {
    return read([&]() -> Totals {
        Totals totals;
        auto webhooks =
            db_.query("SELECT coalesce(sum(total_deliveries), 0), coalesce(sum(failed_deliveries), 0) FROM webhooks");
        webhooks.step();
        totals.dead = webhooks.number(1);
        totals.success = webhooks.number(0) - totals.dead;
        auto events = db_.query("SELECT coalesce(sum(seq), 0) FROM organizations");
        events.step();
        totals.events = events.number(0);
        auto deliveries = db_.query("SELECT coalesce(max(rowid), 0) FROM deliveries");  // ever made
        deliveries.step();
        totals.deliveries = deliveries.number(0);
        auto pending = db_.query(
            "SELECT (SELECT count(*) FROM deliveries WHERE state IN ('queued', 'retrying'))"
            " + (SELECT count(*) FROM deliveries WHERE state = 'in_flight')");
        pending.step();
        totals.pending = pending.number(0);
        auto quarantine = db_.query("SELECT count(*) FROM quarantine");
        quarantine.step();
        totals.quarantined = quarantine.number(0);
        return totals;
    });
}

Result<void> SqliteStore::ping() {
    return write([&] { db_.query("SELECT generation FROM organizations LIMIT 1").step(); });
}

}  // namespace headgate
