// All readers of the streams: an Ingest for each group of stream_groups.h, made and ended as slots and masters move and
// as shards come and go. No two read the same shard at a time. Output: as of ingest.h.
#pragma once

#include <memory>

#include "sidecar/ingest/ingest.h"

namespace headgate {

// Sums over all groups, those that have ended included; the times are those of the group that waits longest.
struct IngestTotals {
    std::uint64_t drained = 0, duplicates = 0, quarantined = 0, batches = 0, persist_errors = 0;
    std::int64_t last_redis_reply_ms = IngestCounters::kNotAsking;
    std::int64_t oldest_undrained_ms = 0;
    std::int64_t refused_since_ms = 0;
};

class IngestGroups {
 public:
    IngestGroups(boost::asio::any_io_executor executor, DbExecutor& db, SubscriptionMatcher& matcher,
                 DeliverySink& sink, IngestOptions options);
    ~IngestGroups();
    // Until stop(), and until the last group has ended. Throws what a group threw: then all have ended.
    boost::asio::awaitable<void> run();
    void stop();
    // As of Ingest.
    void follow(OwnedPartsPtr owned);
    [[nodiscard]] bool is_shard_in_use(int shard) const;
    [[nodiscard]] IngestTotals counters() const;
    // As of Ingest, for all shards, whoever reads them.
    boost::asio::awaitable<bool> wait_until_caught_up(std::chrono::milliseconds timeout);

 private:
    struct Impl;
    std::shared_ptr<Impl> impl_;
};

}  // namespace headgate
