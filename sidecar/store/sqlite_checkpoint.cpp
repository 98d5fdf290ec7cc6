// Checkpoints beside the writer; see sqlite_checkpoint.h.
#include "sidecar/store/sqlite_checkpoint.h"

namespace headgate {
namespace {

constexpr int kPagesWanted = 4000;  // more of them: each page is rewritten once for many commits
// The writer helps from here on, so that the WAL is bounded whatever becomes of the thread.
constexpr int kPagesMax = 16'384;
// The writer goes on meanwhile: what it adds is less with each pass. The WAL begins anew when a pass has caught up.
constexpr int kPasses = 8;

}  // namespace

SqliteCheckpointer::SqliteCheckpointer(const std::string& path) : db_(path, false), thread_([this] { run(); }) {}

SqliteCheckpointer::~SqliteCheckpointer() {
    {
        const std::lock_guard lock(mutex_);
        is_stopping_ = true;
    }
    changed_.notify_one();
    thread_.join();
}

void SqliteCheckpointer::follow(SqliteConnection& writer) { writer.after_commit(&SqliteCheckpointer::on_commit, this); }

// What it returned would be reported as the commit's own error.
int SqliteCheckpointer::on_commit(void* self, sqlite3* writer, const char*, int wal_pages) noexcept {
    auto& checkpointer = *static_cast<SqliteCheckpointer*>(self);
    if (wal_pages >= kPagesMax) {
        sqlite3_wal_checkpoint_v2(writer, nullptr, SQLITE_CHECKPOINT_PASSIVE, nullptr, nullptr);
    } else if (wal_pages >= kPagesWanted) {
        const std::lock_guard lock(checkpointer.mutex_);
        checkpointer.is_wanted_ = true;
        checkpointer.changed_.notify_one();
    }
    return SQLITE_OK;
}

void SqliteCheckpointer::run() noexcept {
    for (;;) {
        {
            std::unique_lock lock(mutex_);
            changed_.wait(lock, [this] { return is_wanted_ || is_stopping_; });
            if (is_stopping_) return;
            is_wanted_ = false;
        }
        // A failure (a full disk) says nothing here: the writer has the same one, and says so.
        for (int pass = 0; pass < kPasses; pass++) {
            if (db_.checkpoint()) break;
        }
    }
}

}  // namespace headgate
