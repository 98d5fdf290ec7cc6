// The tables and their keys; see copy_tables.h.
#include "sidecar/store/copy_tables.h"

#include <algorithm>
#include <array>
#include <boost/json.hpp>

namespace headgate {
namespace json = boost::json;
namespace {

struct Listed {
    std::string_view table, key;  // columns of the key, separated by spaces
};

// A table stands behind those that its foreign keys name.
constexpr Listed kTables[] = {
    {"settings", "name"},
    {"plans", "name"},
    {"organizations", "id"},
    {"users", "id"},
    {"api_keys", "id"},
    {"event_types", "organization_id name"},
    {"webhooks", "id"},
    {"webhook_secrets", "id"},
    {"events", "id"},
    {"deliveries", "id"},
    {"attempts", "id"},
    {"ledger", "event_id webhook_id"},
    {"rollups", "webhook_id hour_at event_type"},
    {"replays", "id"},
    {"quarantine", "shard stream_id"},
    {"audit_log", "id"},
    {"projections", "id"},
    {"revocations", "member"},
    {"system_outbox", "id"},
    {"integrations", "id"},
    {"integration_sync_logs", "id"},
};
// Leases are of the instances that run on a store; the other is the schema's own.
constexpr std::string_view kLeftOut[] = {"leases", "schema_migrations"};
// SQLite counts them by its rowids.
constexpr std::string_view kDerived[] = {"organizations.deliveries_made"};

std::optional<CopyType> type_of(std::string_view declared) {
    if (declared == "INTEGER") return CopyType::kInteger;
    if (declared == "REAL") return CopyType::kReal;
    if (declared == "TEXT") return CopyType::kText;
    if (declared == "BLOB") return CopyType::kBytes;
    return std::nullopt;
}

Result<CopyTable> table_of(const Listed& listed, const TableColumns& found) {
    CopyTable table{std::string(listed.table), {}, 0};
    for (const auto& [name, declared] : found.columns) {
        auto type = type_of(declared);
        if (!type) return fail(ErrorCode::kInternal, "no way to copy " + table.name + "." + name + ", a " + declared);
        table.columns.push_back({name, *type});
    }
    std::string_view rest = listed.key;
    while (!rest.empty()) {
        const std::string_view column = rest.substr(0, rest.find(' '));
        rest.remove_prefix(std::min(rest.size(), column.size() + 1));
        auto at = std::find_if(table.columns.begin() + static_cast<std::ptrdiff_t>(table.key_columns),
                               table.columns.end(), [&](const CopyColumn& c) { return c.name == column; });
        if (at == table.columns.end()) {
            return fail(ErrorCode::kInternal, "table " + table.name + " has no column " + std::string(column));
        }
        std::rotate(table.columns.begin() + static_cast<std::ptrdiff_t>(table.key_columns), at, at + 1);
        table.key_columns++;
    }
    return table;
}

}  // namespace

Result<std::vector<CopyTable>> tables_to_copy(const std::vector<TableColumns>& found) {
    for (const TableColumns& one : found) {
        const bool is_known = std::any_of(std::begin(kTables), std::end(kTables),
                                          [&](const Listed& listed) { return listed.table == one.name; }) ||
                              std::find(std::begin(kLeftOut), std::end(kLeftOut), one.name) != std::end(kLeftOut);
        if (!is_known) return fail(ErrorCode::kInternal, "no way to copy the table " + one.name);
    }
    std::vector<CopyTable> tables;
    for (const Listed& listed : kTables) {
        auto one = std::find_if(found.begin(), found.end(), [&](const auto& t) { return t.name == listed.table; });
        if (one == found.end()) {
            return fail(ErrorCode::kInternal, "the store has no table " + std::string(listed.table));
        }
        auto table = table_of(listed, *one);
        if (!table) return tl::unexpected<Error>(table.error());
        tables.push_back(std::move(*table));
    }
    return tables;
}

bool is_derived_column(std::string_view table, std::string_view column) noexcept {
    return std::any_of(std::begin(kDerived), std::end(kDerived), [&](std::string_view derived) {
        return derived.size() == table.size() + 1 + column.size() && derived.starts_with(table) &&
               derived[table.size()] == '.' && derived.ends_with(column);
    });
}

std::string quoted_columns(std::span<const CopyColumn> columns) {
    std::string text;
    for (const CopyColumn& column : columns) text += (text.empty() ? "\"" : ", \"") + column.name + "\"";
    return text;
}

// ---- keys -----------------------------------------------------------------------------------

std::string key_text(const CopyKey& key) {
    json::array parts;
    for (const auto& part : key) std::visit([&](const auto& value) { parts.emplace_back(value); }, part);
    return json::serialize(parts);
}

std::optional<CopyKey> key_of_text(const CopyTable& table, std::string_view text) {
    boost::system::error_code failed;
    const json::value parsed = json::parse(text, failed);
    if (failed || !parsed.is_array() || parsed.get_array().size() != table.key_columns) return std::nullopt;
    CopyKey key;
    for (std::size_t i = 0; i < table.key_columns; i++) {
        const json::value& part = parsed.get_array()[i];
        if (table.columns[i].type == CopyType::kInteger && part.is_int64()) {
            key.emplace_back(part.get_int64());
        } else if (table.columns[i].type == CopyType::kText && part.is_string()) {
            key.emplace_back(std::string(part.get_string()));
        } else {
            return std::nullopt;
        }
    }
    return key;
}

}  // namespace headgate
