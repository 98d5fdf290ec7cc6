// RAII over SQLite's C interface: a connection with its prepared statements, a statement in use, a
// transaction. Errors are thrown as SqliteError inside the store only; SqliteStore turns them into
// Results at its boundary (a rollback is then a destructor's work). Next file: sqlite_store.h.
#pragma once

#include <sqlite3.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <unordered_map>
#include <utility>

#include "common/result.h"
#include "sidecar/store/store_failure.h"

namespace headgate {

struct SqliteError : StoreFailure {
    using StoreFailure::StoreFailure;
};

// Bytes that are no text: bound as BLOB.
struct SqliteBlob {
    std::string_view bytes;
};

// A prepared statement while it is used: bound by the constructor, reset when it leaves scope. What
// is bound is borrowed until then.
class SqliteQuery {
 public:
    explicit SqliteQuery(sqlite3_stmt* statement) : statement_(statement) {}
    template <typename... Args>
    explicit SqliteQuery(sqlite3_stmt* statement, const Args&... args) : SqliteQuery(statement) {
        bind_all(args...);
    }
    ~SqliteQuery() {
        sqlite3_reset(statement_);
        sqlite3_clear_bindings(statement_);
    }
    SqliteQuery(const SqliteQuery&) = delete;
    SqliteQuery& operator=(const SqliteQuery&) = delete;

    void bind(int index, std::string_view text);
    void bind(int index, std::int64_t number);
    void bind(int index, double number);
    void bind(int index, SqliteBlob blob);
    void bind(int index, const std::optional<std::int64_t>& number);
    template <typename T>
    requires std::is_integral_v<T>
    void bind(int index, T number) { bind(index, static_cast<std::int64_t>(number)); }
    template <typename... Args>
    void bind_all(const Args&... args) {
        int index = 0;
        (bind(++index, args), ...);
    }

    bool step();  // is there a row?
    void run() {  // to the end
        while (step()) {
        }
    }
    // For a statement that is executed many times in a row with new bindings.
    void rewind() { sqlite3_reset(statement_); }

    [[nodiscard]] std::string text(int column) const { return std::string(view(column)); }
    [[nodiscard]] std::string_view view(int column) const;  // until the next step
    [[nodiscard]] std::int64_t number(int column) const { return sqlite3_column_int64(statement_, column); }
    [[nodiscard]] double real(int column) const { return sqlite3_column_double(statement_, column); }
    [[nodiscard]] bool is_null(int column) const { return sqlite3_column_type(statement_, column) == SQLITE_NULL; }
    [[nodiscard]] std::optional<std::int64_t> optional_number(int column) const {
        return is_null(column) ? std::nullopt : std::optional(number(column));
    }

 private:
    [[noreturn]] void raise(int code) const;
    void check(int code) const {
        if (code != SQLITE_OK) raise(code);
    }
    sqlite3_stmt* statement_;
};

class SqliteConnection {
 public:
    // Opens (creates unless read_only) and sets WAL, synchronous=FULL, foreign keys and the busy wait. Throws
    // SqliteError.
    SqliteConnection(const std::string& path, bool read_only);
    SqliteConnection(const SqliteConnection&) = delete;
    SqliteConnection& operator=(const SqliteConnection&) = delete;

    // `sql` is a literal: its address finds the statement prepared earlier. Parameters are ?, ?NNN, or $1, $2, … that
    // first stand in that order.
    template <typename... Args>
    [[nodiscard]] SqliteQuery query(const char* sql, const Args&... args) {
        return SqliteQuery(prepared(sql), args...);
    }
    template <typename... Args>
    void execute(const char* sql, const Args&... args) {
        query(sql, args...).run();
    }
    void execute_script(std::string_view sql);  // many statements, nothing bound
    // Throws kUnavailable when the file that is open is not the one at its path any more: what is written into it
    // nobody would find again.
    void check_place();
    // Called after each commit with the length of the WAL in pages; the automatic checkpoint ends with that.
    void after_commit(int (*hook)(void*, sqlite3*, const char*, int), void* context) {
        sqlite3_wal_hook(handle_.get(), hook, context);
    }
    // Does a commit wait for the disk (synchronous=FULL)? It does until told otherwise; a commit that does takes along
    // those before it that did not (NORMAL). Not inside of a transaction. Throws SqliteError.
    void set_commits_wait(bool wait);
    // Puts what all connections have written to the WAL on the disk.
    void sync_wal() noexcept;
    // Moves what can be moved into the database without waiting for anybody. True: nothing was left, or it failed.
    bool checkpoint() noexcept;
    [[nodiscard]] std::int64_t changes() const { return sqlite3_changes64(handle_.get()); }
    [[nodiscard]] std::int64_t last_insert_rowid() const { return sqlite3_last_insert_rowid(handle_.get()); }
    [[nodiscard]] bool in_transaction() const { return sqlite3_get_autocommit(handle_.get()) == 0; }

 private:
    struct Closer {
        void operator()(sqlite3* handle) const noexcept { sqlite3_close_v2(handle); }
    };
    struct Finalizer {
        void operator()(sqlite3_stmt* statement) const noexcept { sqlite3_finalize(statement); }
    };
    sqlite3_stmt* prepared(const char* sql);

    std::unique_ptr<sqlite3, Closer> handle_;
    bool commits_wait_ = true;
    std::unordered_map<const char*, std::unique_ptr<sqlite3_stmt, Finalizer>> statements_;
};

}  // namespace headgate
