// The numbered SQL files of migrations/, as they travel inside the executable. Defined in a source
// that embed_migrations.cmake generates. Next file: sqlite_store.cpp, which applies them.
#pragma once

#include <span>
#include <string_view>

namespace headgate {

struct Migration {
    int version;
    std::string_view name;  // 0001_initial
    std::string_view sql;
};

[[nodiscard]] std::span<const Migration> migrations() noexcept;  // ascending, without gaps

}  // namespace headgate
