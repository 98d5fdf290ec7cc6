// Stage 1: streams -> store. Reads the owned shards, persists each batch in one transaction, and
// only then acknowledges and deletes it (XACK and XDEL in one MULTI). Next file: ingest_batch.h. How many
// of these there are, and which shards each reads: ingest_groups.h.
#pragma once

#include <atomic>
#include <boost/asio/awaitable.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "sidecar/ingest/catch_up.h"
#include "sidecar/io/db_executor.h"
#include "sidecar/io/redis_link.h"
#include "sidecar/store/owned_parts.h"

namespace headgate {

constexpr std::chrono::milliseconds kIngestCommandTimeout{3000};  // of Redis

struct IngestOptions {
    RedisAddress redis;
    // Where acknowledgements go, when it is shared with other readers, and the server of it that is read from.
    std::shared_ptr<RedisLink> link;
    std::string server;
    std::shared_ptr<CatchUp> catch_up;  // told of what is persisted, when it is shared: then with the link
    std::string key_prefix = "headgate:";
    int shards = 8;
    OwnedPartsPtr owned;          // the shards to read, until follow() says otherwise
    std::size_t batch_max = 512;  // COUNT adapts below this so that a reply stays under kStreamReplyBytesMax
    std::size_t reply_bytes_max = kRedisReplyBytesMax;  // a larger reply is cut, and asked for in smaller parts
    // Failures of one batch in a row, without a cause and while the store works otherwise, before single
    // events are suspected: about a quarter of a minute.
    int unexplained_failures_max = 10;
    // How often pending entries are looked for besides: a late reader, stopped before its command went out, may have
    // been given some that it must not persist any more.
    std::chrono::milliseconds pending_interval{5000};
    // How often entries are looked for that nobody would read again, besides when a shard is taken up (left_behind.h).
    std::chrono::milliseconds left_behind_interval{60'000};
    // Called when the store refused a batch because a shard is no longer ours.
    std::function<void()> on_lease_lost;
};

struct IngestCounters {
    std::atomic<std::uint64_t> drained{0}, duplicates{0}, quarantined{0}, batches{0}, persist_errors{0};
    // Wall clock of the newest read that Redis granted (a refusal is none), 0 before the first. While a
    // batch is persisted it is Redis that waits: kNotAsking, which is later than any clock.
    std::atomic<std::int64_t> last_redis_reply_ms{0};
    static constexpr std::int64_t kNotAsking = std::int64_t{1} << 60;
    std::atomic<std::int64_t> oldest_undrained_ms{0};  // event time of the oldest entry not yet persisted; 0 = none
    // steady_clock_ms() of the first of the failures in a row of a batch that is not persisted yet; 0 = none.
    std::atomic<std::int64_t> refused_since_ms{0};
};

// What ingest hands on right after the commit, before Redis has acknowledged: deliveries that were
// claimed for memory at once, and that others became due.
class DeliverySink {
 public:
    virtual ~DeliverySink() = default;
    // Called on the DB thread, inside the persist transaction: may this delivery be held in memory?
    // A yes is a reservation until accept() or release().
    virtual bool reserve(std::string_view webhook_id) = 0;
    // Called when the transaction failed: every reservation of it is void.
    virtual void release(std::string_view webhook_id) = 0;
    // Called on the event loop after the commit. `unclaimed` more are due in the store.
    virtual void accept(std::vector<ClaimedDelivery> claimed, std::size_t unclaimed) = 0;
};

class Ingest {
 public:
    Ingest(boost::asio::any_io_executor executor, DbExecutor& db, SubscriptionMatcher& matcher, DeliverySink& sink,
           IngestOptions options);
    ~Ingest();
    // Runs until stop(); heals NOGROUP, reconnects with backoff. First the pending entries of
    // every shard (from 0), then new ones. Never throws. The object, and `db`, must outlive it: it
    // ends after the last acknowledgement.
    boost::asio::awaitable<void> run();
    void stop();
    // The shards to read from here on. What was read of one that leaves, or is lost, is still persisted if the
    // store agrees; else it stays pending, for the new owner.
    void follow(OwnedPartsPtr owned);
    // Is anything of this shard being read, persisted or acknowledged?
    [[nodiscard]] bool is_shard_in_use(int shard) const;
    [[nodiscard]] const IngestCounters& counters() const;
    // The last id delivered to the group by each shard's stream as of the call, then waits (at most
    // `timeout`) until ingest has persisted up to them: GET /inbox sees what was answered 201 before.
    boost::asio::awaitable<bool> wait_until_caught_up(std::chrono::milliseconds timeout);

 private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace headgate
