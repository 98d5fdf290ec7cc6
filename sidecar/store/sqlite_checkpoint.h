// Moves what the writer has committed from the WAL into the database file, on a thread and a connection of its own: in
// the writer it would hold back every few hundredth commit for tens of milliseconds, and whoever waits for it.
#pragma once

#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>

#include "sidecar/store/sqlite_statement.h"

namespace headgate {

class SqliteCheckpointer {
 public:
    // Throws SqliteError when the file cannot be opened.
    explicit SqliteCheckpointer(const std::string& path);
    ~SqliteCheckpointer();
    SqliteCheckpointer(const SqliteCheckpointer&) = delete;
    SqliteCheckpointer& operator=(const SqliteCheckpointer&) = delete;

    // From now on after each commit of this connection, which must not commit any more once this object is gone.
    void follow(SqliteConnection& writer);

 private:
    static int on_commit(void* self, sqlite3* writer, const char* name, int wal_pages) noexcept;
    void run() noexcept;

    SqliteConnection db_;
    std::mutex mutex_;
    std::condition_variable changed_;
    bool is_wanted_ = false;  // guarded by mutex_, like the next one
    bool is_stopping_ = false;
    std::thread thread_;
};

}  // namespace headgate
