// Decoding, persisting and acknowledging one batch; see ingest_batch.h.
#include "sidecar/ingest/ingest_batch.h"

#include <hiredis/hiredis.h>

#include <algorithm>

#include "common/redis_reply.h"
#include "common/resp.h"
#include "sidecar/ingest/stream_reader.h"
#include "sidecar/store/event_bytes.h"
#include "sidecar/store/lane.h"
#include "sidecar/store/postgres_text.h"

namespace headgate {
namespace {

using Fields = std::vector<std::pair<std::string_view, std::string_view>>;

using redis::text_of;

constexpr std::uint64_t kStreamMsMax = 253'402'300'799'999;  // 9999-12-31T23:59:59.999Z

bool is_string(const redisReply& reply) { return reply.type == REDIS_REPLY_STRING || reply.type == REDIS_REPLY_STATUS; }
bool is_array(const redisReply& reply, std::size_t elements) {
    return reply.type == REDIS_REPLY_ARRAY && reply.elements == elements;
}

tl::unexpected<Error> bad_reply(std::string_view what) {
    return fail(ErrorCode::kCorrupt, "XREADGROUP answered " + std::string(what));
}

std::string fields_bytes(const Fields& fields) {
    std::string out;
    RespWriter writer(out);
    writer.array(2 * fields.size());
    for (const auto& [name, value] : fields) writer.bulk(name).bulk(value);
    return out;
}

// When it happened, as far as that can be: see decode_batch. A stream id may be anybody's invention as well.
TimeMs plausible_at(TimeMs at, const StreamPosition& position, TimeMs now) {
    const auto got_at = static_cast<TimeMs>(std::min<std::uint64_t>(position.ms, kStreamMsMax));
    if (at > 0 && at <= std::max(now, got_at) + kAheadMs) return at;
    return got_at > 0 && got_at <= now + kAheadMs ? got_at : now;
}

// One stream's entries. `fields` is scratch space.
Result<void> decode_stream(const redisReply& entries, int shard, TimeMs now, Fields& fields, IngestBatch& batch) {
    IngestBatch::Shard& of_shard = batch.shards.emplace_back();
    of_shard.shard = shard;
    of_shard.ids.reserve(entries.elements);
    for (std::size_t i = 0; i < entries.elements; i++) {
        const redisReply& entry = *entries.element[i];
        if (!is_array(entry, 2) || !is_string(*entry.element[0])) return bad_reply("an entry without id and fields");
        std::string_view id = text_of(entry.element[0]);
        StreamPosition position{shard, 0, 0};
        if (!parse_stream_id(id, position.ms, position.seq)) return bad_reply("an id that is none");
        of_shard.ids.push_back(id);
        of_shard.last = position;
        batch.entries++;
        const redisReply& list = *entry.element[1];
        if (list.type == REDIS_REPLY_NIL) continue;  // pending, but deleted from the stream: only to be acknowledged
        if (list.type != REDIS_REPLY_ARRAY || list.elements % 2 != 0) return bad_reply("fields that are no pairs");
        fields.clear();
        for (std::size_t field = 0; field < list.elements; field += 2) {
            const redisReply& name = *list.element[field];
            const redisReply& value = *list.element[field + 1];
            if (!is_string(name) || !is_string(value)) return bad_reply("a field that is no string");
            fields.emplace_back(text_of(&name), text_of(&value));
            batch.reply_bytes += name.len + value.len;
        }
        Result<EventRecord> event = decode_event(fields);
        if (!event) {
            batch.quarantine.push_back({std::string(id), event.error().message, fields_bytes(fields), shard});
            continue;
        }
        event->at_ms = plausible_at(event->at_ms, position, now);
        batch.oldest_at = batch.oldest_at == 0 ? event->at_ms : std::min(batch.oldest_at, event->at_ms);
        batch.newest_at = std::max(batch.newest_at, event->at_ms);
        batch.events.push_back(*event);
        batch.positions.push_back(position);
    }
    batch.fullest = std::max(batch.fullest, of_shard.ids.size());
    if (of_shard.ids.empty()) batch.shards.pop_back();
    return {};
}

// The persist calls of one batch.
class Persisting {
 public:
    Persisting(Store& store, SubscriptionMatcher& matcher, DeliverySink& sink, const IngestBatch& batch,
               const OwnedParts& owned, TimeMs now, OnInternal on_internal)
        : store_(store),
          matcher_(matcher),
          sink_(sink),
          batch_(batch),
          owned_(owned),
          now_(now),
          on_internal_(on_internal) {}

    PersistProgress run() {
        auto error = commit(0, batch_.events.size(), batch_.quarantine);
        examine(error);
        if (error && may_be_of_an_event(error->code)) {
            error = isolate();
            examine(error);
        }
        progress_.error = std::move(error);
        return std::move(progress_);
    }

 private:
    [[nodiscard]] bool may_be_of_an_event(ErrorCode code) const {
        return code == ErrorCode::kConflict || code == ErrorCode::kTooLarge || code == ErrorCode::kUnprocessable ||
               (code == ErrorCode::kInternal && on_internal_ == OnInternal::kBisect);
    }

    // A store that does not even work with no event in its hands is at fault itself.
    void examine(std::optional<Error>& error) {
        if (!error || error->code != ErrorCode::kInternal) return;
        bool is_sound = store_.ping().has_value() && !commit(0, 0, {});
        if (!is_sound) error->code = ErrorCode::kUnavailable;
    }

    std::optional<Error> isolate() {
        // What could not be decoded must be kept before anything of the batch may be acknowledged.
        if (!batch_.quarantine.empty()) {
            auto error = commit(0, 0, batch_.quarantine);
            if (error) return of_the_store(std::move(*error));
        }
        return bisect(0, batch_.events.size());
    }

    static Error of_the_store(Error error) {
        if (error.code != ErrorCode::kLeaseLost) error.code = ErrorCode::kUnavailable;
        return error;
    }

    // The range was refused for what it holds.
    std::optional<Error> bisect(std::size_t begin, std::size_t end) {
        if (begin == end) return std::nullopt;
        auto error = commit(begin, end, {});
        if (!error || !may_be_of_an_event(error->code)) return error;
        if (end - begin > 1) {
            std::size_t middle = begin + (end - begin) / 2;
            error = bisect(begin, middle);
            return error ? error : bisect(middle, end);
        }
        const StreamPosition& position = batch_.positions[begin];
        QuarantineEntry culprit{std::to_string(position.ms) + "-" + std::to_string(position.seq),
                                "the store refused it: " + storable_text(error->message),
                                event_bytes(batch_.events[begin]), position.shard};
        error = commit(0, 0, {&culprit, 1});
        // A store that cannot even keep the bytes is at fault itself: nothing is acknowledged then.
        if (error) return of_the_store(std::move(*error));
        return std::nullopt;
    }

    std::optional<Error> commit(std::size_t begin, std::size_t end, std::span<const QuarantineEntry> quarantine) {
        std::vector<std::string> reserved;
        PersistBatch request{.shard = 0,
                             .shard_epochs = owned_.shard_epochs,
                             .lane_epochs = owned_.lane_epochs,
                             .events = std::span(batch_.events).subspan(begin, end - begin),
                             .positions = std::span(batch_.positions).subspan(begin, end - begin),
                             .quarantine = quarantine,
                             .now = now_,
                             .claim = [&](std::string_view webhook_id) {
                                 if (!sink_.reserve(webhook_id)) return false;
                                 reserved.emplace_back(webhook_id);
                                 return true;
                             }};
        if (request.positions.empty() && !batch_.shards.empty()) request.shard = batch_.shards.front().shard;
        if (!quarantine.empty()) request.shard = quarantine.front().shard;
        Result<PersistOutcome> outcome = store_.persist(request, matcher_);
        if (!outcome) {
            for (const std::string& webhook_id : reserved) sink_.release(webhook_id);
            return outcome.error();
        }
        progress_.events_new += outcome->events_new;
        progress_.quarantined += outcome->events_quarantined + quarantine.size();
        progress_.duplicates += (end - begin) - outcome->events_new - outcome->events_quarantined;
        hand_on(*outcome, begin);
        return std::nullopt;
    }

    // One copy of an event is shared by all deliveries that memory holds of it.
    void hand_on(PersistOutcome& outcome, std::size_t begin) {
        std::shared_ptr<const Event> event;
        std::size_t event_index = 0;
        for (PersistedDelivery& delivery : outcome.deliveries) {
            if (!delivery.claimed) {
                progress_.unclaimed++;
                continue;
            }
            if (!event || event_index != delivery.event_index) {
                event_index = delivery.event_index;
                event = copy_of(batch_.events[begin + event_index]);
            }
            const std::int64_t lane_epoch = owned_.lane_epochs[static_cast<std::size_t>(lane_of(delivery.webhook_id))];
            progress_.claimed.push_back({.delivery_id = std::move(delivery.delivery_id),
                                         .webhook_id = std::move(delivery.webhook_id),
                                         .event = event,
                                         .generation = delivery.generation,
                                         .attempts = 0,
                                         .lane_epoch = lane_epoch,
                                         .row = delivery.row});
        }
    }

    [[nodiscard]] std::shared_ptr<const Event> copy_of(const EventRecord& record) const {
        auto event = std::make_shared<Event>();
        event->id = record.id;
        event->org = record.org;
        event->key_id = record.key_id;
        event->type = record.type;
        event->source = record.source;
        event->payload = record.payload;
        event->ordering_key = record.ordering_key;
        event->traceparent = record.traceparent;
        event->via = record.via;
        event->created_at = record.at_ms;
        event->updated_at = now_;
        return event;
    }

    Store& store_;
    SubscriptionMatcher& matcher_;
    DeliverySink& sink_;
    const IngestBatch& batch_;
    const OwnedParts& owned_;
    TimeMs now_;
    OnInternal on_internal_;
    PersistProgress progress_;
};

}  // namespace

Result<IngestBatch> decode_batch(std::shared_ptr<const redisReply> reply, const std::vector<std::string>& keys,
                                 TimeMs now) {
    IngestBatch batch;
    batch.reply = std::move(reply);
    if (batch.reply->type != REDIS_REPLY_ARRAY) return bad_reply("no array");
    Fields fields;
    fields.reserve(kEventFieldNames.size());
    auto key = keys.begin();  // the reply keeps the order of the command
    for (std::size_t i = 0; i < batch.reply->elements; i++) {
        const redisReply& stream = *batch.reply->element[i];
        if (!is_array(stream, 2) || !is_string(*stream.element[0]) || stream.element[1]->type != REDIS_REPLY_ARRAY) {
            return bad_reply("a stream without name and entries");
        }
        key = std::find(key, keys.end(), text_of(stream.element[0]));
        if (key == keys.end()) return bad_reply("a stream that was not asked for");
        auto decoded = decode_stream(*stream.element[1], static_cast<int>(key - keys.begin()), now, fields, batch);
        if (!decoded) return tl::unexpected<Error>(decoded.error());
    }
    return batch;
}

Result<IngestBatch> decode_range(std::shared_ptr<const redisReply> reply, int shard, TimeMs now) {
    IngestBatch batch;
    batch.reply = std::move(reply);
    if (batch.reply->type != REDIS_REPLY_ARRAY) return bad_reply("no array");
    Fields fields;
    fields.reserve(kEventFieldNames.size());
    auto decoded = decode_stream(*batch.reply, shard, now, fields, batch);
    if (!decoded) return tl::unexpected<Error>(decoded.error());
    return batch;
}

namespace {

void write_xack(RespWriter& writer, const IngestBatch::Shard& shard, const std::string& key) {
    writer.array(3 + shard.ids.size()).bulk("XACK").bulk(key).bulk(kConsumerGroup);
    for (std::string_view id : shard.ids) writer.bulk(id);
}

void write_xdel(RespWriter& writer, const IngestBatch::Shard& shard, const std::string& key) {
    writer.array(2 + shard.ids.size()).bulk("XDEL").bulk(key);
    for (std::string_view id : shard.ids) writer.bulk(id);
}

}  // namespace

std::vector<RedisCommands> ack_commands(const IngestBatch& batch, const std::vector<std::string>& keys) {
    std::vector<RedisCommands> all;
    for (const IngestBatch::Shard& shard : batch.shards) {
        const std::string& key = keys[static_cast<std::size_t>(shard.shard)];
        RedisCommands& commands = all.emplace_back(RedisCommands{key, {}, kRepliesPerAck});
        RespWriter writer(commands.bytes);
        writer.command("MULTI");
        write_xack(writer, shard, key);
        write_xdel(writer, shard, key);
        writer.command("EXEC");
    }
    return all;
}

RedisCommands plain_ack_commands(const IngestBatch::Shard& shard, const std::string& key) {
    RedisCommands commands{key, {}, kRepliesPerPlainAck};
    RespWriter writer(commands.bytes);
    write_xdel(writer, shard, key);
    write_xack(writer, shard, key);
    return commands;
}

PersistProgress persist_batch(Store& store, SubscriptionMatcher& matcher, DeliverySink& sink, const IngestBatch& batch,
                              const OwnedParts& owned, TimeMs now, OnInternal on_internal) {
    return Persisting(store, matcher, sink, batch, owned, now, on_internal).run();
}

}  // namespace headgate
