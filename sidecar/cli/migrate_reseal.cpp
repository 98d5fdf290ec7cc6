// headgate migrate reseal: the last step of a new master key. What older keys encrypted is encrypted anew, in small
// transactions, beside whoever uses the store; afterwards the older keys can go.
#include <unistd.h>

#include <boost/json.hpp>
#include <chrono>
#include <iostream>
#include <thread>

#include "sidecar/cli/command.h"
#include "sidecar/cli/output.h"

namespace headgate {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::milliseconds kProgressInterval{1'000};
constexpr std::chrono::milliseconds kPassPause{200};  // for who holds the rows that were passed over
constexpr int kPassesMax = 100;
constexpr int kBatchRowsMax = 10'000;

std::int64_t left_of(const std::vector<Store::SealedUnder>& sealed) {
    std::int64_t left = 0;
    for (const Store::SealedUnder& row : sealed) left += row.is_current ? 0 : row.values;
    return left;
}

class Progress {
 public:
    explicit Progress(std::int64_t total) : total_(total) {}
    void show(std::int64_t resealed, bool is_done) {
        const auto now = Clock::now();
        if (!is_done && now < next_at_) return;
        next_at_ = now + kProgressInterval;
        std::cerr << (is_terminal_ ? "\r" : "") << "resealed " << resealed << " of " << std::max(total_, resealed)
                  << " secrets" << (is_terminal_ ? "\x1b[K" : "") << (is_terminal_ && !is_done ? "" : "\n");
        std::cerr.flush();
    }

 private:
    const std::int64_t total_;
    const bool is_terminal_ = isatty(STDERR_FILENO) == 1;
    Clock::time_point next_at_ = Clock::now() + kProgressInterval;
};

Result<void> reseal(const Invocation& invocation, int batch_rows) {
    auto opened = open_store_for(invocation);
    if (!opened) return tl::unexpected(opened.error());
    Store& store = *opened->store;
    auto before = store.sealed_under();
    if (!before) return tl::unexpected(before.error());
    for (const Store::SealedUnder& row : *before) {
        if (!row.is_given)
            return fail(ErrorCode::kInvalidArgument,
                        "secrets are encrypted under master key " + row.kid +
                            ", which was not given: put its file into security.previous_master_key_files");
    }
    Progress progress(left_of(*before));
    std::int64_t resealed = 0;
    std::string after;
    for (int passes = 0; passes < kPassesMax;) {
        auto step = store.reseal(after, static_cast<std::size_t>(batch_rows));
        if (!step) return tl::unexpected(step.error());
        resealed += static_cast<std::int64_t>(step->resealed);
        progress.show(resealed, step->is_done);
        if (step->is_done) {
            boost::json::object record;
            record.emplace("resealed", resealed);
            record.emplace("done", true);
            print_record(invocation.json, record);
            return {};
        }
        after = std::move(step->next);
        if (!after.empty()) continue;
        passes++;
        std::this_thread::sleep_for(kPassPause);
    }
    return fail(
        ErrorCode::kConflict,
        "others keep writing secrets under an older master key: every `headgate serve` must have the new key in "
        "security.master_key_file before this command is run");
}

}  // namespace

void add_migrate_reseal(CLI::App& migrate, Invocation& invocation) {
    auto batch_rows = std::make_shared<int>(200);
    auto* command = migrate.add_subcommand(
        "reseal", "encrypt all secrets anew under security.master_key_file; goes on where it was stopped");
    command->add_option("--batch-rows", *batch_rows, "rows of one transaction")
        ->check(CLI::Range(1, kBatchRowsMax))
        ->capture_default_str();
    command->callback([&invocation, batch_rows] {
        invocation.action = [&invocation, batch_rows] { return reseal(invocation, *batch_rows); };
    });
}

}  // namespace headgate
