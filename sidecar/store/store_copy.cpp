// The order of a copy, and the comparison; see store_copy.h.
#include "sidecar/store/store_copy.h"

#include <algorithm>
#include <filesystem>

#include "sidecar/base/wall_clock.h"
#include "sidecar/store/copy_rows.h"
#include "sidecar/store/copy_source.h"
#include "sidecar/store/copy_target.h"
#include "sidecar/store/open_store.h"

namespace headgate {
namespace {

constexpr std::string_view kSqliteScheme = "sqlite:";
constexpr std::size_t kRowsMin = 16;  // of a page of the target that the source has hardly any rows for
constexpr TimeMs kWeeksAheadMs = 28LL * 24 * 3600 * 1000;

// Opened as `serve` opens it: its master key is the one that we were given, its schema ours. The source's stays open
// for its lock.
Result<std::unique_ptr<Store>> open_at_our_schema(Result<std::unique_ptr<Store>> store, std::string_view which) {
    if (!store) return store;
    auto migrations = (*store)->migrations();
    if (!migrations) return tl::unexpected<Error>(migrations.error());
    for (const MigrationRow& row : *migrations) {
        if (row.state == MigrationState::kApplied) continue;
        return fail(ErrorCode::kConflict, "the schema of the store that should be " + std::string(which) +
                                              " is not this program's (" + row.name +
                                              "): see `headgate migrate status` there");
    }
    return store;
}

class StoreCopy {
 public:
    StoreCopy(const StoreCopyOptions& options, CopySource& source, CopyTarget& target)
        : options_(options), source_(source), target_(target) {}

    void copy_all() {
        for (const char* table : {"events", "attempts"}) {
            for (TimeMs week : source_.weeks_of(table, wall_clock_ms() + kWeeksAheadMs)) target_.make_week(table, week);
        }
        for (std::size_t i = 0; i < source_.tables().size(); i++) copy_table(i);
        for (const char* table : {"projections", "system_outbox"}) {
            target_.set_counter(table, source_.counter_of(table));
        }
        target_.analyze();
    }

    [[nodiscard]] bool is_complete() {
        for (std::size_t i = 0; i < source_.tables().size(); i++) {
            if (!target_.progress(i).is_done) return false;
        }
        return true;
    }

    [[nodiscard]] CopiedTable compare(std::size_t table);

 private:
    void copy_table(std::size_t table) {
        const CopyTable& described = source_.tables()[table];
        CopyTarget::Progress progress = target_.progress(table);
        while (!progress.is_done) {
            CopyRows rows(described);
            auto batch =
                source_.read(table, progress.last, options_.batch_rows, [&](const SqliteQuery& row) { rows.add(row); });
            progress.rows += static_cast<std::int64_t>(batch.rows);
            if (batch.last) progress.last = std::move(batch.last);
            progress.is_done = batch.is_end;
            target_.write(table, rows, progress);
            report({described.name, progress.rows, false, progress.is_done});
        }
    }

    void report(const StoreCopyProgress& progress) const {
        if (options_.on_progress) options_.on_progress(progress);
    }

    const StoreCopyOptions& options_;
    CopySource& source_;
    CopyTarget& target_;
};

// Both sides side by side, in the batches that the source's rows make.
CopiedTable StoreCopy::compare(std::size_t table) {
    const CopyTable& described = source_.tables()[table];
    CopiedTable result;
    result.name = described.name;
    Sha256 row_hash;
    Sha256 source_hash;
    Sha256 target_hash;
    auto add = [](Sha256& hash, const Sha256Digest& digest) {
        hash.update({reinterpret_cast<const char*>(digest.data()), digest.size()});
    };
    std::optional<CopyKey> after;
    for (bool is_end = false; !is_end;) {
        std::vector<std::pair<Sha256Digest, CopyKey>> expected;
        auto batch = source_.read(table, after, options_.batch_rows, [&](const SqliteQuery& row) {
            expected.emplace_back(row_digest(row_hash, described, row), row_key(described, row));
            add(source_hash, expected.back().first);
        });
        is_end = batch.is_end;
        // Behind the source's last row there should be nothing more.
        const std::optional<CopyKey> until = is_end ? std::nullopt : batch.last;
        std::optional<CopyKey> first_difference;
        std::size_t at = 0;
        auto on_row = [&](const PgResult& row) {
            const Sha256Digest digest = row_digest(row_hash, described, row);
            add(target_hash, digest);
            result.target_rows++;
            after = row_key(described, row);
            if (!first_difference && (at >= expected.size() || digest != expected[at].first)) {
                first_difference = at < expected.size() ? std::min(*after, expected[at].second) : *after;
            }
            at++;
        };
        const std::size_t rows_max = std::max(batch.rows, kRowsMin);
        while (target_.read(table, after, until, rows_max, on_row) == rows_max) {
        }
        if (!first_difference && at < expected.size()) first_difference = expected[at].second;
        if (first_difference && result.differs_from.empty()) {
            result.differs_from = key_text(*first_difference);
            result.differs_to = until ? key_text(*until) : "";
        }
        if (batch.last) after = batch.last;
        result.source_rows += static_cast<std::int64_t>(batch.rows);
        report({described.name, result.source_rows, true, is_end});
    }
    result.source_digest = hex_encode(source_hash.finish());
    result.target_digest = hex_encode(target_hash.finish());
    return result;
}

Result<std::vector<CopiedTable>> copy_between(const StoreCopyOptions& options) {
    const std::string path = options.source.url.substr(kSqliteScheme.size());
    StoreOptions source_options = options.source;
    source_options.exclusive = !options.is_source_in_use;
    auto source_store = open_at_our_schema(open_store(source_options), "read");
    if (!source_store) return tl::unexpected<Error>(source_store.error());
    CopySource source(path, options.is_source_in_use);

    CopyTarget target({options.target.url, options.target.password, false});
    target.lock();
    auto state = target.state();
    auto target_store = open_store(options.target);
    if (!target_store) return tl::unexpected<Error>(target_store.error());
    if (!state.is_begun && options.only_compares) {
        return fail(ErrorCode::kConflict, "nothing was ever copied into this store");
    }
    if (!state.is_begun) {
        auto migrated = (*target_store)->migrate();
        if (!migrated) return tl::unexpected<Error>(migrated.error());
    }
    target_store = open_at_our_schema(std::move(target_store), "written");
    if (!target_store) return tl::unexpected<Error>(target_store.error());
    if (state.is_begun && state.source != source.identity()) {
        return fail(ErrorCode::kConflict, "the store that should be written has been copied from another one");
    }
    target.prepare(source.tables());
    if (!state.is_begun) target.begin(source.tables(), source.identity(), wall_clock_ms());

    StoreCopy copy(options, source, target);
    if (!state.is_finished && !options.only_compares) copy.copy_all();
    std::vector<CopiedTable> tables;
    for (std::size_t i = 0; i < source.tables().size(); i++) tables.push_back(copy.compare(i));
    const bool is_same = std::all_of(tables.begin(), tables.end(), [](const CopiedTable& t) { return t.is_same(); });
    if (is_same && copy.is_complete()) target.finish(wall_clock_ms());
    return tables;
}

}  // namespace

Result<std::vector<CopiedTable>> copy_store(const StoreCopyOptions& options) {
    if (!options.source.url.starts_with(kSqliteScheme) || !is_postgres_url(options.target.url)) {
        return fail(ErrorCode::kInvalidArgument,
                    "a copy is made from sqlite:/path/to/file.db to postgresql://host/database");
    }
    std::error_code failed;
    if (!std::filesystem::exists(options.source.url.substr(kSqliteScheme.size()), failed)) {
        return fail(ErrorCode::kNotFound, options.source.url + " does not exist");  // opening would make it
    }
    try {
        return copy_between(options);
    } catch (StoreFailure& failure) {
        return tl::unexpected<Error>(std::move(failure.error));
    } catch (const std::bad_alloc&) {
        return fail(ErrorCode::kUnavailable, "store: out of memory");
    }
}

}  // namespace headgate
