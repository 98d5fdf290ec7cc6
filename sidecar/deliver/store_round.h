// The dispatcher's visits to the store: results in, claimed deliveries out, in as few transactions
// as possible. Made on the event loop, run on the DB thread. Next file: store.h.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "sidecar/deliver/memory_quota.h"
#include "sidecar/deliver/ready_lanes.h"

namespace headgate {

struct ResultBatch {
    std::vector<AttemptRecord> records;
    std::size_t written = 0;  // of them, from the front; what a later visit need not repeat
};

// The epochs of the claims that these records come from, by lane: the store refuses those of lanes that have changed
// hands. Of two claims of a lane the later one counts, and `is_late` says so of records of the earlier.
[[nodiscard]] std::vector<std::int64_t> claim_epochs(std::span<const AttemptRecord> records);
[[nodiscard]] bool is_late(const AttemptRecord& record, Epochs epochs) noexcept;

// Writes what is left of the batch. When the store refuses records for good, the batch is halved
// until only the culprits are left, and those are written without what the network sent; of one that is
// refused even then only the delivery is written, without the attempt's row, so that it is neither forgotten nor
// sent again. If that is refused as well it is given up (the next start finds its delivery in flight). An error
// is one that may pass: the batch must be kept, and written again.
using RecordAttempts = std::function<Result<RecordOutcome>(std::span<const AttemptRecord>)>;
[[nodiscard]] Result<void> write_results(const RecordAttempts& record_attempts, ResultBatch& batch);

struct StoreRound {
    enum class Claim { kNo, kIfHungry, kYes };
    struct Outcome {
        std::vector<ClaimedDelivery> claimed;
        bool has_looked = false;  // for due deliveries; then:
        std::optional<TimeMs> next_due_at;
        std::size_t late = 0;  // results of lanes that had changed hands; the new owner sends those again
    };

    std::shared_ptr<ResultBatch> results;
    std::shared_ptr<MemoryQuota> quota;
    std::shared_ptr<ReadyLanes> ready;
    Claim claim = Claim::kNo;
    TimeMs now = 0;

    // First the results, then, with what they released, a claim: one transaction where the store can. After an error
    // the results are written if `results->written` says so.
    Result<Outcome> operator()(Store& store) const;

 private:
    // Returns how many deliveries are due now that waited for one of these results.
    Result<std::size_t> write_all(Store& store, Outcome& outcome) const;
};

}  // namespace headgate
