// Writing and reading again what is copied; see copy_target.h.
#include "sidecar/store/copy_target.h"

#include "sidecar/base/failpoint.h"
#include "sidecar/store/copy_rows.h"
#include "sidecar/store/postgres_partitions.h"

namespace headgate {
namespace {

const char* type_name(CopyType type) {
    switch (type) {
        case CopyType::kInteger:
            return "bigint";
        case CopyType::kReal:
            return "double precision";
        case CopyType::kBytes:
            return "bytea";
        case CopyType::kText:
            break;
    }
    return "text";
}

PgArray array_of(CopyType type) {
    switch (type) {
        case CopyType::kInteger:
            return PgArray::numbers();
        case CopyType::kReal:
            return PgArray::reals();
        case CopyType::kBytes:
            return PgArray::bytes();
        case CopyType::kText:
            break;
    }
    return PgArray::texts();
}

void add_key(PgParams& params, const CopyKey& key) {
    for (const auto& part : key) {
        if (const auto* text = std::get_if<std::string>(&part)) {
            params.add(std::string_view(*text));
        } else {
            params.add(std::get<std::int64_t>(part));
        }
    }
}

// "$3, $4"
std::string marks(std::size_t first, std::size_t count) {
    std::string text;
    for (std::size_t i = first; i < first + count; i++) text += (text.empty() ? "$" : ", $") + std::to_string(i);
    return text;
}

}  // namespace

// ---- rows -----------------------------------------------------------------------------------

CopyRows::CopyRows(const CopyTable& table) : table_(table), org_column_(std::string::npos) {
    for (std::size_t i = 0; i < table.columns.size(); i++) {
        columns_.push_back(array_of(table.columns[i].type));
        if (table.name == "deliveries" && table.columns[i].name == "organization_id") org_column_ = i;
    }
}

void CopyRows::add(const SqliteQuery& row) {
    for (std::size_t i = 0; i < columns_.size(); i++) {
        const int column = static_cast<int>(i);
        if (row.is_null(column)) {
            columns_[i].add_null();
            continue;
        }
        switch (table_.columns[i].type) {
            case CopyType::kInteger:
                columns_[i].add(row.number(column));
                break;
            case CopyType::kReal:
                columns_[i].add(row.real(column));
                break;
            case CopyType::kBytes:
                columns_[i].add(row.view(column));
                break;
            case CopyType::kText:
                if (is_storable_text(row.view(column))) {
                    columns_[i].add(row.view(column));
                } else {
                    columns_[i].add(std::string_view(storable_text(row.view(column))));
                }
                break;
        }
    }
    if (org_column_ != std::string::npos) made_[row.text(static_cast<int>(org_column_))]++;
    rows_++;
}

// ---- beginning and end ----------------------------------------------------------------------

void CopyTarget::lock() {
    db_.ensure();
    try {
        // Of the session: gone with us. "copying" as bytes.
        db_.execute("SELECT pg_advisory_lock(27988551558327911)");
    } catch (const PgError& failure) {
        if (failure.sqlstate != "55P03") throw;  // lock_not_available
        throw PgError({ErrorCode::kConflict, "another `headgate migrate copy` writes into this store"});
    }
}

CopyTarget::State CopyTarget::state() {
    State state;
    if (!db_.query("SELECT 1 WHERE to_regclass('store_copy') IS NOT NULL").step()) return state;
    auto row = db_.query("SELECT source, finished_at IS NOT NULL FROM store_copy");
    if (!row.step()) return state;
    return {true, row.number(1) != 0, row.text(0)};
}

void CopyTarget::check_columns(const CopyTable& table) {
    std::map<std::string, std::string, std::less<>> columns;
    auto rows = db_.query(
        "SELECT attname::text, format_type(atttypid, NULL)::text FROM pg_attribute"
        " WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped",
        std::string_view(table.name));
    while (rows.step()) columns.emplace(rows.text(0), rows.text(1));
    auto differs = [&](const std::string& column) {
        throw PgError({ErrorCode::kInternal, "no way to copy " + table.name + "." + column +
                                                 ": PostgreSQL's has another type, or is missing in one of them"});
    };
    for (const CopyColumn& column : table.columns) {
        auto found = columns.find(column.name);
        if (found == columns.end() || found->second != type_name(column.type)) differs(column.name);
        columns.erase(found);
    }
    for (const auto& [name, type] : columns) {
        if (!is_derived_column(table.name, name)) differs(name);
    }
}

void CopyTarget::begin(const std::vector<CopyTable>& tables, const std::string& source, TimeMs now) {
    if (db_.query("SELECT 1 FROM instances WHERE until > (extract(epoch FROM clock_timestamp()) * 1000)::bigint")
            .step()) {
        throw PgError({ErrorCode::kConflict, "`headgate serve` runs on the store that should be written"});
    }
    for (const CopyTable& table : tables) {
        check_columns(table);
        // The schema's own row is there already; the source's takes its place.
        if (table.name == "settings") continue;
        const std::string& sql = statements_[static_cast<std::size_t>(&table - tables.data())].reads[0][0];
        PgParams one;
        one.add(std::int64_t{1});
        const std::size_t ticket = db_.send_params(sql.c_str(), one);
        db_.flush();
        if (db_.take(ticket).step()) {
            throw PgError({ErrorCode::kConflict, "the store that should be written is not empty: it has rows in " +
                                                     table.name + "; a copy begins in an empty database"});
        }
    }
    try {
        db_.send("BEGIN");
        db_.send("CREATE TABLE store_copy (source TEXT NOT NULL, started_at BIGINT NOT NULL, finished_at BIGINT)");
        db_.send(
            "CREATE TABLE store_copy_tables (name TEXT PRIMARY KEY, rows BIGINT NOT NULL, last_key TEXT NOT NULL,"
            " is_done BIGINT NOT NULL)");
        db_.flush();
        db_.send("INSERT INTO store_copy (source, started_at) VALUES ($1, $2)", std::string_view(source), now);
        db_.send("DELETE FROM settings");
        db_.send("COMMIT");
        db_.flush();
    } catch (...) {
        db_.roll_back();
        throw;
    }
}

void CopyTarget::finish(TimeMs now) {
    db_.execute("UPDATE store_copy SET finished_at = $1 WHERE finished_at IS NULL", now);
}

// ---- tables ---------------------------------------------------------------------------------

void CopyTarget::prepare(const std::vector<CopyTable>& tables) {
    tables_ = &tables;
    for (const CopyTable& table : tables) {
        const std::span<const CopyColumn> columns(table.columns);
        const std::string key = quoted_columns(columns.first(table.key_columns));
        const std::string names = quoted_columns(columns);
        Statements statements;
        std::string arrays;
        for (std::size_t i = 0; i < columns.size(); i++) {
            arrays += (i == 0 ? "$" : ", $") + std::to_string(i + 1) + "::" + type_name(columns[i].type) + "[]";
        }
        statements.insert = "INSERT INTO " + table.name + " (" + names + ") SELECT * FROM unnest(" + arrays + ")";
        for (std::size_t lower = 0; lower < 2; lower++) {
            for (std::size_t upper = 0; upper < 2; upper++) {
                std::string& sql = statements.reads[lower][upper];
                sql = "SELECT " + names + " FROM " + table.name;
                std::size_t next = 1;
                if (lower == 1) sql += " WHERE (" + key + ") > (" + marks(next, table.key_columns) + ")";
                next += lower * table.key_columns;
                if (upper == 1) {
                    sql += (lower == 1 ? " AND (" : " WHERE (") + key + ") <= (" + marks(next, table.key_columns) + ")";
                }
                next += upper * table.key_columns;
                sql += " ORDER BY " + key + " LIMIT " + marks(next, 1);
            }
        }
        statements_.push_back(std::move(statements));
    }
}

CopyTarget::Progress CopyTarget::progress(std::size_t table) {
    const CopyTable& described = tables_->at(table);
    auto row = db_.query("SELECT rows, last_key, is_done FROM store_copy_tables WHERE name = $1",
                         std::string_view(described.name));
    if (!row.step()) return {};
    Progress progress{row.number(0), std::nullopt, row.number(2) != 0};
    if (progress.rows > 0) {
        progress.last = key_of_text(described, row.view(1));
        if (!progress.last) {
            throw PgError({ErrorCode::kCorrupt, "store_copy_tables: the key of " + described.name + " cannot be read"});
        }
    }
    return progress;
}

void CopyTarget::write(std::size_t table, const CopyRows& rows, const Progress& progress) {
    const CopyTable& described = tables_->at(table);
    try {
        db_.send("BEGIN");
        if (rows.size() > 0) {
            PgParams params;
            for (const PgArray& column : rows.columns_) params.add(column);
            db_.send_params(statements_[table].insert.c_str(), params);
        }
        if (!rows.made_.empty()) {
            PgArray orgs = PgArray::texts();
            PgArray made = PgArray::numbers();
            for (const auto& [org, count] : rows.made_) {
                orgs.add(std::string_view(org));
                made.add(count);
            }
            db_.send(
                "UPDATE organizations o SET deliveries_made = o.deliveries_made + n.made"
                " FROM unnest($1::text[], $2::bigint[]) AS n (id, made) WHERE o.id = n.id",
                orgs, made);
        }
        db_.flush();
        failpoint("in_copy");
        const std::string last = progress.last ? key_text(*progress.last) : std::string();
        db_.send(
            "INSERT INTO store_copy_tables (name, rows, last_key, is_done) VALUES ($1, $2, $3, $4)"
            " ON CONFLICT (name) DO UPDATE SET rows = $2, last_key = $3, is_done = $4",
            std::string_view(described.name), progress.rows, std::string_view(last), progress.is_done ? 1 : 0);
        db_.send("COMMIT");
        db_.flush();
    } catch (...) {
        db_.roll_back();
        throw;
    }
    failpoint("after_copy");
}

std::size_t CopyTarget::read(std::size_t table, const std::optional<CopyKey>& after,
                             const std::optional<CopyKey>& until, std::size_t rows_max,
                             const std::function<void(const PgResult& row)>& on_row) {
    PgParams params;
    if (after) add_key(params, *after);
    if (until) add_key(params, *until);
    params.add(static_cast<std::int64_t>(rows_max));
    const std::string& sql = statements_[table].reads[after ? 1 : 0][until ? 1 : 0];
    const std::size_t ticket = db_.send_params(sql.c_str(), params);
    db_.flush();
    PgResult rows = db_.take(ticket);
    std::size_t count = 0;
    for (; rows.step(); count++) on_row(rows);
    return count;
}

void CopyTarget::make_week(const std::string& table, TimeMs week) { make_partition(db_, table, week); }

void CopyTarget::set_counter(const std::string& table, std::int64_t newest) {
    if (newest <= 0) return;
    (void)db_.query("SELECT setval(pg_get_serial_sequence($1, 'id'), $2)", std::string_view(table), newest);
}

void CopyTarget::analyze() {
    std::string names;
    for (const CopyTable& table : *tables_) names += (names.empty() ? "" : ", ") + table.name;
    db_.execute_script("SET LOCAL statement_timeout = 0; ANALYZE " + names);
}

}  // namespace headgate
