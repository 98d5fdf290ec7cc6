// Which tables a copy from SQLite to PostgreSQL takes along, in an order that foreign keys allow, and what their rows
// look like. Pure. Next file: store_copy.h, the copy itself.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "common/result.h"

namespace headgate {

enum class CopyType : std::uint8_t { kInteger, kReal, kText, kBytes };

struct CopyColumn {
    std::string name;
    CopyType type = CopyType::kText;
};

struct CopyTable {
    std::string name;
    std::vector<CopyColumn> columns;  // those of the key first, in its order
    std::size_t key_columns = 0;
};

// Of one row: a number or a text for each column of the key. In both engines keys sort by number and by byte.
using CopyKey = std::vector<std::variant<std::int64_t, std::string>>;
// A JSON array, and back. nullopt: it is none of this table.
[[nodiscard]] std::string key_text(const CopyKey& key);
[[nodiscard]] std::optional<CopyKey> key_of_text(const CopyTable& table, std::string_view text);

// A table as SQLite describes it: names and declared types, in its order.
struct TableColumns {
    std::string name;
    std::vector<std::pair<std::string, std::string>> columns;
};
// In the order of the copy. kInternal: there is a table or type that this program does not know how to copy, or one
// that should be there is not: a migration came without its line in copy_tables.cpp.
[[nodiscard]] Result<std::vector<CopyTable>> tables_to_copy(const std::vector<TableColumns>& found);

// Columns that only PostgreSQL has and the copy fills by itself, as "table.column".
[[nodiscard]] bool is_derived_column(std::string_view table, std::string_view column) noexcept;

// "a", "b"
[[nodiscard]] std::string quoted_columns(std::span<const CopyColumn> columns);

}  // namespace headgate
