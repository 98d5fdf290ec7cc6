// One reply of XREADGROUP as a batch: decoded, persisted, acknowledged. Nothing here waits: decoding
// and the commands are pure, persist_batch runs on the DB thread. Input: stream_reader.h. Next file: ingest.cpp.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "sidecar/ingest/ingest.h"
#include "sidecar/io/redis_link.h"
#include "sidecar/base/wall_clock.h"
#include "sidecar/store/store.h"

namespace headgate {

struct IngestBatch {
    std::shared_ptr<const redisReply> reply;  // what the views below point into
    std::vector<EventRecord> events;
    std::vector<StreamPosition> positions;    // one for each event
    std::vector<QuarantineEntry> quarantine;  // what cannot be decoded
    struct Shard {
        int shard = 0;
        std::vector<std::string_view> ids;  // of every entry, decodable or not
        StreamPosition last;
    };
    std::vector<Shard> shards;  // those with entries
    std::size_t entries = 0;
    std::size_t reply_bytes = 0;  // of fields and values
    std::size_t fullest = 0;      // entries of the stream that gave most
    TimeMs oldest_at = 0, newest_at = 0;
};

// kCorrupt when the reply is not of XREADGROUP's shape or names a stream that is not in `keys`
// (the index of a key is its shard). An event's time that cannot be (0, or more than kAheadMs ahead of both `now` and
// its stream id) is set to the stream id's, which is when Redis got it: the event itself is as good as others.
inline constexpr TimeMs kAheadMs = 24LL * 3600 * 1000;
[[nodiscard]] Result<IngestBatch> decode_batch(std::shared_ptr<const redisReply> reply,
                                               const std::vector<std::string>& keys, TimeMs now = wall_clock_ms());
// The same of XRANGE's reply about one shard's stream.
[[nodiscard]] Result<IngestBatch> decode_range(std::shared_ptr<const redisReply> reply, int shard,
                                               TimeMs now = wall_clock_ms());

// Per shard MULTI, XACK, XDEL, EXEC: apart, a cut between the two would leave an entry that nothing
// ever reads again. kRepliesPerAck replies for each shard.
inline constexpr std::size_t kRepliesPerAck = 4;
[[nodiscard]] std::vector<RedisCommands> ack_commands(const IngestBatch& batch, const std::vector<std::string>& keys);
// For a Redis that has no memory left, of one shard: XDEL, XACK. Such a Redis refuses every command inside MULTI, these
// two as well, and takes both outside. In this order: what a cut between them leaves is pending without a body, which
// is read again and acknowledged.
inline constexpr std::size_t kRepliesPerPlainAck = 2;
[[nodiscard]] RedisCommands plain_ack_commands(const IngestBatch::Shard& shard, const std::string& key);

// What became of a batch. With an error part of it may have been committed: that part's deliveries
// are here and must be handed on; persisting the batch again finds its events as duplicates.
struct PersistProgress {
    std::vector<ClaimedDelivery> claimed;
    std::size_t unclaimed = 0;
    std::size_t events_new = 0, duplicates = 0, quarantined = 0;
    // kUnavailable, kLeaseLost or kCorrupt: of the store, not of an event. kInternal: not known whose fault it is;
    // the store took an empty batch right after.
    std::optional<Error> error;
};

// A failure that names no cause is the store's more often than an event's: memory, a damaged row. It
// is tried again, and only one that stays while the store works otherwise is looked for in the events.
enum class OnInternal : bool { kRetry, kBisect };

// Persists the batch in one transaction. When the store refuses it for what an event holds, the
// batch is bisected until only the culprit is in quarantine. Reservations of `sink` that no commit used are released.
[[nodiscard]] PersistProgress persist_batch(Store& store, SubscriptionMatcher& matcher, DeliverySink& sink,
                                            const IngestBatch& batch, const OwnedParts& owned, TimeMs now,
                                            OnInternal on_internal = OnInternal::kRetry);

}  // namespace headgate
