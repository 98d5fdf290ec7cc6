// The persist transaction: a batch of stream entries becomes events, deliveries and ledger rows. Input:
// ingest/ingest_batch. Output: what the dispatcher may send. The hot path of the store: three round trips, however many
// events there are. First the locks, and what exists already; then, when something is to be claimed or ordered, the
// lanes and the heads; then all rows, one statement for each table, and the commit.
#include "sidecar/store/postgres_ingest.h"

#include <algorithm>
#include <exception>
#include <new>
#include <set>
#include <unordered_set>

#include "sidecar/base/failpoint.h"
#include "sidecar/store/event_bytes.h"
#include "sidecar/store/lane.h"
#include "sidecar/store/postgres_text.h"
#include "sidecar/store/system_events.h"

namespace headgate {

PersistOutcome PostgresPersist::run() {
    lock_and_look();
    match_events();
    decide_order_and_claims();
    send_rows();
    return std::move(outcome_);
}

// ---- locks, and what is there ---------------------------------------------------------------

void PostgresPersist::lock_and_look() {
    store_.release_doubtful(batch_.lane_epochs);
    std::vector<int> shards;
    if (with_leases_ == WithLeases::kYes) {
        if (batch_.positions.empty()) shards.push_back(batch_.shard);
        for (const StreamPosition& position : batch_.positions) shards.push_back(position.shard);
        for (const QuarantineEntry& entry : batch_.quarantine) shards.push_back(entry.shard);
        std::sort(shards.begin(), shards.end());
        shards.erase(std::unique(shards.begin(), shards.end()), shards.end());
    }
    std::vector<std::string_view> org_ids;
    PgArray event_ids = PgArray::texts();
    for (const EventRecord& event : batch_.events) {
        if (org_ids.empty() || org_ids.back() != event.org) org_ids.push_back(event.org);
        if (is_storable_text(event.id)) event_ids.add(event.id);
    }
    std::sort(org_ids.begin(), org_ids.end());
    org_ids.erase(std::unique(org_ids.begin(), org_ids.end()), org_ids.end());
    PgArray orgs = PgArray::texts();
    for (std::string_view id : org_ids) {
        orgs_.push_back({.id = id});
        if (is_storable_text(id)) orgs.add(id);
    }
    std::size_t leases = 0;
    if (!shards.empty()) leases = store_.send_shard_locks(shards);
    // Sorted, so that two transactions never wait for each other in a ring; and so is the order of sequence numbers
    // that of commits, and no change of subscriptions comes between matching and commit.
    std::size_t org_rows = 0;
    std::size_t existing = 0;
    if (!batch_.events.empty()) {
        org_rows = db_.send(
            "SELECT id, generation, seq, is_suspended FROM organizations WHERE id = ANY ($1) AND deleted_at IS NULL"
            " ORDER BY id FOR NO KEY UPDATE",
            orgs);
        // A statement of its own: it sees what was committed while the locks were waited for.
        existing = db_.send("SELECT id FROM events WHERE id = ANY ($1)", event_ids);
    }
    db_.flush();
    if (!shards.empty()) PostgresStore::check_shards(db_.take(leases), shards, batch_.shard_epochs);
    if (batch_.events.empty()) return;
    PgResult rows = db_.take(org_rows);
    while (rows.step()) {
        Org& org = org_of(rows.view(0));
        org.exists = true;
        org.generation = rows.number(1);
        org.seq = rows.number(2);
        org.is_suspended = rows.number(3) != 0;
    }
    existing_ = db_.take(existing);
}

PostgresPersist::Org& PostgresPersist::org_of(std::string_view id) {
    return *std::lower_bound(orgs_.begin(), orgs_.end(), id,
                             [](const Org& org, std::string_view wanted) { return org.id < wanted; });
}

// ---- matching -------------------------------------------------------------------------------

void PostgresPersist::match_events() {
    std::unordered_set<std::string_view> seen;
    while (existing_.step()) seen.insert(existing_.view(0));
    for (std::size_t index = 0; index < batch_.events.size(); index++) {
        const EventRecord& event = batch_.events[index];
        Org& org = org_of(event.org);
        if (!org.exists) {
            quarantine_event(index, "organization " + std::string(event.org) + " does not exist");
            continue;
        }
        if (!is_storable(event)) {
            quarantine_event(index, "it holds text that PostgreSQL cannot keep: a NUL, or what is not UTF-8");
            continue;
        }
        if (!seen.insert(event.id).second) continue;  // persisted before: its deliveries exist as well
        new_events_.push_back({index, ++org.seq});
        outcome_.events_new++;
        match_event(index, org);
    }
}

bool PostgresPersist::is_storable(const EventRecord& event) {
    for (std::string_view text : {event.id, event.key_id, event.type, event.source, event.payload, event.ordering_key,
                                  event.traceparent, event.via}) {
        if (!is_storable_text(text)) return false;
    }
    return true;
}

void PostgresPersist::match_event(std::size_t index, Org& org) {
    const EventRecord& event = batch_.events[index];
    // Asked for each event: a matcher that keeps a bounded number of organizations may have forgotten this one since
    // its last event.
    if (!matcher_.is_current(org.id, org.generation)) load_subscriptions(org);
    matches_.clear();
    SubscriptionMatcher::Unwanted unwanted;
    try {
        unwanted = matcher_.match_wanted(event, matches_);
    } catch (const std::bad_alloc&) {
        throw;
    } catch (const std::exception& failure) {
        // What the matcher cannot digest is the event's fault; that memory has run out is not.
        throw PgError({ErrorCode::kUnprocessable, failure.what()});
    }
    for (SubscriptionMatcher::Match& match : matches_) {
        rollups_.of(match.webhook_id, batch_.now, event.type).pending++;
        NewDelivery delivery;
        delivery.event_index = index;
        delivery.org = &org;
        delivery.lane = lane_of(match.webhook_id);
        if (match.ordered) delivery.ordering_key = event.ordering_key;
        delivery.webhook_id = std::move(match.webhook_id);
        deliveries_.push_back(std::move(delivery));
    }
    if (!matches_.empty()) {
        org.matched++;
        return;
    }
    outcome_.events_unmatched++;
    unmatched_.push_back({index, unwanted.has_filtered   ? "filtered"
                                 : unwanted.has_disabled ? "webhook_disabled"
                                                         : "no_matching_webhook"});
}

void PostgresPersist::load_subscriptions(const Org& org) {
    std::vector<Webhook> webhooks;
    auto rows = db_.query("SELECT " HEADGATE_WEBHOOK_COLUMNS
                          " FROM webhooks WHERE organization_id = $1 AND deleted_at IS NULL ORDER BY id",
                          org.id);
    while (rows.step()) webhooks.push_back(store_.read_webhook(rows, PostgresStore::WithSecrets::kNo));
    matcher_.load(org.id, org.generation, std::move(webhooks));
}

// ---- order and claims -----------------------------------------------------------------------

void PostgresPersist::decide_order_and_claims() {
    std::set<std::pair<std::string_view, std::string_view>> keys;
    std::set<int> lanes;
    for (const NewDelivery& delivery : deliveries_) {
        if (!delivery.ordering_key.empty()) keys.insert({delivery.webhook_id, delivery.ordering_key});
        if (batch_.claim && has_lane(delivery.lane)) lanes.insert(delivery.lane);
    }
    if (keys.empty() && lanes.empty()) return;
    std::size_t lane_rows = store_.send_lane_locks({lanes.begin(), lanes.end()});
    std::size_t head_rows = 0;
    if (!keys.empty()) head_rows = store_.send_heads({keys.begin(), keys.end()});
    db_.flush();
    std::vector<bool> held = PostgresStore::held_lanes(db_.take(lane_rows), batch_.lane_epochs);
    std::set<std::pair<std::string, std::string>> heads;
    if (!keys.empty()) {
        PgResult rows = db_.take(head_rows);
        while (rows.step()) heads.emplace(rows.text(0), rows.text(1));
    }
    for (NewDelivery& delivery : deliveries_) {
        if (!delivery.ordering_key.empty()) {
            delivery.holds_order = heads.emplace(delivery.webhook_id, std::string(delivery.ordering_key)).second;
            if (!delivery.holds_order) {
                delivery.state = "blocked";
                continue;
            }
        }
        const auto lane = static_cast<std::size_t>(delivery.lane);
        // A suspended organization's deliveries wait in the store.
        if (lane < held.size() && held[lane] && !delivery.org->is_suspended && batch_.claim(delivery.webhook_id)) {
            delivery.state = "in_flight";
        }
    }
}

bool PostgresPersist::has_lane(int lane) const {
    const auto part = static_cast<std::size_t>(lane);
    return part < batch_.lane_epochs.size() && batch_.lane_epochs[part] != 0;
}

// ---- rows -----------------------------------------------------------------------------------

StreamPosition PostgresPersist::position_of(std::size_t index) const {
    return batch_.positions.empty() ? StreamPosition{batch_.shard, 0, 0} : batch_.positions[index];
}

void PostgresPersist::send_rows() {
    send_events();
    send_deliveries();
    send_ledger();
    for (const QuarantineEntry& entry : batch_.quarantine) quarantine(entry);
    for (const QuarantineEntry& entry : strangers_) quarantine(entry);
    send_organizations();
    rollups_.send(db_);
}

void PostgresPersist::send_events() {
    if (new_events_.empty()) return;
    PgArray texts[9] = {PgArray::texts(), PgArray::texts(), PgArray::texts(), PgArray::texts(), PgArray::texts(),
                        PgArray::texts(), PgArray::texts(), PgArray::texts(), PgArray::texts()};
    PgArray seqs = PgArray::numbers();
    PgArray created = PgArray::numbers();
    for (const NewEvent& row : new_events_) {
        const EventRecord& event = batch_.events[row.index];
        const std::string_view values[9] = {event.id,           event.org,         event.key_id,
                                            event.type,         event.source,      event.payload,
                                            event.ordering_key, event.traceparent, event.via};
        for (std::size_t i = 0; i < 9; i++) texts[i].add(values[i]);
        seqs.add(row.seq);
        created.add(event.at_ms);
    }
    db_.send(
        "INSERT INTO events (id, organization_id, key_id, type, source, payload, ordering_key, traceparent, via, seq,"
        " created_at, updated_at) SELECT *, $12 FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[],"
        " $6::text[], $7::text[], $8::text[], $9::text[], $10::bigint[], $11::bigint[])",
        texts[0], texts[1], texts[2], texts[3], texts[4], texts[5], texts[6], texts[7], texts[8], seqs, created,
        batch_.now);
}

void PostgresPersist::send_deliveries() {
    if (deliveries_.empty()) return;
    PgArray texts[6] = {PgArray::texts(), PgArray::texts(), PgArray::texts(),
                        PgArray::texts(), PgArray::texts(), PgArray::texts()};
    PgArray numbers[6] = {PgArray::numbers(), PgArray::numbers(), PgArray::numbers(),
                          PgArray::numbers(), PgArray::numbers(), PgArray::numbers()};
    for (const NewDelivery& delivery : deliveries_) {
        const EventRecord& event = batch_.events[delivery.event_index];
        const StreamPosition position = position_of(delivery.event_index);
        const bool claimed = delivery.state == "in_flight";
        std::string id = ids_.next();
        const std::string_view values[6] = {id,       event.org,      delivery.webhook_id,
                                            event.id, delivery.state, delivery.ordering_key};
        for (std::size_t i = 0; i < 6; i++) texts[i].add(values[i]);
        const std::int64_t counts[6] = {delivery.org->generation,
                                        delivery.lane,
                                        position.shard,
                                        static_cast<std::int64_t>(position.ms),
                                        static_cast<std::int64_t>(position.seq),
                                        delivery.holds_order ? 1 : 0};
        for (std::size_t i = 0; i < 6; i++) numbers[i].add(counts[i]);
        if (claimed) {
            claimed_.push_back({id, delivery.lane, batch_.lane_epochs[static_cast<std::size_t>(delivery.lane)]});
        }
        delivery.org->made++;
        outcome_.deliveries.push_back(
            {std::move(id), delivery.webhook_id, delivery.event_index, delivery.org->generation, claimed});
    }
    db_.send(
        "INSERT INTO deliveries (id, organization_id, webhook_id, event_id, state, ordering_key, generation, lane, "
        "shard,"
        " stream_ms, stream_seq, holds_order, due_at, created_at, updated_at) SELECT *, $13, $13, $13"
        " FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bigint[],"
        " $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[])",
        texts[0], texts[1], texts[2], texts[3], texts[4], texts[5], numbers[0], numbers[1], numbers[2], numbers[3],
        numbers[4], numbers[5], batch_.now);
}

void PostgresPersist::send_ledger() {
    if (unmatched_.empty()) return;
    PgArray ids = PgArray::texts();
    PgArray orgs = PgArray::texts();
    PgArray reasons = PgArray::texts();
    for (const Unmatched& row : unmatched_) {
        ids.add(batch_.events[row.index].id);
        orgs.add(batch_.events[row.index].org);
        reasons.add(row.reason);
    }
    db_.send(
        "INSERT INTO ledger (event_id, organization_id, reason, created_at)"
        " SELECT *, $4 FROM unnest($1::text[], $2::text[], $3::text[]) ON CONFLICT DO NOTHING",
        ids, orgs, reasons, batch_.now);
}

void PostgresPersist::quarantine_event(std::size_t index, std::string reason) {
    const EventRecord& event = batch_.events[index];
    const StreamPosition position = position_of(index);
    strangers_.push_back({.stream_id = batch_.positions.empty()
                                           ? std::string(event.id)
                                           : std::to_string(position.ms) + "-" + std::to_string(position.seq),
                          .reason = std::move(reason),
                          .bytes = event_bytes(event),
                          .shard = position.shard});
    outcome_.events_quarantined++;
}

void PostgresPersist::quarantine(const QuarantineEntry& entry) {
    db_.send(
        "INSERT INTO quarantine (shard, stream_id, reason, bytes, created_at) VALUES ($1, $2, $3, $4, $5)"
        " ON CONFLICT DO NOTHING",
        entry.shard, storable_text(entry.stream_id), storable_text(entry.reason), PgBytes{entry.bytes}, batch_.now);
}

void PostgresPersist::send_organizations() {
    PgArray ids = PgArray::texts();
    PgArray seqs = PgArray::numbers();
    PgArray matched = PgArray::numbers();
    PgArray made = PgArray::numbers();
    for (const Org& org : orgs_) {
        if (!org.exists) continue;
        ids.add(org.id);
        seqs.add(org.seq);
        matched.add(org.matched);
        made.add(org.made);
    }
    if (ids.empty() || new_events_.empty()) return;
    db_.send(
        "UPDATE organizations o SET seq = n.seq, matched_events = o.matched_events + n.matched,"
        " deliveries_made = o.deliveries_made + n.made"
        " FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[]) AS n (id, seq, matched, made)"
        " WHERE o.id = n.id AND o.seq <> n.seq",
        ids, seqs, matched, made);
}

Result<PersistOutcome> PostgresStore::persist(const PersistBatch& batch, SubscriptionMatcher& matcher) {
    std::vector<Doubtful> claimed;
    matcher.settle(false, batch.now);
    auto result = write([&] {
        PostgresPersist persist(*this, batch, matcher);
        auto outcome = persist.run();
        claimed = persist.take_claimed();
        failpoint("before_commit");
        return outcome;
    });
    matcher.settle(result.has_value(), batch.now);
    if (result) return result;
    // Another transaction's event under the same id, but of an organization that we did not wait for: the next try sees
    // it.
    if (result.error().code == ErrorCode::kConflict) result.error().code = ErrorCode::kUnavailable;
    if (result.error().code == ErrorCode::kUnavailable) doubt(std::move(claimed));
    return result;
}

Result<void> PostgresStore::add_unwanted(std::span<const UnwantedCount> counts) {
    return write([&] {
        PgRollups rollups;
        for (const UnwantedCount& count : counts) {
            PgRollups::Change& change = rollups.of(count.webhook_id, count.hour_at, count.event_type);
            change.filtered += count.filtered;
            change.disabled += count.disabled;
        }
        rollups.send(db_);
    });
}

Result<std::size_t> PostgresStore::relay_system_events(SubscriptionMatcher& matcher, std::size_t max, TimeMs now) {
    matcher.settle(false, now);
    auto relayed = write([&] {
        // Who relays at the same time, with a lease that it has lost, waits here and finds nothing.
        db_.send("SELECT pg_advisory_xact_lock(122468836730240)");
        auto outbox = db_.query(
            "SELECT s.id, s.organization_id, s.type, s.payload, s.created_at, o.deleted_at IS NULL AND o.id IS NOT NULL"
            " FROM system_outbox s LEFT JOIN organizations o ON o.id = s.organization_id ORDER BY s.id LIMIT $1",
            max);
        PgArray done = PgArray::numbers();
        std::vector<std::string> ids;
        std::vector<EventRecord> events;
        ids.reserve(static_cast<std::size_t>(outbox.rows()));
        IdSource source(now);
        while (outbox.step()) {
            done.add(outbox.number(0));
            if (outbox.number(5) == 0) continue;  // a deleted organization has nobody to tell
            ids.push_back(source.next_at(outbox.number(4)));
            events.push_back({.id = ids.back(),
                              .org = outbox.view(1),
                              .key_id = "",
                              .type = outbox.view(2),
                              .source = kSystemSource,
                              .payload = outbox.view(3),
                              .ordering_key = "",
                              .traceparent = "",
                              .via = kViaSystem,
                              .at_ms = outbox.number(4)});
        }
        if (done.empty()) return std::size_t{0};
        PersistBatch batch;
        batch.events = events;
        batch.now = now;
        PostgresPersist(*this, batch, matcher, PostgresPersist::WithLeases::kNo).run();
        failpoint("in_relay");
        db_.send("DELETE FROM system_outbox WHERE id = ANY ($1)", done);
        return events.size();
    });
    matcher.settle(relayed.has_value(), now);
    return relayed;
}

}  // namespace headgate
