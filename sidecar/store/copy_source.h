// The end of a copy that is read: an SQLite file, in one transaction from the first row to the last digest. Throws
// SqliteError. Next file: copy_target.h.
#pragma once

#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "sidecar/store/copy_tables.h"
#include "sidecar/store/rows.h"
#include "sidecar/store/sqlite_statement.h"

namespace headgate {

inline constexpr std::size_t kCopyBatchBytesMax = 8UL * 1024 * 1024;

class CopySource {
 public:
    // Nobody else writes into the file while this lives, unless `lets_others_write`: then what is read is a snapshot.
    CopySource(const std::string& path, bool lets_others_write);

    // Names this store among all others.
    [[nodiscard]] const std::string& identity() const noexcept { return identity_; }
    [[nodiscard]] const std::vector<CopyTable>& tables() const noexcept { return tables_; }

    struct Batch {
        std::size_t rows = 0;
        std::optional<CopyKey> last;  // nullopt: there was none
        bool is_end = false;          // nothing is behind it
    };
    // The rows behind `after` in the order of their keys, at most `rows_max`, and no more once they are beyond
    // kCopyBatchBytesMax. A row is valid until on_row returns.
    Batch read(std::size_t table, const std::optional<CopyKey>& after, std::size_t rows_max,
               const std::function<void(const SqliteQuery& row)>& on_row);

    // The newest number that a table's counter has given; 0: none, or it has no counter.
    std::int64_t counter_of(const std::string& table);
    // The weeks of the ids in a table (events, attempts), ascending: where each begins. At most kWeeksMax, of times up
    // to `until`; what is older or no UUIDv7 has no week.
    std::vector<TimeMs> weeks_of(std::string_view table, TimeMs until);

 private:
    static constexpr int kWeeksMax = 520;

    SqliteConnection db_;
    std::vector<CopyTable> tables_;
    std::string identity_;
    struct Statements {
        std::string first, next;
    };
    std::deque<Statements> statements_;  // of each table; prepared by address
};

}  // namespace headgate
