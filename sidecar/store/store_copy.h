// A whole store from SQLite to PostgreSQL: every table, then a comparison of all rows on both sides. Resumed where it
// was killed; memory is bounded by a batch. Next files: copy_tables.h (what), copy_source.h and copy_target.h (the two
// ends).
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "common/result.h"
#include "sidecar/store/store.h"

namespace headgate {

struct StoreCopyProgress {
    std::string_view table;
    std::int64_t rows = 0;  // of this table, so far; those of an earlier run included
    bool is_compared = false;
    bool is_done = false;  // with this table
};

struct StoreCopyOptions {
    StoreOptions source;  // sqlite:
    StoreOptions target;  // postgresql://, empty or with the begin of this copy; migrated when it is empty
    std::size_t batch_rows = 1000;
    // Although the source may be in use: what changes meanwhile is missing, and the comparison says so.
    bool is_source_in_use = false;
    bool only_compares = false;  // writes nothing but, after a copy was complete and is the same, that it may be used
    std::function<void(const StoreCopyProgress&)> on_progress;
};

struct CopiedTable {
    std::string name;
    std::int64_t source_rows = 0, target_rows = 0;
    std::string source_digest, target_digest;  // SHA-256 of the digests of all rows (copy_rows.h), in hexadecimal
    // The first row that differs or is missing on one side, and the end of the batch that it was found in, as JSON
    // arrays; an empty end: of the table.
    std::string differs_from, differs_to;

    [[nodiscard]] bool is_same() const { return source_rows == target_rows && source_digest == target_digest; }
};

// One entry for each table, in the order of the copy; that they are the same is for the caller to see. A store whose
// copy is not complete and the same is refused by Store::migrate(), and so by `serve`. kConflict: the source is served,
// or its schema is not the program's; the target has other data, or another copy writes into it. kUnavailable: one of
// them is away: the next call goes on.
[[nodiscard]] Result<std::vector<CopiedTable>> copy_store(const StoreCopyOptions& options);

}  // namespace headgate
