// The transaction that records a batch of attempts; see postgres_results.cpp.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "sidecar/store/postgres_parts.h"
#include "sidecar/store/postgres_store.h"

namespace headgate {

class PostgresResults {
 public:
    PostgresResults(PostgresStore& store, Epochs lane_epochs)
        : store_(store), db_(store.db_), lane_epochs_(lane_epochs) {}

    // Locks, reads, and queues every row; `released` of the outcome is known after the commit (take_released).
    RecordOutcome record(std::span<const AttemptRecord> attempts);
    [[nodiscard]] std::size_t take_released();

 private:
    struct DeliveryRow {
        std::string state, status, kind, ordering_key, replay_id, event_type, via, event_id;
        std::int64_t attempts = 0;
        TimeMs created_at = 0, due_at = 0, updated_at = 0;
        bool holds_order = false, is_changed = false;
    };
    struct WebhookRow {
        std::string org, ordering_policy;
        bool is_active = false;
        std::optional<TimeMs> failing_since;
        // What this batch adds.
        std::int64_t total = 0, failed = 0, responses = 0, response_ms_sum = 0;
        std::optional<std::int64_t> last_response_ms;
        TimeMs last_triggered_at = 0, failed_at = 0, disabled_at = 0;
        bool has_finished = false, raises_event = false;
        std::string disable_reason;
    };
    struct Change {
        std::string_view state, status;
        int finished = 1;
        std::optional<TimeMs> due_at = std::nullopt;
    };

    void keep_held(std::span<const AttemptRecord> attempts);
    void lock_rows();
    static Change change_of(const AttemptRecord& attempt, const DeliveryRow& row);
    static bool lets_go(const WebhookRow& webhook, const DeliveryRow& row);
    void apply(const AttemptRecord& attempt);
    void count(const AttemptRecord& attempt, const DeliveryRow& row, std::string_view status_before, int finished);
    void note_disable(WebhookRow& webhook, std::string_view reason, TimeMs now, bool raises_event);
    void send_attempts();
    void send_deliveries();
    void send_released();
    void send_replays();
    void send_webhooks();
    void send_disabled();

    PostgresStore& store_;
    PgConnection& db_;
    Epochs lane_epochs_;
    RecordOutcome outcome_;
    std::vector<const AttemptRecord*> attempts_;     // of lanes that are ours
    std::map<std::string, DeliveryRow> deliveries_;  // sorted by id, as they are locked
    std::map<std::string, WebhookRow> webhooks_;     // likewise
    std::vector<const AttemptRecord*> kept_;         // whose delivery exists, and whose rows are kept
    struct Released {
        std::string webhook_id, ordering_key;
        TimeMs now = 0;
    };
    std::vector<Released> released_;
    std::optional<std::size_t> released_ticket_;
    std::size_t webhook_ticket_ = 0;
    std::map<std::string, std::pair<std::int64_t, std::int64_t>> replays_;  // succeeded, failed
    PgRollups rollups_;
};

}  // namespace headgate
