// Syncs and checkpoints beside the writer; see sqlite_wal_thread.h.
#include "sidecar/store/sqlite_wal_thread.h"

#include <algorithm>
#include <utility>

namespace headgate {
namespace {

constexpr std::chrono::milliseconds kSyncWait{100};
constexpr std::chrono::hours kIdleWait{1};  // a time that every clock can express
constexpr int kPagesWanted = 4000;          // more of them: each page is rewritten once for many commits
// The writer helps from here on, so that the WAL is bounded whatever becomes of the thread.
constexpr int kPagesMax = 16'384;
// The writer goes on meanwhile: what it adds is less with each pass. The WAL begins anew when a pass has caught up.
constexpr int kPasses = 8;

}  // namespace

SqliteWalThread::SqliteWalThread(const std::string& path) : db_(path, false), thread_([this] { run(); }) {}

SqliteWalThread::~SqliteWalThread() {
    {
        const std::lock_guard lock(mutex_);
        is_stopping_ = true;
    }
    changed_.notify_one();
    thread_.join();
}

void SqliteWalThread::follow(SqliteConnection& writer) { writer.after_commit(&SqliteWalThread::on_commit, this); }

void SqliteWalThread::sync_soon() {
    const std::lock_guard lock(mutex_);
    if (sync_at_ != Clock::time_point::max()) return;
    sync_at_ = Clock::now() + kSyncWait;
    changed_.notify_one();
}

// What it returned would be reported as the commit's own error.
int SqliteWalThread::on_commit(void* self, sqlite3* writer, const char*, int wal_pages) noexcept {
    auto& thread = *static_cast<SqliteWalThread*>(self);
    if (wal_pages >= kPagesMax) {
        sqlite3_wal_checkpoint_v2(writer, nullptr, SQLITE_CHECKPOINT_PASSIVE, nullptr, nullptr);
    } else if (wal_pages >= kPagesWanted) {
        const std::lock_guard lock(thread.mutex_);
        thread.is_checkpoint_wanted_ = true;
        thread.changed_.notify_one();
    }
    return SQLITE_OK;
}

void SqliteWalThread::run() noexcept {
    for (;;) {
        bool is_last = false;
        bool is_sync_due = false;
        bool is_checkpoint_due = false;
        {
            std::unique_lock lock(mutex_);
            while (!is_stopping_ && !is_checkpoint_wanted_ && Clock::now() < sync_at_) {
                changed_.wait_until(lock, std::min(sync_at_, Clock::now() + kIdleWait));
            }
            is_last = is_stopping_;
            is_sync_due = sync_at_ != Clock::time_point::max() && (is_last || Clock::now() >= sync_at_);
            if (is_sync_due) sync_at_ = Clock::time_point::max();
            is_checkpoint_due = std::exchange(is_checkpoint_wanted_, false) && !is_last;
        }
        // A failure of either (a full or broken disk) says nothing here: the writer has the same one, and says so.
        if (is_sync_due) db_.sync_wal();
        if (is_last) return;  // whoever closes the file last checkpoints it
        if (is_checkpoint_due) checkpoint();
    }
}

void SqliteWalThread::checkpoint() noexcept {
    for (int pass = 0; pass < kPasses; pass++) {
        if (db_.checkpoint()) return;
    }
}

}  // namespace headgate
