// Reading what is copied; see copy_source.h.
#include "sidecar/store/copy_source.h"

#include "common/event_id.h"
#include "common/hmac.h"
#include "sidecar/store/copy_rows.h"
#include "sidecar/store/postgres_partitions.h"

namespace headgate {

CopySource::CopySource(const std::string& path, bool lets_others_write) : db_(path, false) {
    db_.execute(lets_others_write ? "BEGIN" : "BEGIN IMMEDIATE");
    std::vector<TableColumns> found;
    auto rows = db_.query(
        "SELECT t.name, c.name, c.type FROM sqlite_master t, pragma_table_info(t.name) c"
        " WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite!_%' ESCAPE '!' ORDER BY t.name, c.cid");
    while (rows.step()) {
        if (found.empty() || found.back().name != rows.view(0)) found.push_back({rows.text(0), {}});
        found.back().columns.emplace_back(rows.text(1), rows.text(2));
    }
    auto tables = tables_to_copy(found);
    if (!tables) throw SqliteError(std::move(tables.error()));
    tables_ = std::move(*tables);
    for (const CopyTable& table : tables_) {
        const std::span<const CopyColumn> columns(table.columns);
        const std::string key = quoted_columns(columns.first(table.key_columns));
        std::string marks = "?";
        for (std::size_t i = 1; i < table.key_columns; i++) marks += ", ?";
        const std::string select = "SELECT " + quoted_columns(columns) + " FROM " + table.name;
        std::string next = select;
        next += " WHERE (" + key + ") > (" + marks + ") ORDER BY " + key;
        statements_.push_back({select + " ORDER BY " + key, std::move(next)});
    }
    // Sealed with a nonce of its own: no other store has the same.
    auto check = db_.query("SELECT value FROM settings WHERE name = 'master_key_check'");
    if (!check.step()) throw SqliteError({ErrorCode::kCorrupt, path + " is not a store of headgate"});
    identity_ = hex_encode(sha256(check.view(0)));
}

CopySource::Batch CopySource::read(std::size_t table, const std::optional<CopyKey>& after, std::size_t rows_max,
                                   const std::function<void(const SqliteQuery& row)>& on_row) {
    const CopyTable& described = tables_[table];
    SqliteQuery rows = db_.query((after ? statements_[table].next : statements_[table].first).c_str());
    int index = 0;
    if (after) {
        for (const auto& part : *after) {
            index++;
            if (const auto* text = std::get_if<std::string>(&part)) {
                rows.bind(index, std::string_view(*text));
            } else {
                rows.bind(index, std::get<std::int64_t>(part));
            }
        }
    }
    Batch batch;
    std::size_t bytes = 0;
    while (batch.rows < rows_max && bytes < kCopyBatchBytesMax) {
        if (!rows.step()) {
            batch.is_end = true;
            break;
        }
        batch.rows++;
        bytes += row_bytes(described, rows);
        batch.last = row_key(described, rows);
        for (const auto& part : *batch.last) {
            const auto* text = std::get_if<std::string>(&part);
            // A copy would have another key, and so another place among the others.
            if (text != nullptr && !is_storable_text(*text)) {
                throw SqliteError({ErrorCode::kUnprocessable,
                                   "a row of " + described.name +
                                       " has a key that is no text for PostgreSQL: " + storable_text(*text)});
            }
        }
        on_row(rows);
    }
    return batch;
}

std::int64_t CopySource::counter_of(const std::string& table) {
    auto row = db_.query("SELECT seq FROM sqlite_sequence WHERE name = ?", table);
    return row.step() ? row.number(0) : 0;
}

std::vector<TimeMs> CopySource::weeks_of(std::string_view table, TimeMs until) {
    std::vector<TimeMs> weeks;
    const char* sql =
        table == "events" ? "SELECT min(id) FROM events WHERE id >= ?" : "SELECT min(id) FROM attempts WHERE id >= ?";
    TimeMs from = (until / kPartitionMs - kWeeksMax) * kPartitionMs;
    while (from <= until) {
        auto row = db_.query(sql, partition_bound(from));
        if (!row.step() || row.is_null(0)) break;
        const std::string id = row.text(0);
        if (!uuid_is_valid(id)) break;
        const TimeMs week = uuid7_epoch_ms(id) / kPartitionMs * kPartitionMs;
        if (week < from || week > until) break;
        weeks.push_back(week);
        from = week + kPartitionMs;
    }
    return weeks;
}

}  // namespace headgate
