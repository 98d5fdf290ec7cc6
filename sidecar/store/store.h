// Stage: everything that is kept. One interface; SQLite and PostgreSQL implement it, and one
// conformance suite tests both.
//
// Every call is synchronous, is one transaction, and runs on a DbExecutor thread, never on the
// event loop. Times are milliseconds since the epoch. Ids are TEXT (UUIDv7). What the caller may
// see is decided by the `org` argument: no call without one crosses organizations, except those
// marked "operator".
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/event_record.h"
#include "common/result.h"
#include "sidecar/store/overdue_spread.h"
#include "sidecar/store/rows.h"

namespace headgate {

class OwnServers;  // base/own_servers.h

// ---- ownership ------------------------------------------------------------------------------

// What must have one owner at a time is leased: shards (who reads the stream) and lanes (who sends for a webhook).
// Every write of an owner names the epochs that it believes to hold, and the transaction locks and compares the
// lease rows: who was late writes nothing.
inline constexpr TimeMs kLeaseMs = 10'000;

// By part; 0 = not held.
using Epochs = std::span<const std::int64_t>;

struct Lease {
    int part = 0;
    std::int64_t epoch = 0;
};
struct LeaseRound {
    std::string_view owner;     // unique for the life of a process
    int shards = 0, lanes = 0;  // how many there are
    // No longer used by the owner: free for others from here on.
    std::span<const int> released_shards, released_lanes;
    bool is_leaving = false;  // releases everything and counts no longer as an instance
    TimeMs now = 0;           // SQLite's clock; PostgreSQL has its own
};
struct LeaseView {
    std::vector<Lease> shards, lanes;         // held now, by part; those just taken included
    int shards_excess = 0, lanes_excess = 0;  // more than our share while others have less: to be released when idle
    int instances = 0;                        // alive, we included
    bool is_short = false;  // less than our share: others have not given it up yet, or were taking too
    // From now on until the first lease of another instance ends, unless that renews it. Nothing: nobody else has any.
    std::optional<TimeMs> next_end_ms;
};

// ---- ingest ---------------------------------------------------------------------------------

// Events of one type in one hour that named a webhook which did not want them.
struct UnwantedCount {
    std::string webhook_id, event_type;
    TimeMs hour_at = 0;
    std::int64_t filtered = 0, disabled = 0;
};

// The compiled subscriptions, as the persist transaction uses them. Implemented by match/.
class SubscriptionMatcher {
 public:
    virtual ~SubscriptionMatcher() = default;
    // Are the organization's subscriptions known as of this generation?
    virtual bool is_current(std::string_view org, std::int64_t generation) const = 0;
    // Replaces them. A filter that cannot be compiled matches nothing and is reported, never thrown.
    virtual void load(std::string_view org, std::int64_t generation, std::vector<Webhook> webhooks) = 0;
    // Appends the webhooks whose patterns name the event's type, and what becomes of it there. An event that is
    // `via` "system" is matched by exact names only.
    enum class Verdict : std::uint8_t { kWanted, kFiltered, kDisabled };
    struct Match {
        std::string webhook_id;
        bool ordered = false;
        Verdict verdict = Verdict::kWanted;
    };
    virtual void match(const EventRecord& event, std::vector<Match>& out) = 0;

    // The same for a persist transaction, at a cost that does not grow with the webhooks that do not want the event:
    // appends those that do, and counts the others. Returns whether there were such.
    struct Unwanted {
        bool has_filtered = false, has_disabled = false;
    };
    virtual Unwanted match_wanted(const EventRecord& event, std::vector<Match>& out) = 0;
    // The transaction at `now` has ended: what match_wanted counted since the last call holds, or is forgotten.
    virtual void settle(bool is_committed, TimeMs now) = 0;
    // All that has been counted and not been taken yet; for Store::add_unwanted.
    virtual std::vector<UnwantedCount> take_unwanted() = 0;
};

struct QuarantineEntry {
    std::string stream_id, reason, bytes;  // bytes: the entry as it came, RESP-encoded fields
    int shard = 0;
};

// Where an event stood in Redis; the order of ordered webhooks.
struct StreamPosition {
    int shard = 0;
    std::uint64_t ms = 0, seq = 0;  // the stream id
};

struct PersistBatch {
    int shard = 0;                              // of all events, when `positions` is empty
    Epochs shard_epochs;                        // kLeaseLost when a shard that is named is no longer ours
    Epochs lane_epochs;                         // a lane that is no longer ours gets its deliveries unclaimed
    std::span<const EventRecord> events;        // in stream order within each shard
    std::span<const StreamPosition> positions;  // one for each event, or none; every shard named needs its lease
    std::span<const QuarantineEntry> quarantine;
    TimeMs now = 0;
    // How many more deliveries of this webhook fit in memory. The persisted delivery is then
    // already claimed (state in_flight), so that no second transaction is needed before it is sent.
    std::function<bool(std::string_view webhook_id)> claim;
};

struct PersistedDelivery {
    std::string delivery_id, webhook_id;
    std::size_t event_index = 0;  // into PersistBatch::events
    std::int64_t generation = 0;  // of the organization's subscriptions
    bool claimed = false;         // never of one that waits for another of its ordering key
    std::int64_t row = 0;         // as in ClaimedDelivery
};

struct PersistOutcome {
    std::vector<PersistedDelivery> deliveries;
    std::size_t events_new = 0;          // the others were there already, or are in quarantine
    std::size_t events_unmatched = 0;    // left one ledger row each
    std::size_t events_quarantined = 0;  // of an organization that does not exist
};

// ---- delivery -------------------------------------------------------------------------------

// One delivery in the dispatcher's memory: its row is in_flight.
struct ClaimedDelivery {
    std::string delivery_id, webhook_id;
    std::shared_ptr<const Event> event;
    std::int64_t generation = 0;
    int attempts = 0;  // finished so far, interrupted ones left out
    // At which its lane was held when it was claimed. Set by who claims, not by the store, which was told.
    std::int64_t lane_epoch = 0;
    // Where the store finds it again: a hint for AttemptRecord, of the store's own kind. 0: none.
    std::int64_t row = 0;
};

enum class AttemptOutcome : std::uint8_t { kSuccess, kRetry, kDead, kCancelled, kInterrupted };

struct AttemptRecord {
    std::string delivery_id, webhook_id, org;
    int number = 0;  // 1 = first
    TimeMs started_at = 0, finished_at = 0;
    std::int64_t duration_ms = 0;
    int status_code = 0;     // 0 = no response
    std::string error_type;  // timeout | connection_error | http_500 | blocked_address | …; empty on success
    std::string error_message;
    std::string request_headers;   // JSON object, redacted
    std::string response_headers;  // JSON object
    std::string response_body;     // at most kResponseKeptBytesMax
    AttemptOutcome outcome = AttemptOutcome::kSuccess;
    TimeMs next_attempt_at = 0;          // kRetry, kInterrupted
    std::string disable_webhook_reason;  // not empty: disable it in the same transaction (410)
    bool is_kept = true;  // false: the store refuses its row; only what follows from the attempt is written
    // Of the claim; not kept. Who records names it in `lane_epochs`, so that a result is late even when its lane has
    // come back to us meanwhile.
    std::int64_t lane_epoch = 0;
    // What who sent it knows already; the store looks for itself where they are empty or 0. Not kept.
    std::int64_t row = 0;
    std::string event_type{}, event_via{};
};

// What is due, and may be sent by this instance.
struct ClaimRequest {
    TimeMs now = 0;
    std::size_t total_max = 0;
    Epochs lane_epochs;
    std::function<int(std::string_view)> room;  // of a webhook: how many more it may hold
};

struct RecordOutcome {
    std::size_t late = 0;      // of lanes that are no longer ours: nothing of them was written
    std::size_t released = 0;  // deliveries that waited for one of these and are due now
};

// Newest first.
struct DeliveryQuery {
    std::string webhook_id, event_id, state;  // empty: any
    std::optional<TimeMs> since, until;       // of the delivery: since <= created_at < until
    int limit = 50;
    std::string after;  // continue behind this delivery's id
};

// Newest first, without payloads.
struct EventQuery {
    std::string type;                    // exact, or the beginning of one and `.*`; empty: any
    std::string source;                  // exact; empty: any
    std::optional<TimeMs> since, until;  // of the event: since <= created_at < until
    int limit = 50;
    std::string after;  // what a page before this one left in `next`
};
struct EventPage {
    std::vector<Event> events;
    // Where to go on; empty at the end. A page may be short, or empty, and not the last: one call looks at a bounded
    // number of events.
    std::string next;
};

// What may be forgotten. Events with an unfinished delivery stay.
struct PurgeRequest {
    TimeMs events_before = 0, attempts_before = 0, now = 0;
    std::size_t batch_max = 500;  // rows of one transaction, of each table
    TimeMs quarantine_before = 0, audit_before = 0;
};

// Quarantined entries may be as large as an entry gets: fewer of them at a time.
inline constexpr std::size_t kQuarantineBatchMax = 50;

struct ListPage {
    int limit = 50;
    int offset = 0;
};

// ---- the interface --------------------------------------------------------------------------

class Store {
 public:
    virtual ~Store() = default;

    // Several calls in one transaction, so that they cost one commit: `work` makes them, one after the other, and an
    // error means that nothing of any of them was written. One that fails inside leaves the others as they are. A store
    // that cannot do this makes a transaction of each; it then returns what `work` does, and so must not fail. For
    // claims and results: what it has written is safe from the death of any process at once, from the loss of power
    // about 100 ms later, or together with the next transaction of another kind; never is a later one kept without it.
    virtual Result<void> together(const std::function<Result<void>()>& work) { return work(); }

    // operator: brings the schema up to date; refuses a newer one. Returns how many were applied.
    virtual Result<int> migrate() = 0;
    virtual Result<int> schema_version() = 0;
    // operator: what migrate() has done and would do, ascending. Changes nothing.
    virtual Result<std::vector<MigrationRow>> migrations() = 0;

    // -- leases. Renews what the owner holds, and takes what is free as far as its share goes: parts divided by the
    // living instances. On the store's clock. SQLite has one instance (file lock), which takes everything at once.
    virtual Result<LeaseView> renew_leases(const LeaseRound& round) = 0;
    // operator: the leases of all shards as they stand, by shard; those that nobody ever had are missing.
    struct ShardLease {
        int shard = 0;
        std::string owner;  // empty: given up
        std::int64_t epoch = 0;
        TimeMs until = 0;
    };
    virtual Result<std::vector<ShardLease>> shard_leases() = 0;

    // -- ingest
    virtual Result<PersistOutcome> persist(const PersistBatch& batch, SubscriptionMatcher& matcher) = 0;
    // Adds to the hourly counts. Not part of persist: thousands of webhooks may have one row each.
    virtual Result<void> add_unwanted(std::span<const UnwantedCount> counts) = 0;

    // -- delivery
    // Due deliveries (queued or retrying, due_at <= now) become in_flight, oldest due first, at most
    // room(webhook_id) for each webhook and `total_max` in all. Disabled webhooks and suspended
    // organizations keep theirs.
    virtual Result<std::vector<ClaimedDelivery>> claim_due(const ClaimRequest& request) = 0;
    // When the next delivery that claim_due could give becomes due; nullopt when none waits.
    virtual Result<std::optional<TimeMs>> next_due_at(Epochs lane_epochs) = 0;
    // An attempt of a delivery that is finished already, or was cancelled meanwhile, leaves its row and nothing else.
    // What follows from an attempt is written with it: the next of its ordering key, a webhook that is disabled
    // (410; failing for kFailingDisabledAfterMs), the operational event.
    virtual Result<RecordOutcome> record_attempts(std::span<const AttemptRecord> attempts, Epochs lane_epochs) = 0;
    // Of lanes just taken: whatever their last owner left in_flight gets an `interrupted` attempt and is due now.
    virtual Result<std::size_t> recover_in_flight(std::span<const int> lanes, Epochs lane_epochs, TimeMs now) = 0;
    // At start after days, and when the clock was set: deliveries that have been due for longer than `overdue_ms` get
    // times spread over `spread_ms` from now on; those whose time was set by a clock ahead of `now` by more than
    // kClockAheadMs wait from now on for as long as they would have waited then. One call is one part, in a short
    // transaction of its own: call it until `spread.is_done()`. kLeaseLost: one of the lanes is no longer ours.
    virtual Result<void> spread_overdue(OverdueSpread& spread) = 0;
    // operator: the webhook with its secrets and headers in the clear, and its organization's networks and generation.
    struct Target {
        Webhook webhook;
        std::vector<std::string> allow_networks;
        bool org_suspended = false;
        bool is_deleted = false;
        std::int64_t generation = 0;
    };
    virtual Result<Target> delivery_target(std::string_view webhook_id) = 0;
    // operator: the oldest delivery that is due and free to start: queued, of an active webhook that is not
    // `held_back` (at its bound of requests, throttled, behind an open breaker).
    virtual Result<std::optional<TimeMs>> oldest_due_at(TimeMs now, Epochs lane_epochs,
                                                        std::span<const std::string> held_back) = 0;
    // operator: how many deliveries are not finished, or dead. Counts index entries and reads no rows, so that what
    // waits is told apart by its time, which an index has, and not by its state.
    struct DeliveryCounts {
        std::int64_t due = 0;    // queued or retrying, and due at `now`
        std::int64_t later = 0;  // retrying, but for those few that are spread over time after a long stop
        std::int64_t in_flight = 0, blocked = 0, dead = 0;
    };
    virtual Result<DeliveryCounts> delivery_counts(TimeMs now) = 0;
    // What became of an event, oldest delivery first. A foreign or unknown event has none.
    virtual Result<std::vector<Delivery>> deliveries_of_event(std::string_view org, std::string_view event_id) = 0;
    // In the order they were made. A foreign or unknown delivery is kNotFound.
    virtual Result<std::vector<AttemptRecord>> attempts_of_delivery(std::string_view org,
                                                                    std::string_view delivery_id) = 0;

    virtual Result<Delivery> get_delivery(std::string_view org, std::string_view id) = 0;
    virtual Result<std::vector<Delivery>> list_deliveries(std::string_view org, const DeliveryQuery& query) = 0;
    // By hand. A delivery that is in flight, or has succeeded, is kConflict; so is the retry of one that waits for
    // another of its ordering key, or whose webhook was deleted. Cancelling twice is no error.
    virtual Result<Delivery> retry_delivery(std::string_view org, std::string_view id, TimeMs now) = 0;  // due now
    virtual Result<Delivery> cancel_delivery(std::string_view org, std::string_view id, TimeMs now) = 0;
    virtual Result<std::vector<LedgerEntry>> ledger_of_event(std::string_view org, std::string_view event_id) = 0;

    // -- replays. Deliveries of tests do not count. A webhook of another organization is kNotFound. `wants` says
    // whether the webhook's subscription, as it is now, matches an event.
    using Wants = std::function<bool(const EventRecord&)>;
    virtual Result<std::int64_t> count_replay(const Replay& replay, const Wants& wants) = 0;
    virtual Result<Replay> create_replay(const Replay& replay, const Wants& wants) = 0;  // `total` is counted here
    virtual Result<Replay> get_replay(std::string_view org, std::string_view id) = 0;
    virtual Result<std::vector<Replay>> list_replays(std::string_view org, std::string_view webhook_id) = 0;
    // running | paused | cancelled; kConflict when it has ended. What was made before is sent all the same.
    virtual Result<Replay> set_replay_state(std::string_view org, std::string_view id, std::string_view state,
                                            TimeMs now) = 0;
    // operator: the replays that run, of all organizations.
    virtual Result<std::vector<Replay>> running_replays() = 0;
    // Makes the next deliveries of a replay, at most `queued_max` unfinished at a time, so that live events come
    // first; the last call ends it. Returns how many it made: 0 as well when a bounded number of events was looked at
    // and none wanted.
    virtual Result<std::size_t> advance_replay(std::string_view id, const Wants& wants, std::size_t queued_max,
                                               TimeMs now) = 0;

    // -- operational events (webhook.disabled, webhook.delivery.exhausted): what record_attempts left in the outbox
    // becomes events with `via` system, matched and persisted as others are. Returns how many.
    virtual Result<std::size_t> relay_system_events(SubscriptionMatcher& matcher, std::size_t max, TimeMs now) = 0;

    // -- retention: one small batch; 0 when nothing is left to be purged. Deleted webhooks and organizations go when
    // their last event has gone.
    virtual Result<std::size_t> purge(const PurgeRequest& request) = 0;

    // -- organizations (operator)
    virtual Result<void> create_org(const Organization& org) = 0;
    virtual Result<std::vector<Organization>> list_orgs() = 0;
    virtual Result<Organization> get_org(std::string_view id) = 0;
    // Name, plan, suspension and networks; raises the generation, so that deliveries see them. Keys that had the
    // organization's plan follow it. While it is suspended its keys and what was made from them are refused at the
    // edge, by revocations that are taken back at its end; a key that was itself revoked stays so.
    virtual Result<void> update_org(const Organization& org) = 0;

    // -- API keys. Each change also leaves a row in the projection outbox.
    virtual Result<void> create_key(const ApiKey& key) = 0;
    virtual Result<std::vector<ApiKey>> list_keys(std::string_view org) = 0;
    virtual Result<ApiKey> get_key(std::string_view org, std::string_view id) = 0;
    virtual Result<ApiKey> find_key_by_hash(std::string_view key_hash) = 0;  // operator; deleted keys are kNotFound
    virtual Result<void> revoke_key(std::string_view org, std::string_view id, TimeMs now) = 0;
    // How often keys were used, as counters in Redis say that only grow. `mark` names the counter: one that Redis has
    // lost and begun anew has another. Each use is counted once, however often and in whatever order the same is told.
    // kLeaseLost when shard 0 is not ours.
    struct KeyUsage {
        std::string key_id, mark;
        std::int64_t requests = 0;
        TimeMs last_used_at = 0;
    };
    virtual Result<void> carry_usage(std::span<const KeyUsage> usage, Epochs shard_epochs) = 0;

    // -- projection of keys and revocations to Redis
    struct ProjectionEntry {
        std::int64_t id = 0;
        std::string op;   // key | revoke
        std::string ref;  // key id, or the revoked member
        TimeMs until = 0;
    };
    virtual Result<std::vector<ProjectionEntry>> pending_projections(std::size_t max) = 0;
    virtual Result<void> finish_projections(std::int64_t up_to_id) = 0;
    virtual Result<ApiKey> get_key_any_org(std::string_view id) = 0;                           // operator
    virtual Result<std::vector<ApiKey>> keys_after(std::string_view id, std::size_t max) = 0;  // operator, by id
    virtual Result<std::vector<ProjectionEntry>> revocations(TimeMs now) = 0;  // those not yet to be forgotten

    // -- webhooks. A change raises the organization's generation in the same transaction.
    virtual Result<void> create_webhook(const Webhook& webhook) = 0;
    struct WebhookFilter {
        std::optional<bool> is_active;
        std::string event;
        ListPage page;
    };
    struct WebhookList {
        std::vector<Webhook> webhooks;
        std::int64_t total = 0;
        std::int64_t total_webhooks = 0, active_webhooks = 0, total_events = 0;
        std::optional<double> avg_success_rate;
    };
    // Without secrets and header values.
    virtual Result<WebhookList> list_webhooks(std::string_view org, const WebhookFilter& filter) = 0;
    struct DeliveryStats {
        std::int64_t total = 0, success = 0, failed = 0;
        std::optional<double> avg_response_time_ms, last_response_time_ms;
    };
    virtual Result<Webhook> get_webhook(std::string_view org, std::string_view id) = 0;
    virtual Result<DeliveryStats> webhook_stats(std::string_view org, std::string_view id) = 0;
    // Everything that an owner chooses, the headers included; not the secrets. Returns the new row. kConflict when it
    // has another version than expected. What becomes active again is no longer failing, and has no reason.
    virtual Result<Webhook> update_webhook(const Webhook& webhook, std::optional<std::int64_t> expected_version) = 0;
    virtual Result<Webhook> set_webhook_active(std::string_view org, std::string_view id, bool is_active,
                                               std::string_view reason, TimeMs now) = 0;
    // Rotation: the others sign until `others_expire_at` at the latest; those that expired before go away.
    virtual Result<void> add_webhook_secret(std::string_view org, std::string_view id, const WebhookSecret& secret,
                                            TimeMs others_expire_at) = 0;
    // Its unfinished deliveries are cancelled.
    virtual Result<void> delete_webhook(std::string_view org, std::string_view id, TimeMs now) = 0;

    // By hour and event type: since <= hour_at < until. A webhook that was deleted keeps them for a while.
    virtual Result<std::vector<Rollup>> rollups(std::string_view org, std::string_view webhook_id, TimeMs since,
                                                TimeMs until) = 0;

    // -- inbox
    struct InboxQuery {
        int limit = 100;
        bool ascending = false;  // by seq; the default is newest first by created_at
    };
    virtual Result<std::vector<Event>> inbox(std::string_view org, const InboxQuery& query) = 0;
    // A repeated acknowledgement is not an error; a foreign id is kNotFound.
    virtual Result<Event> ack_event(std::string_view org, std::string_view id, TimeMs now) = 0;
    virtual Result<Event> get_event(std::string_view org, std::string_view id) = 0;
    // kInvalidArgument: `after` is not of a page.
    virtual Result<EventPage> list_events(std::string_view org, const EventQuery& query) = 0;

    // -- the master key (operator; secret_box.h): what the store has sealed, by the key that sealed it, by kid.
    struct SealedUnder {
        std::string kid;
        std::int64_t values = 0;
        bool is_given = false, is_current = false;
    };
    virtual Result<std::vector<SealedUnder>> sealed_under() = 0;
    // Seals anew, with the current key, what others have sealed. One call looks at `rows_max` rows; `after` is empty at
    // first, and then what the call before left in `next`. Rows that somebody else is writing are passed over: the next
    // pass finds them. At the end of a pass that left nothing under another key, the store is one of the current key
    // alone (`is_done`), and opens without the others. Repeated, or stopped in between, it does no harm.
    struct ResealStep {
        std::size_t resealed = 0;
        std::string next;  // empty: the pass has ended
        bool is_done = false;
    };
    virtual Result<ResealStep> reseal(std::string_view after, std::size_t rows_max) = 0;

    // -- counters for /health and status lines (operator)
    struct Totals {
        std::int64_t events = 0, deliveries = 0, success = 0, dead = 0, pending = 0, quarantined = 0;
    };
    virtual Result<Totals> totals() = 0;
    // Could something be written now? Writes nothing. SQLite takes the lock that all writers take; PostgreSQL has none
    // such, and is asked whether it takes writes at all: a standby does not.
    virtual Result<void> ping() = 0;
};

// More than the clocks of instances that share a store differ by: what was written so far ahead of our time was written
// by a clock that has been set back since.
inline constexpr TimeMs kClockAheadMs = 60'000;

// A webhook that has only failed for so long is disabled.
inline constexpr TimeMs kFailingDisabledAfterMs = 5LL * 24 * 3600 * 1000;

// How long a revocation is remembered: longer than any token made from a key can live.
inline constexpr TimeMs kRevocationKeptMs = 30LL * 24 * 3600 * 1000;

struct StoreOptions {
    std::string url;         // sqlite:/path/file.db or postgresql://…
    std::string password;    // of PostgreSQL; replaces the URL's when not empty
    std::string master_key;  // 32 bytes, decoded
    // serve: hold the file lock for the life of the object. A process's second connection opens without it.
    bool exclusive = false;
    bool read_only = false;
    std::vector<std::string> previous_master_keys;  // still open what they sealed
    std::shared_ptr<OwnServers> own_servers{};      // told of the servers that are connected to; may be null
};

// Opens a connection of its own; call it once for each DbExecutor thread.
[[nodiscard]] Result<std::unique_ptr<Store>> open_store(const StoreOptions& options);

}  // namespace headgate
