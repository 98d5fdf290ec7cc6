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

namespace headgate {

using TimeMs = std::int64_t;

// ---- rows -----------------------------------------------------------------------------------

struct Organization {
    std::string id, name, plan = "free";
    bool is_suspended = false;
    std::vector<std::string> allow_networks;  // CIDR; "*" = whatever security.allow_networks is
    TimeMs created_at = 0, updated_at = 0;
};

struct ApiKey {
    std::string id, key_hash, key_prefix, org, user_id, name, description;
    std::string scopes;       // separated by spaces
    std::string allowed_ips;  // separated by spaces
    std::string plan;
    std::string limits;  // rate plan syntax; replaces the plan when not empty
    std::optional<TimeMs> expires_at, last_used_at;
    std::int64_t usage_count = 0;
    bool is_active = true;
    TimeMs created_at = 0, updated_at = 0;
};

struct RetryConfig {
    int max_retries = 9;                    // n retries are n + 1 attempts
    std::vector<std::int64_t> schedule_ms;  // when not empty it wins over delay and multiplier
    std::int64_t retry_delay_ms = 0;
    double backoff_multiplier = 1.0;
};

enum class PayloadFormat : std::uint8_t { kEnvelope, kStandard };

struct WebhookSecret {
    std::string key_bytes;  // decoded; encrypted at rest
    TimeMs created_at = 0;
    std::optional<TimeMs> expires_at;  // still signs until then
};

struct Webhook {
    std::string id, org, name, description, url;
    std::vector<std::string> events;                           // exact, `*`, or a trailing `.*`
    std::vector<std::pair<std::string, std::string>> headers;  // values encrypted at rest
    std::vector<WebhookSecret> secrets;                        // newest first
    std::string filters = "{}";                                // JSON object
    RetryConfig retry;
    PayloadFormat payload_format = PayloadFormat::kEnvelope;
    std::string content_type = "application/json";
    std::string ordering;  // empty or "key"
    std::int64_t timeout_ms = 30'000;
    int max_in_flight = 16;
    bool is_active = true;
    std::string disabled_reason;
    std::int64_t version = 1;  // raised by every change; the ETag
    TimeMs created_at = 0, updated_at = 0;
    std::optional<TimeMs> last_triggered_at;
    std::int64_t success_count = 0, failure_count = 0;  // deliveries, not attempts; tests and replays left out
};

struct Event {
    std::string id, org, key_id, type, source, payload, ordering_key, traceparent, via;
    std::string status = "pending";  // pending | delivered (by an inbox acknowledgement only)
    std::int64_t seq = 0;
    TimeMs created_at = 0, updated_at = 0;  // created_at = `at` of the edge
};

enum class DeliveryState : std::uint8_t { kQueued, kInFlight, kRetrying, kBlocked, kDead, kSuccess, kCancelled };

// ---- ingest ---------------------------------------------------------------------------------

// The compiled subscriptions, as the persist transaction uses them. Implemented by match/.
class SubscriptionMatcher {
 public:
    virtual ~SubscriptionMatcher() = default;
    // Are the organization's subscriptions known as of this generation?
    virtual bool is_current(std::string_view org, std::int64_t generation) const = 0;
    // Replaces them. A filter that cannot be compiled matches nothing and is reported, never thrown.
    virtual void load(std::string_view org, std::int64_t generation, std::vector<Webhook> webhooks) = 0;
    // Appends the ids of the webhooks that want this event, with why the others did not counted.
    struct Match {
        std::string webhook_id;
        bool ordered = false;
    };
    virtual void match(const EventRecord& event, std::vector<Match>& out) = 0;
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
    std::int64_t epoch = 0;                     // of the shard's lease; kLeaseLost when it is no longer ours
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
    bool claimed = false;
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
};

struct ListPage {
    int limit = 50;
    int offset = 0;
};

// ---- the interface --------------------------------------------------------------------------

class Store {
 public:
    virtual ~Store() = default;

    // operator: brings the schema up to date; refuses a newer one. Returns how many were applied.
    virtual Result<int> migrate() = 0;
    virtual Result<int> schema_version() = 0;

    // -- leases. SQLite has one instance (file lock): take_leases raises every epoch of the kind, and
    // returns the new one, the same for all parts.
    virtual Result<std::int64_t> take_leases(std::string_view owner, std::string_view kind, int parts, TimeMs now) = 0;
    virtual Result<void> renew_leases(std::string_view owner, TimeMs now) = 0;

    // -- ingest
    virtual Result<PersistOutcome> persist(const PersistBatch& batch, SubscriptionMatcher& matcher) = 0;

    // -- delivery
    // Due deliveries (queued or retrying, due_at <= now) become in_flight, oldest due first, at most
    // room(webhook_id) for each webhook and `total_max` in all. Disabled webhooks and suspended
    // organizations keep theirs.
    virtual Result<std::vector<ClaimedDelivery>> claim_due(TimeMs now, std::size_t total_max,
                                                           const std::function<int(std::string_view)>& room) = 0;
    // When the next delivery that claim_due could give becomes due; nullopt when none waits.
    virtual Result<std::optional<TimeMs>> next_due_at() = 0;
    // An attempt of a delivery that is finished already, or was cancelled meanwhile, leaves its row and nothing else.
    virtual Result<void> record_attempts(std::span<const AttemptRecord> attempts) = 0;
    // At start: whatever a dead process left in_flight gets an `interrupted` attempt and is due now.
    virtual Result<std::size_t> recover_in_flight(TimeMs now) = 0;
    // operator: the webhook with its secrets and headers in the clear, and its organization's networks and generation.
    struct Target {
        Webhook webhook;
        std::vector<std::string> allow_networks;
        bool org_suspended = false;
        bool is_deleted = false;
        std::int64_t generation = 0;
    };
    virtual Result<Target> delivery_target(std::string_view webhook_id) = 0;
    // operator: the oldest delivery that is due and free to start: queued, of an active webhook.
    virtual Result<std::optional<TimeMs>> oldest_due_at(TimeMs now) = 0;
    struct Delivery {
        std::string id, webhook_id, event_id, state, status;
        int attempts = 0;  // finished, interrupted ones left out
        TimeMs due_at = 0, created_at = 0, updated_at = 0;
    };
    // What became of an event, oldest delivery first. A foreign or unknown event has none.
    virtual Result<std::vector<Delivery>> deliveries_of_event(std::string_view org, std::string_view event_id) = 0;
    // In the order they were made. A foreign or unknown delivery is kNotFound.
    virtual Result<std::vector<AttemptRecord>> attempts_of_delivery(std::string_view org,
                                                                    std::string_view delivery_id) = 0;

    // -- organizations (operator)
    virtual Result<void> create_org(const Organization& org) = 0;
    virtual Result<std::vector<Organization>> list_orgs() = 0;
    virtual Result<Organization> get_org(std::string_view id) = 0;

    // -- API keys. Each change also leaves a row in the projection outbox.
    virtual Result<void> create_key(const ApiKey& key) = 0;
    virtual Result<std::vector<ApiKey>> list_keys(std::string_view org) = 0;
    virtual Result<ApiKey> get_key(std::string_view org, std::string_view id) = 0;
    virtual Result<ApiKey> find_key_by_hash(std::string_view key_hash) = 0;  // operator; deleted keys are kNotFound
    virtual Result<void> revoke_key(std::string_view org, std::string_view id, TimeMs now) = 0;

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
    virtual Result<void> delete_webhook(std::string_view org, std::string_view id, TimeMs now) = 0;

    // -- inbox
    struct InboxQuery {
        int limit = 100;
        bool ascending = false;  // by seq; the default is newest first by created_at
    };
    virtual Result<std::vector<Event>> inbox(std::string_view org, const InboxQuery& query) = 0;
    // A repeated acknowledgement is not an error; a foreign id is kNotFound.
    virtual Result<Event> ack_event(std::string_view org, std::string_view id, TimeMs now) = 0;
    virtual Result<Event> get_event(std::string_view org, std::string_view id) = 0;

    // -- counters for /health and status lines (operator)
    struct Totals {
        std::int64_t events = 0, deliveries = 0, success = 0, dead = 0, pending = 0, quarantined = 0;
    };
    virtual Result<Totals> totals() = 0;
    virtual Result<void> ping() = 0;
};

// How long a revocation is remembered: longer than any token made from a key can live.
inline constexpr TimeMs kRevocationKeptMs = 30LL * 24 * 3600 * 1000;

struct StoreOptions {
    std::string url;         // sqlite:/path/file.db
    std::string master_key;  // 32 bytes, decoded
    // serve: hold the file lock for the life of the object. A process's second connection opens without it.
    bool exclusive = false;
    bool read_only = false;
    std::vector<std::string> previous_master_keys;  // still open what they sealed
};

// Opens a connection of its own; call it once for each DbExecutor thread.
[[nodiscard]] Result<std::unique_ptr<Store>> open_store(const StoreOptions& options);

}  // namespace headgate
