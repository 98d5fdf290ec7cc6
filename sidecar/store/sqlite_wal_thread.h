// What the writer leaves to a thread and a connection of its own: to sync the WAL after commits that did not wait for
// the disk, and to move what it holds into the database file. In the writer the one would cost a delivery more than
// its rows, the other would hold back every few hundredth commit for tens of milliseconds.
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>

#include "sidecar/store/sqlite_statement.h"

namespace headgate {

class SqliteWalThread {
 public:
    // Throws SqliteError when the file cannot be opened.
    explicit SqliteWalThread(const std::string& path);
    ~SqliteWalThread();
    SqliteWalThread(const SqliteWalThread&) = delete;
    SqliteWalThread& operator=(const SqliteWalThread&) = delete;

    // From now on after each commit of this connection, which must not commit any more once this object is gone.
    void follow(SqliteConnection& writer);
    // What has been committed is on the disk 100 ms from now, and the time that the disk takes.
    void sync_soon();

 private:
    using Clock = std::chrono::steady_clock;

    static int on_commit(void* self, sqlite3* writer, const char* name, int wal_pages) noexcept;
    void run() noexcept;
    void checkpoint() noexcept;

    SqliteConnection db_;
    std::mutex mutex_;
    std::condition_variable changed_;
    // Guarded by mutex_, like the next two.
    bool is_checkpoint_wanted_ = false;
    Clock::time_point sync_at_ = Clock::time_point::max();
    bool is_stopping_ = false;
    std::thread thread_;
};

}  // namespace headgate
