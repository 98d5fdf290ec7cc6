// The end of a copy that is written: a PostgreSQL database of the same schema, on one connection. How far the copy is
// stands in two tables of its own (store_copy, store_copy_tables), written in the same transactions as the rows. Throws
// PgError. Next file: store_copy.h.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "sidecar/store/copy_tables.h"
#include "sidecar/store/postgres_connection.h"
#include "sidecar/store/rows.h"
#include "sidecar/store/sqlite_statement.h"

namespace headgate {

// The rows of one batch, column by column, as one INSERT takes them.
class CopyRows {
 public:
    explicit CopyRows(const CopyTable& table);
    void add(const SqliteQuery& row);
    [[nodiscard]] std::size_t size() const noexcept { return rows_; }

 private:
    friend class CopyTarget;
    const CopyTable& table_;
    std::vector<PgArray> columns_;
    std::size_t rows_ = 0;
    std::size_t org_column_;  // of deliveries: they are counted by organization; else npos
    std::map<std::string, std::int64_t> made_;
};

class CopyTarget {
 public:
    explicit CopyTarget(PgTarget target) : db_(std::move(target)) {}

    // One copy at a time into a database. Waits a little, for one that was killed. kConflict: another one runs.
    void lock();

    struct State {
        bool is_begun = false, is_finished = false;
        std::string source;  // its identity
    };
    State state();
    // Before the first row: the schema is the same, and the store has nothing in it and is not in use. Then marks it as
    // begun. kConflict otherwise.
    void begin(const std::vector<CopyTable>& tables, const std::string& source, TimeMs now);
    // All copied, and compared: the store may be used.
    void finish(TimeMs now);

    struct Progress {
        std::int64_t rows = 0;
        std::optional<CopyKey> last;
        bool is_done = false;
    };
    // The tables as they are copied; before the calls below.
    void prepare(const std::vector<CopyTable>& tables);
    Progress progress(std::size_t table);
    // The rows, and how far the table is with them, in one transaction.
    void write(std::size_t table, const CopyRows& rows, const Progress& progress);

    // Rows behind `after` up to `until`, nullopt: from the first, to the last; at most `rows_max`. Returns how many.
    std::size_t read(std::size_t table, const std::optional<CopyKey>& after, const std::optional<CopyKey>& until,
                     std::size_t rows_max, const std::function<void(const PgResult& row)>& on_row);

    void make_week(const std::string& table, TimeMs week);
    // The table's counter goes on behind `newest`.
    void set_counter(const std::string& table, std::int64_t newest);
    // What the planner knows of tables that have just been filled.
    void analyze();

 private:
    void check_columns(const CopyTable& table);

    PgConnection db_;
    const std::vector<CopyTable>* tables_ = nullptr;
    struct Statements {
        std::string insert;
        std::string reads[2][2];  // [has a lower bound][has an upper bound]
    };
    std::deque<Statements> statements_;  // of each table; prepared by address
};

}  // namespace headgate
