// headgate migrate status | up | copy: the schema of the store, and a store that moves from SQLite to PostgreSQL. Next
// file: migrate_reseal.cpp.
#include <unistd.h>

#include <boost/json.hpp>
#include <chrono>
#include <iostream>

#include "common/rfc3339.h"
#include "sidecar/cli/command.h"
#include "sidecar/cli/output.h"
#include "sidecar/store/store_copy.h"

namespace headgate {
namespace json = boost::json;
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::milliseconds kProgressInterval{1'000};
constexpr int kBatchRowsMax = 10'000;

struct CopyOptions {
    std::string from, to, to_password_file;
    int batch_rows = 1000;
    bool is_source_in_use = false, only_compares = false;
};

std::string_view engine_of(const Config& config) { return is_shared_store(config) ? "postgresql" : "sqlite"; }

std::string_view state_name(MigrationState state) {
    switch (state) {
        case MigrationState::kApplied:
            return "applied";
        case MigrationState::kWaiting:
            return "waiting";
        case MigrationState::kNewer:
            return "newer";
        case MigrationState::kChanged:
            break;
    }
    return "changed";
}

// ---- status, up -----------------------------------------------------------------------------

Result<void> judge(const std::vector<MigrationRow>& rows) {
    std::size_t waiting = 0;
    for (const MigrationRow& row : rows) {
        if (row.state == MigrationState::kWaiting) waiting++;
        if (row.state == MigrationState::kNewer) {
            return fail(ErrorCode::kConflict, "the store's schema is newer than this program: use the newer headgate");
        }
        if (row.state == MigrationState::kChanged) {
            return fail(ErrorCode::kConflict, "migration " + row.name +
                                                  " was applied with another content than this program's: it was "
                                                  "changed after its release");
        }
    }
    if (waiting == 0) return {};
    return fail(ErrorCode::kConflict, std::to_string(waiting) +
                                          (waiting == 1 ? " migration waits" : " migrations wait") +
                                          ": `headgate migrate up` applies what is waiting");
}

Result<void> status(const Invocation& invocation) {
    auto config = invocation.load();
    if (!config) return tl::unexpected(config.error());
    auto master_keys = load_master_keys(*config);
    if (!master_keys) return tl::unexpected(master_keys.error());
    auto options = store_options(*config, *master_keys);
    if (!options) return tl::unexpected(options.error());
    options->read_only = true;
    auto store = open_store(*options);
    if (!store) return tl::unexpected(store.error());
    auto migrations = (*store)->migrations();
    if (!migrations) return tl::unexpected(migrations.error());
    json::array rows;
    for (const MigrationRow& migration : *migrations) {
        json::object row;
        row.emplace("version", migration.version);
        row.emplace("name", migration.name);
        row.emplace("state", state_name(migration.state));
        if (migration.applied_at) row.emplace("applied_at", rfc3339_format(*migration.applied_at));
        rows.push_back(std::move(row));
    }
    print_table(invocation.json, {"version", "name", "state", "applied_at"}, rows);
    return judge(*migrations);
}

Result<void> up(const Invocation& invocation) {
    auto config = invocation.load();
    if (!config) return tl::unexpected(config.error());
    auto master_keys = load_master_keys(*config);
    if (!master_keys) return tl::unexpected(master_keys.error());
    auto store = open_configured_store(*config, *master_keys, StoreUse::kBeside);
    if (!store) return tl::unexpected(store.error());
    auto applied = (*store)->migrate();
    if (!applied) return tl::unexpected(applied.error());
    auto version = (*store)->schema_version();
    if (!version) return tl::unexpected(version.error());
    json::object record;
    record.emplace("engine", engine_of(*config));
    record.emplace("applied", *applied);
    record.emplace("version", *version);
    print_record(invocation.json, record);
    return {};
}

// ---- copy -----------------------------------------------------------------------------------

// One line at a time on a terminal; else one for each table, and each second.
class ProgressLine {
 public:
    void operator()(const StoreCopyProgress& progress) {
        const auto now = Clock::now();
        if (!progress.is_done && now < next_at_) return;
        next_at_ = now + kProgressInterval;
        std::cerr << (is_terminal_ ? "\r" : "") << (progress.is_compared ? "compared " : "copied ") << progress.table
                  << ": " << progress.rows << " rows" << (is_terminal_ ? "\x1b[K" : "")
                  << (is_terminal_ && !progress.is_done ? "" : "\n");
        std::cerr.flush();
    }

 private:
    const bool is_terminal_ = isatty(STDERR_FILENO) == 1;
    Clock::time_point next_at_ = Clock::now() + kProgressInterval;
};

// What of `--from` and `--to` is not said is the configured store.
Result<StoreCopyOptions> describe(const Config& config, const CopyOptions& given) {
    auto master_keys = load_master_keys(config);
    if (!master_keys) return tl::unexpected(master_keys.error());
    StoreCopyOptions options;
    options.source.master_key = options.target.master_key = master_keys->current;
    options.source.previous_master_keys = options.target.previous_master_keys = master_keys->previous;
    options.source.url = given.from.empty() && !is_shared_store(config) ? config.store_url : given.from;
    options.target.url = given.to;
    if (options.source.url.empty()) {
        return fail(ErrorCode::kInvalidArgument, "--from says which SQLite file is copied: store.url is none");
    }
    if (given.to.empty()) {
        if (!is_shared_store(config)) {
            return fail(ErrorCode::kInvalidArgument, "--to says where the copy is made: store.url is the SQLite file");
        }
        auto configured = store_options(config, *master_keys);
        if (!configured) return tl::unexpected(configured.error());
        options.target = std::move(*configured);
    }
    if (!given.to_password_file.empty()) {
        auto password = read_secret_file(given.to_password_file);
        if (!password) return tl::unexpected(password.error());
        options.target.password = *password;
    }
    options.batch_rows = static_cast<std::size_t>(given.batch_rows);
    options.is_source_in_use = given.is_source_in_use;
    options.only_compares = given.only_compares;
    return options;
}

json::object row_of(const CopiedTable& table) {
    json::object row;
    row.emplace("table", table.name);
    row.emplace("rows", table.source_rows);
    row.emplace("digest", table.source_digest);
    row.emplace("ok", table.is_same());
    if (!table.is_same()) {
        row.emplace("rows_copied", table.target_rows);
        row.emplace("digest_copied", table.target_digest);
        row.emplace("differs_from", table.differs_from);
        row.emplace("differs_to", table.differs_to);
    }
    return row;
}

Result<void> copy(const Invocation& invocation, const CopyOptions& given) {
    auto config = invocation.load();
    if (!config) return tl::unexpected(config.error());
    auto options = describe(*config, given);
    if (!options) return tl::unexpected(options.error());
    ProgressLine line;
    options->on_progress = [&line](const StoreCopyProgress& progress) { line(progress); };
    auto tables = copy_store(*options);
    if (!tables) return tl::unexpected(tables.error());
    json::array rows;
    std::string differences;
    for (const CopiedTable& table : *tables) {
        rows.push_back(row_of(table));
        if (table.is_same()) continue;
        differences += "\n" + table.name + ": " + std::to_string(table.source_rows) + " rows, " +
                       std::to_string(table.target_rows) + " in the copy; they differ from " + table.differs_from +
                       " to " + (table.differs_to.empty() ? "the end" : table.differs_to);
    }
    print_table(invocation.json, {"table", "rows", "digest", "ok"}, rows);
    if (differences.empty()) return {};
    return fail(ErrorCode::kConflict, "the copy is not the same:" + differences);
}

void add_copy(CLI::App& migrate, Invocation& invocation) {
    auto options = std::make_shared<CopyOptions>();
    auto* command = migrate.add_subcommand(
        "copy", "copy a store from SQLite to PostgreSQL and compare the two; goes on where it was stopped");
    command->add_option("--from", options->from, "sqlite:/path/file.db (default: store.url, when it is one)")
        ->type_name("URL");
    command->add_option("--to", options->to, "postgresql://… of an empty database (default: store.url, when it is one)")
        ->type_name("URL");
    command
        ->add_option("--to-password-file", options->to_password_file,
                     "its password (default: store.password_file, "
                     "when --to is not given)")
        ->type_name("FILE");
    command->add_option("--batch-rows", options->batch_rows, "rows of one transaction")
        ->check(CLI::Range(1, kBatchRowsMax))
        ->capture_default_str();
    command->add_flag(
        "--source-in-use", options->is_source_in_use,
        "although `headgate serve` runs on the source: a rehearsal, what changes meanwhile is not copied");
    command->add_flag("--compare-only", options->only_compares, "compare what was copied before");
    command->callback(
        [&invocation, options] { invocation.action = [&invocation, options] { return copy(invocation, *options); }; });
}

}  // namespace

void add_migrate(CLI::App& root, Invocation& invocation) {
    auto* migrate =
        root.add_subcommand("migrate", "the store's schema, its way from SQLite to PostgreSQL, and its master key");
    migrate->require_subcommand(1);
    migrate->add_subcommand("status", "which migrations are applied, and which wait; exit code 1: not all are applied")
        ->callback([&invocation] { invocation.action = [&invocation] { return status(invocation); }; });
    migrate->add_subcommand("up", "apply what is waiting")->callback([&invocation] {
        invocation.action = [&invocation] { return up(invocation); };
    });
    add_copy(*migrate, invocation);
    add_migrate_reseal(*migrate, invocation);
}

}  // namespace headgate
