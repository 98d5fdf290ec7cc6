// The numbered SQL files of migrations/, one set for each engine, as they travel inside the executable. Defined in a
// source that embed_migrations.cmake generates. Next file: sqlite_store.cpp, which applies those of SQLite.
#pragma once

#include <span>
#include <string_view>

namespace headgate {

struct Migration {
    int version;
    std::string_view name;  // 0001_initial
    std::string_view sql;
};

// Ascending, without gaps. A version means the same in both sets.
[[nodiscard]] std::span<const Migration> sqlite_migrations() noexcept;
[[nodiscard]] std::span<const Migration> postgres_migrations() noexcept;

}  // namespace headgate
