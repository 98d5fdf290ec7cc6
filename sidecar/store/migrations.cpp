// What of the migrations a store still needs; see migrations.h.
#include "sidecar/store/migrations.h"

#include "common/hmac.h"

namespace headgate {

std::string migration_sha256(const Migration& migration) { return hex_encode(sha256(migration.sql)); }

Result<std::span<const Migration>> waiting_migrations(std::span<const Migration> known,
                                                      const std::vector<AppliedMigration>& applied) {
    const int newest = static_cast<int>(known.size());
    int version = 0;
    for (const AppliedMigration& row : applied) {
        if (row.version > newest) {
            return fail(ErrorCode::kConflict,
                        "the store's schema is version " + std::to_string(applied.back().version) +
                            ", newer than this program's " + std::to_string(newest) + ": use the newer headgate");
        }
        if (row.version != version + 1) {
            return fail(ErrorCode::kCorrupt, "the store has migration " + row.name + ", but not the one before it");
        }
        if (row.sha256 != migration_sha256(known[static_cast<std::size_t>(version)])) {
            return fail(ErrorCode::kConflict, "migration " + row.name +
                                                  " was applied with another content than this program's: it was "
                                                  "changed after its release");
        }
        version = row.version;
    }
    return known.subspan(static_cast<std::size_t>(version));
}

std::vector<MigrationRow> migration_rows(std::span<const Migration> known,
                                         const std::vector<AppliedMigration>& applied) {
    std::vector<MigrationRow> rows;
    auto next = applied.begin();
    for (const Migration& migration : known) {
        MigrationRow& row = rows.emplace_back(
            MigrationRow{migration.version, std::string(migration.name), MigrationState::kWaiting, std::nullopt});
        if (next == applied.end() || next->version != migration.version) continue;
        row.applied_at = next->applied_at;
        row.state = next->sha256 == migration_sha256(migration) ? MigrationState::kApplied : MigrationState::kChanged;
        ++next;
    }
    for (; next != applied.end(); ++next) {
        rows.push_back({next->version, next->name, MigrationState::kNewer, next->applied_at});
    }
    return rows;
}

}  // namespace headgate
