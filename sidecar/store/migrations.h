// The numbered SQL files of migrations/, one set for each engine, as they travel inside the executable (defined in a
// source that embed_migrations.cmake generates), and what of them a store still needs. Next files: sqlite_store.cpp and
// postgres_store.cpp, which apply them.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/result.h"
#include "sidecar/store/rows.h"

namespace headgate {

struct Migration {
    int version;
    std::string_view name;  // 0001_initial
    std::string_view sql;
};

// Ascending, without gaps. A version means the same in both sets.
[[nodiscard]] std::span<const Migration> sqlite_migrations() noexcept;
[[nodiscard]] std::span<const Migration> postgres_migrations() noexcept;

// What a store keeps of each migration that was applied to it: a row of schema_migrations.
struct AppliedMigration {
    int version = 0;
    std::string name, sha256;
    TimeMs applied_at = 0;
};
#define HEADGATE_APPLIED_COLUMNS "version, name, sha256, applied_at"

template <typename Rows>
std::vector<AppliedMigration> read_applied_migrations(Rows&& rows) {
    std::vector<AppliedMigration> applied;
    while (rows.step()) {
        applied.push_back({static_cast<int>(rows.number(0)), rows.text(1), rows.text(2), rows.number(3)});
    }
    return applied;
}

// As schema_migrations keeps it.
[[nodiscard]] std::string migration_sha256(const Migration& migration);

// Pure. `known` is the program's set, `applied` the store's, ascending.
// Those that are still to be applied, in their order. kConflict: the store has one that is newer than the program, or
// one with another content than the program's.
[[nodiscard]] Result<std::span<const Migration>> waiting_migrations(std::span<const Migration> known,
                                                                    const std::vector<AppliedMigration>& applied);
// All of both sets, ascending.
[[nodiscard]] std::vector<MigrationRow> migration_rows(std::span<const Migration> known,
                                                       const std::vector<AppliedMigration>& applied);

}  // namespace headgate
