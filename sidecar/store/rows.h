// The rows of the store, as its users see them: plain values. Times are milliseconds since the epoch, ids TEXT
// (UUIDv7). Next file: store.h, what can be done with them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace headgate {

using TimeMs = std::int64_t;

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
    // Read only. What of the use in Redis has been carried over (Store::carry_usage).
    std::string usage_mark{};
    std::int64_t usage_seen = 0;
    bool is_org_suspended = false;
};

struct RetryConfig {
    int max_retries = 9;                    // n retries are n + 1 attempts
    std::vector<std::int64_t> schedule_ms;  // when not empty it wins over delay and multiplier
    std::int64_t retry_delay_ms = 0;
    double backoff_multiplier = 1.0;
};

enum class PayloadFormat : std::uint8_t { kEnvelope, kStandard, kRaw, kTemplate };

// What the head of an ordering key holds back when it fails: the rest until its first failure is recorded (kSkip),
// until it is dead (kDead), or until an operator acts (kBlock).
enum class OrderingPolicy : std::uint8_t { kDead, kSkip, kBlock };

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
    std::string body_template;  // of PayloadFormat::kTemplate
    std::string ordering;       // empty or "key"
    OrderingPolicy ordering_policy = OrderingPolicy::kDead;
    std::string rate;             // rate plan syntax, one window ("600r/m"); empty: none
    std::string signature_style;  // empty, stripe, github or shopify: besides our own headers
    std::string ed25519_seed;     // 32 bytes, or empty: no v1a; encrypted at rest
    std::int64_t timeout_ms = 30'000;
    int max_in_flight = 16;
    bool is_active = true;
    std::string disabled_reason;
    std::int64_t version = 1;  // raised by every change; the ETag
    TimeMs created_at = 0, updated_at = 0;
    std::optional<TimeMs> last_triggered_at;
    std::optional<TimeMs> failing_since;                // the first failed attempt since the last success
    std::int64_t success_count = 0, failure_count = 0;  // deliveries, not attempts; tests and replays left out
};

struct Event {
    std::string id, org, key_id, type, source, payload, ordering_key, traceparent, via;
    std::string status = "pending";  // pending | delivered (by an inbox acknowledgement only)
    std::int64_t seq = 0;
    TimeMs created_at = 0, updated_at = 0;  // created_at = `at` of the edge
};

enum class DeliveryState : std::uint8_t { kQueued, kInFlight, kRetrying, kBlocked, kDead, kSuccess, kCancelled };

struct Delivery {
    std::string id, webhook_id, event_id, state, status, kind;
    std::string ordering_key;
    int attempts = 0;  // finished, interrupted ones left out
    TimeMs due_at = 0, created_at = 0, updated_at = 0;
};

// Sends again what a webhook missed. It makes deliveries of kind `replay` bit by bit, while it is `running`.
struct Replay {
    std::string id, org, webhook_id;
    TimeMs since = 0, until = 0;       // of the events: since <= created_at < until
    std::string which;                 // missing | failed | all
    std::string state = "running";     // running | paused | done | cancelled
    std::int64_t total = 0, made = 0;  // deliveries: to be made as counted at the start, made so far
    std::int64_t succeeded = 0, failed = 0;
    TimeMs created_at = 0, updated_at = 0;
};

// Why an event was not delivered. An empty webhook_id stands for all of them.
struct LedgerEntry {
    std::string event_id, webhook_id, reason;
    TimeMs created_at = 0;
};

// What became of a webhook's deliveries that were made in one hour (UTC), by their status; tests and replays left out.
struct Rollup {
    std::string webhook_id, event_type;
    TimeMs hour_at = 0;
    std::int64_t success = 0, failed = 0, pending = 0;
    std::int64_t retries = 0;                         // attempts after the first
    std::int64_t responses = 0, response_ms_sum = 0;  // attempts that got an answer
    std::int64_t filtered = 0, disabled = 0;          // events that it named but did not get
};

// A numbered change of the schema: applied to the store, or still to be; one that the program does not know, or knows
// with another content.
enum class MigrationState : std::uint8_t { kApplied, kWaiting, kNewer, kChanged };

struct MigrationRow {
    int version = 0;
    std::string name;
    MigrationState state = MigrationState::kWaiting;
    std::optional<TimeMs> applied_at;
};

}  // namespace headgate
