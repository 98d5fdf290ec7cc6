// The persist transaction: a batch of stream entries becomes events, deliveries and ledger rows.
// Input: ingest/ingest_batch. Output: what the dispatcher may send. The hot path of the store: every
// statement is prepared once, and each event costs one INSERT and one more for each delivery.
#include <algorithm>
#include <array>
#include <exception>
#include <new>

#include "common/event_id.h"
#include "sidecar/base/failpoint.h"
#include "sidecar/store/event_bytes.h"
#include "sidecar/store/id_source.h"
#include "sidecar/store/lane.h"
#include "sidecar/store/sqlite_store.h"
#include "sidecar/store/system_events.h"

namespace headgate {
namespace {

constexpr const char* kInsertEvent =
    "INSERT INTO events (id, organization_id, seq, key_id, type, source, payload, ordering_key, traceparent, via,"
    " created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING";
constexpr const char* kInsertDelivery =
    "INSERT INTO deliveries (id, organization_id, webhook_id, event_id, state, due_at, generation, lane, ordering_key,"
    " shard, stream_ms, stream_seq, created_at, updated_at, holds_order)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
constexpr const char* kSelectHead =
    "SELECT 1 FROM deliveries INDEXED BY deliveries_heads WHERE webhook_id = ? AND ordering_key = ? AND holds_order = "
    "1";
constexpr const char* kInsertQuarantine =
    "INSERT INTO quarantine (shard, stream_id, reason, bytes, created_at) VALUES (?, ?, ?, ?, ?)"
    " ON CONFLICT DO NOTHING";

}  // namespace

void SqliteStore::check_leases(const PersistBatch& batch) {
    auto check = [&](int shard) {
        auto row = db_.query("SELECT epoch FROM leases WHERE kind = 'shard' AND part = ?", shard);
        const auto part = static_cast<std::size_t>(shard);
        const std::int64_t epoch = part < batch.shard_epochs.size() ? batch.shard_epochs[part] : 0;
        if (epoch == 0 || !row.step() || row.number(0) != epoch) {
            throw SqliteError({ErrorCode::kLeaseLost, "the lease of shard " + std::to_string(shard) +
                                                          " is not held at epoch " + std::to_string(epoch)});
        }
    };
    std::vector<int> shards;
    auto add = [&shards](int shard) {
        if (std::find(shards.begin(), shards.end(), shard) == shards.end()) shards.push_back(shard);
    };
    if (batch.positions.empty()) add(batch.shard);
    for (const StreamPosition& position : batch.positions) add(position.shard);
    for (const QuarantineEntry& entry : batch.quarantine) add(entry.shard);
    for (int shard : shards) check(shard);
}

// One persist transaction in progress.
class SqlitePersist {
 public:
    SqlitePersist(SqliteStore& store, const PersistBatch& batch, SubscriptionMatcher& matcher)
        : store_(store),
          db_(store.db_),
          batch_(batch),
          matcher_(matcher),
          ids_(batch.now),
          lanes_(db_, batch.lane_epochs),
          rollups_(db_) {}

    PersistOutcome run() {
        lock_organizations();
        insert_events();
        for (const QuarantineEntry& entry : batch_.quarantine) quarantine(entry);
        save_organizations();
        rollups_.save();
        return std::move(outcome_);
    }

 private:
    struct Org {
        std::string_view id;
        bool exists = false;
        bool is_suspended = false;
        std::int64_t generation = 0, seq = 0;
        std::int64_t inserted = 0, matched = 0;
    };

    // Sorted, so that on a store with row locks two transactions never wait for each other in a ring.
    void lock_organizations() {
        std::string_view last;
        for (const EventRecord& event : batch_.events) {
            if (event.org == last && !orgs_.empty()) continue;
            last = event.org;
            if (std::none_of(orgs_.begin(), orgs_.end(), [&](const Org& org) { return org.id == last; })) {
                orgs_.push_back({.id = last});
            }
        }
        std::sort(orgs_.begin(), orgs_.end(), [](const Org& a, const Org& b) { return a.id < b.id; });
        for (Org& org : orgs_) {
            auto row = db_.query(
                "SELECT generation, seq, is_suspended FROM organizations WHERE id = ? AND deleted_at IS NULL", org.id);
            if (!row.step()) continue;
            org.exists = true;
            org.generation = row.number(0);
            org.seq = row.number(1);
            org.is_suspended = row.number(2) != 0;
        }
    }

    void load_subscriptions(const Org& org) {
        std::vector<Webhook> webhooks;
        auto rows = db_.query("SELECT " HEADGATE_WEBHOOK_COLUMNS
                              " FROM webhooks WHERE organization_id = ? AND deleted_at IS NULL ORDER BY id",
                              org.id);
        while (rows.step()) webhooks.push_back(store_.read_webhook(rows, SqliteStore::WithSecrets::kNo));
        matcher_.load(org.id, org.generation, std::move(webhooks));
    }

    Org& org_of(const EventRecord& event) {
        auto found = std::lower_bound(orgs_.begin(), orgs_.end(), event.org,
                                      [](const Org& org, std::string_view id) { return org.id < id; });
        return *found;
    }

    [[nodiscard]] StreamPosition position_of(std::size_t index) const {
        return batch_.positions.empty() ? StreamPosition{batch_.shard, 0, 0} : batch_.positions[index];
    }

    void insert_events() {
        SqliteQuery insert = db_.query(kInsertEvent);
        for (std::size_t index = 0; index < batch_.events.size(); index++) {
            const EventRecord& event = batch_.events[index];
            Org& org = org_of(event);
            if (!org.exists) {
                quarantine_stranger(index);
                continue;
            }
            insert.bind_all(event.id, event.org, org.seq + 1, event.key_id, event.type, event.source, event.payload,
                            event.ordering_key, event.traceparent, event.via, event.at_ms, batch_.now);
            insert.run();
            insert.rewind();
            if (db_.changes() == 0) continue;  // persisted before: its deliveries exist as well
            org.seq++;
            org.inserted++;
            outcome_.events_new++;
            insert_deliveries(index, org);
        }
    }

    void insert_deliveries(std::size_t index, Org& org) {
        const EventRecord& event = batch_.events[index];
        // Asked for each event: a matcher that keeps a bounded number of organizations may have
        // forgotten this one since its last event.
        if (!matcher_.is_current(org.id, org.generation)) load_subscriptions(org);
        matches_.clear();
        const SubscriptionMatcher::Unwanted unwanted = match(event);
        for (const SubscriptionMatcher::Match& match : matches_) {
            insert_delivery(index, match, org);
            rollups_.of(match.webhook_id, batch_.now, event.type).pending++;
        }
        if (!matches_.empty()) {
            org.matched++;
            return;
        }
        const std::string_view reason = unwanted.has_filtered   ? "filtered"
                                        : unwanted.has_disabled ? "webhook_disabled"
                                                                : "no_matching_webhook";
        db_.execute("INSERT INTO ledger (event_id, organization_id, reason, created_at) VALUES (?, ?, ?, ?)", event.id,
                    event.org, reason, batch_.now);
        outcome_.events_unmatched++;
    }

    void insert_delivery(std::size_t index, const SubscriptionMatcher::Match& match, const Org& org) {
        const EventRecord& event = batch_.events[index];
        const StreamPosition position = position_of(index);
        // The first of an ordering key is its head; the others wait until it lets go.
        const bool is_ordered = match.ordered && !event.ordering_key.empty();
        const bool is_blocked = is_ordered && db_.query(kSelectHead, match.webhook_id, event.ordering_key).step();
        // A suspended organization's deliveries wait in the store, and those of lanes that another instance holds.
        const bool is_claimed = batch_.claim && !is_blocked && !org.is_suspended && lanes_.holds(match.webhook_id) &&
                                batch_.claim(match.webhook_id);
        const std::string_view state = is_blocked ? "blocked" : is_claimed ? "in_flight" : "queued";
        std::string id = ids_.next();
        db_.execute(kInsertDelivery, id, event.org, match.webhook_id, event.id, state, batch_.now, org.generation,
                    lane_of(match.webhook_id), is_ordered ? event.ordering_key : std::string_view(), position.shard,
                    static_cast<std::int64_t>(position.ms), static_cast<std::int64_t>(position.seq), batch_.now,
                    batch_.now, is_ordered && !is_blocked);
        outcome_.deliveries.push_back(
            {std::move(id), match.webhook_id, index, org.generation, is_claimed, db_.last_insert_rowid()});
    }

    // What the matcher cannot digest is the event's fault; that memory has run out is not.
    SubscriptionMatcher::Unwanted match(const EventRecord& event) {
        try {
            return matcher_.match_wanted(event, matches_);
        } catch (const std::bad_alloc&) {
            throw;
        } catch (const std::exception& failure) {
            throw SqliteError({ErrorCode::kUnprocessable, failure.what()});
        }
    }

    void quarantine_stranger(std::size_t index) {
        const EventRecord& event = batch_.events[index];
        StreamPosition position = position_of(index);
        quarantine({.stream_id = batch_.positions.empty()
                                     ? std::string(event.id)
                                     : std::to_string(position.ms) + "-" + std::to_string(position.seq),
                    .reason = "organization " + std::string(event.org) + " does not exist",
                    .bytes = event_bytes(event),
                    .shard = position.shard});
        outcome_.events_quarantined++;
    }

    void quarantine(const QuarantineEntry& entry) {
        db_.execute(kInsertQuarantine, entry.shard, entry.stream_id, entry.reason, SqliteBlob{entry.bytes}, batch_.now);
    }

    void save_organizations() {
        for (const Org& org : orgs_) {
            if (org.inserted == 0) continue;
            db_.execute("UPDATE organizations SET seq = ?, matched_events = matched_events + ? WHERE id = ?", org.seq,
                        org.matched, org.id);
        }
    }

    SqliteStore& store_;
    SqliteConnection& db_;
    const PersistBatch& batch_;
    SubscriptionMatcher& matcher_;
    IdSource ids_;
    SqliteLanes lanes_;
    SqliteRollups rollups_;
    std::vector<Org> orgs_;
    std::vector<SubscriptionMatcher::Match> matches_;
    PersistOutcome outcome_;
};

Result<PersistOutcome> SqliteStore::persist(const PersistBatch& batch, SubscriptionMatcher& matcher) {
    matcher.settle(false, batch.now);
    auto persisted = write([&] {
        check_leases(batch);
        auto outcome = SqlitePersist(*this, batch, matcher).run();
        failpoint("before_commit");
        return outcome;
    });
    matcher.settle(persisted.has_value(), batch.now);
    return persisted;
}

Result<void> SqliteStore::add_unwanted(std::span<const UnwantedCount> counts) {
    return write([&] {
        SqliteRollups rollups(db_);
        for (const UnwantedCount& count : counts) {
            Rollup& rollup = rollups.of(count.webhook_id, count.hour_at, count.event_type);
            rollup.filtered += count.filtered;
            rollup.disabled += count.disabled;
        }
        rollups.save();
    });
}

Result<std::size_t> SqliteStore::relay_system_events(SubscriptionMatcher& matcher, std::size_t max, TimeMs now) {
    matcher.settle(false, now);
    auto relayed = write([&] {
        struct Row {
            std::string id, org, type, payload;
            TimeMs created_at = 0;
        };
        std::vector<Row> rows;
        std::int64_t last = 0;
        {
            // A deleted organization has nobody to tell.
            auto outbox = db_.query(
                "SELECT s.id, s.organization_id, s.type, s.payload, s.created_at, o.deleted_at IS NULL"
                " FROM system_outbox s LEFT JOIN organizations o ON o.id = s.organization_id ORDER BY s.id LIMIT ?",
                max);
            while (outbox.step()) {
                last = outbox.number(0);
                if (outbox.number(5) == 0) continue;
                rows.push_back(
                    {uuid7(outbox.number(4)), outbox.text(1), outbox.text(2), outbox.text(3), outbox.number(4)});
            }
        }
        if (last == 0) return std::size_t{0};
        std::vector<EventRecord> events;
        events.reserve(rows.size());
        for (const Row& row : rows) {
            events.push_back({.id = row.id,
                              .org = row.org,
                              .key_id = "",
                              .type = row.type,
                              .source = kSystemSource,
                              .payload = row.payload,
                              .ordering_key = "",
                              .traceparent = "",
                              .via = kViaSystem,
                              .at_ms = row.created_at});
        }
        PersistBatch batch;  // of no shard: these did not come from Redis
        batch.events = events;
        batch.now = now;
        SqlitePersist(*this, batch, matcher).run();
        failpoint("in_relay");
        db_.execute("DELETE FROM system_outbox WHERE id <= ?", last);
        return rows.size();
    });
    matcher.settle(relayed.has_value(), now);
    return relayed;
}

}  // namespace headgate
