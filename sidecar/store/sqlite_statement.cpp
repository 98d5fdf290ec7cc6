// RAII over SQLite's C interface; see sqlite_statement.h.
#include "sidecar/store/sqlite_statement.h"

#include <time.h>

#include <cstring>

namespace headgate {
namespace {

constexpr std::int64_t kBusyTimeoutNs = 5'000'000'000;
constexpr std::int64_t kBusyShortWaitNs = 250'000;
constexpr std::int64_t kBusyLongWaitNs = 2'000'000;
constexpr int kBusyShortWaits = 40;

// SQLite's own busy handler sleeps up to 100 ms at a time, which would show in the latency of a
// delivery when two connections of one process take turns. This one asks more often, for as long.
int wait_while_busy(void*, int calls) {
    std::int64_t waited_ns = calls <= kBusyShortWaits
                                 ? calls * kBusyShortWaitNs
                                 : kBusyShortWaits * kBusyShortWaitNs + (calls - kBusyShortWaits) * kBusyLongWaitNs;
    if (waited_ns >= kBusyTimeoutNs) return 0;
    timespec pause{0, calls < kBusyShortWaits ? kBusyShortWaitNs : kBusyLongWaitNs};
    nanosleep(&pause, nullptr);
    return 1;
}

ErrorCode code_of(int sqlite_code) {
    switch (sqlite_code & 0xff) {
        case SQLITE_BUSY:
        case SQLITE_LOCKED:
        case SQLITE_IOERR:
        case SQLITE_FULL:
        case SQLITE_CANTOPEN:
        case SQLITE_READONLY:
        case SQLITE_NOMEM:
        case SQLITE_PERM:
        case SQLITE_PROTOCOL:
            return ErrorCode::kUnavailable;
        case SQLITE_CONSTRAINT:
            return ErrorCode::kConflict;
        case SQLITE_CORRUPT:
        case SQLITE_NOTADB:
            return ErrorCode::kCorrupt;
        case SQLITE_TOOBIG:
            return ErrorCode::kTooLarge;
        default:
            return ErrorCode::kInternal;
    }
}

// Of the WAL, or of the database: sqlite3_system_errno() does not know of a COMMIT's.
int last_system_error(sqlite3* handle) {
    sqlite3_file* wal = nullptr;
    int error = 0;
    sqlite3_file_control(handle, "main", SQLITE_FCNTL_JOURNAL_POINTER, static_cast<void*>(&wal));
    if (wal != nullptr && wal->pMethods != nullptr) wal->pMethods->xFileControl(wal, SQLITE_FCNTL_LAST_ERRNO, &error);
    if (error == 0) sqlite3_file_control(handle, "main", SQLITE_FCNTL_LAST_ERRNO, &error);
    return error;
}

[[noreturn]] void raise_error(sqlite3* handle, int code) {
    std::string message = std::string("SQLite: ") + (handle != nullptr ? sqlite3_errmsg(handle) : sqlite3_errstr(code));
    // "disk I/O error" says little: a file that may not be written, one that may not grow, a disk that fails.
    const int system_error = handle != nullptr && (code & 0xff) == SQLITE_IOERR ? last_system_error(handle) : 0;
    if (system_error != 0) message += std::string(": ") + std::strerror(system_error);
    throw SqliteError({code_of(code), std::move(message)});
}

// SQLite asks no busy handler while it changes the journal mode, which takes the whole file: two that open a new one at
// the same moment would have one of them refused (https://www.sqlite.org/c3ref/busy_handler.html). Afterwards it
// changes nothing.
void switch_to_wal(sqlite3* handle) {
    int code = sqlite3_exec(handle, "PRAGMA journal_mode = WAL;", nullptr, nullptr, nullptr);
    for (int calls = 0; (code & 0xff) == SQLITE_BUSY && wait_while_busy(nullptr, calls) != 0; calls++) {
        code = sqlite3_exec(handle, "PRAGMA journal_mode = WAL;", nullptr, nullptr, nullptr);
    }
    if (code != SQLITE_OK) raise_error(handle, code);
}

// Its $1 is a name: SQLite gives the first one that it meets the number 1.
void check_parameters(sqlite3_stmt* statement, const char* sql) {
    for (int number = 1; number <= sqlite3_bind_parameter_count(statement); number++) {
        const char* name = sqlite3_bind_parameter_name(statement, number);
        if (name == nullptr || name[0] != '$' || name + 1 == std::to_string(number)) continue;
        throw SqliteError({ErrorCode::kInternal, std::string(name) + " stands before others: " + sql});
    }
}

// SQLite counts all memory that it takes, behind a mutex that the threads of the process share, for a number that
// nobody asks for. Only before its first use; where that has been, it counts.
void configure_once() {
    static const int kCode = sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
    static_cast<void>(kCode);
}

}  // namespace

void SqliteQuery::raise(int code) const { raise_error(sqlite3_db_handle(statement_), code); }

void SqliteQuery::bind(int index, std::string_view text) {
    // A null pointer would bind NULL; an empty view may hold one.
    check(sqlite3_bind_text64(statement_, index, text.data() != nullptr ? text.data() : "", text.size(), SQLITE_STATIC,
                              SQLITE_UTF8));
}
void SqliteQuery::bind(int index, std::int64_t number) { check(sqlite3_bind_int64(statement_, index, number)); }
void SqliteQuery::bind(int index, double number) { check(sqlite3_bind_double(statement_, index, number)); }
void SqliteQuery::bind(int index, SqliteBlob blob) {
    check(sqlite3_bind_blob64(statement_, index, blob.bytes.data() != nullptr ? blob.bytes.data() : "",
                              blob.bytes.size(), SQLITE_STATIC));
}
void SqliteQuery::bind(int index, const std::optional<std::int64_t>& number) {
    check(number ? sqlite3_bind_int64(statement_, index, *number) : sqlite3_bind_null(statement_, index));
}

bool SqliteQuery::step() {
    int code = sqlite3_step(statement_);
    if (code == SQLITE_ROW) return true;
    if (code != SQLITE_DONE) raise(code);
    return false;
}

std::string_view SqliteQuery::view(int column) const {
    auto* data = static_cast<const char*>(sqlite3_column_blob(statement_, column));
    auto size = static_cast<std::size_t>(sqlite3_column_bytes(statement_, column));
    return data == nullptr ? std::string_view() : std::string_view(data, size);
}

SqliteConnection::SqliteConnection(const std::string& path, bool read_only) {
    configure_once();
    sqlite3* raw = nullptr;
    int flags = read_only ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE;
    int code = sqlite3_open_v2(path.c_str(), &raw, flags | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE, nullptr);
    handle_.reset(raw);
    if (code != SQLITE_OK) {
        throw SqliteError({code_of(code), "cannot open " + path + ": " + sqlite3_errstr(code)});
    }
    sqlite3_busy_handler(raw, wait_while_busy, nullptr);
    if (!read_only) switch_to_wal(raw);
    // FULL makes every commit durable before it is acknowledged to Redis. The checkpoint takes its
    // time less often than the default, and rewrites each page once for many commits; `serve` makes it elsewhere
    // (sqlite_wal_thread.h).
    execute_script(
        "PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA wal_autocheckpoint = 2000;"
        "PRAGMA journal_size_limit = 67108864; PRAGMA cache_size = -32768; PRAGMA temp_store = MEMORY;");
}

void SqliteConnection::execute_script(std::string_view sql) {
    std::string text(sql);
    int code = sqlite3_exec(handle_.get(), text.c_str(), nullptr, nullptr, nullptr);
    if (code != SQLITE_OK) raise_error(handle_.get(), code);
}

void SqliteConnection::set_commits_wait(bool wait) {
    if (wait == commits_wait_) return;
    commits_wait_ = false;  // should the next line fail, the next call that wants FULL says it again
    // Not a prepared statement: this one takes effect when it is compiled.
    execute_script(wait ? "PRAGMA synchronous = FULL" : "PRAGMA synchronous = NORMAL");
    commits_wait_ = wait;
}

void SqliteConnection::sync_wal() noexcept {
    sqlite3_file* wal = nullptr;
    const int code =
        sqlite3_file_control(handle_.get(), "main", SQLITE_FCNTL_JOURNAL_POINTER, static_cast<void*>(&wal));
    if (code == SQLITE_OK && wal != nullptr && wal->pMethods != nullptr) {
        wal->pMethods->xSync(wal, SQLITE_SYNC_NORMAL | SQLITE_SYNC_DATAONLY);
    }
}

bool SqliteConnection::checkpoint() noexcept {
    int pages = 0;
    int moved = 0;
    const int code = sqlite3_wal_checkpoint_v2(handle_.get(), nullptr, SQLITE_CHECKPOINT_PASSIVE, &pages, &moved);
    return code != SQLITE_OK || moved >= pages;
}

void SqliteConnection::check_place() {
    int has_moved = 0;
    sqlite3_file_control(handle_.get(), "main", SQLITE_FCNTL_HAS_MOVED, &has_moved);
    if (has_moved == 0) return;
    throw SqliteError(
        {ErrorCode::kUnavailable,
         "SQLite: the database was moved, deleted or replaced while it is in use: put it back, or restart"});
}

sqlite3_stmt* SqliteConnection::prepared(const char* sql) {
    auto& slot = statements_[sql];
    if (!slot) {
        sqlite3_stmt* raw = nullptr;
        int code = sqlite3_prepare_v3(handle_.get(), sql, -1, SQLITE_PREPARE_PERSISTENT, &raw, nullptr);
        if (code != SQLITE_OK) raise_error(handle_.get(), code);
        std::unique_ptr<sqlite3_stmt, Finalizer> statement(raw);
        check_parameters(raw, sql);
        slot = std::move(statement);
    }
    return slot.get();
}

}  // namespace headgate
