// Lanes, rollups and ordering: parts of other transactions; see sqlite_parts.h.
#include "sidecar/store/sqlite_parts.h"

#include "sidecar/store/sqlite_store.h"

namespace headgate {

bool SqliteLanes::holds_lane(int lane) {
    Known& known = known_.at(static_cast<std::size_t>(lane));
    if (known == Known::kNo) {
        const auto part = static_cast<std::size_t>(lane);
        const std::int64_t epoch = part < epochs_.size() ? epochs_[part] : 0;
        bool held = false;
        if (epoch != 0) {
            auto row = db_.query("SELECT epoch FROM leases WHERE kind = 'lane' AND part = ?", lane);
            held = row.step() && row.number(0) == epoch;
        }
        known = held ? Known::kHeld : Known::kLost;
    }
    return known == Known::kHeld;
}

// ---- rollups --------------------------------------------------------------------------------

Rollup& SqliteRollups::of(std::string_view webhook_id, TimeMs created_at, std::string_view event_type) {
    const TimeMs hour_at = created_at - created_at % kHourMs;
    if (last_ != nullptr && last_->hour_at == hour_at && last_->webhook_id == webhook_id &&
        last_->event_type == event_type) {
        return *last_;
    }
    std::string key = std::to_string(hour_at);
    key.append(1, '\0').append(webhook_id).append(1, '\0').append(event_type);
    auto [place, is_new] = changes_.try_emplace(std::move(key));
    last_ = &place->second;
    if (is_new) {
        last_->webhook_id = webhook_id;
        last_->hour_at = hour_at;
        last_->event_type = event_type;
    }
    return *last_;
}

void SqliteRollups::move(Rollup& rollup, std::string_view from, std::string_view to) {
    auto change = [&rollup](std::string_view status, int by) {
        if (status == "pending") rollup.pending += by;
        if (status == "success") rollup.success += by;
        if (status == "failed") rollup.failed += by;
    };
    change(from, -1);
    change(to, 1);
}

void SqliteRollups::save() {
    constexpr const char* kAdd =
        "INSERT INTO rollups (webhook_id, hour_at, event_type, success_count, failed_count, pending_count, retry_count,"
        " response_count, response_ms_sum, filtered_count, disabled_count) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (webhook_id, hour_at, event_type) DO UPDATE SET"
        " success_count = success_count + excluded.success_count, failed_count = failed_count + excluded.failed_count,"
        " pending_count = pending_count + excluded.pending_count, retry_count = retry_count + excluded.retry_count,"
        " response_count = response_count + excluded.response_count,"
        " response_ms_sum = response_ms_sum + excluded.response_ms_sum,"
        " filtered_count = filtered_count + excluded.filtered_count,"
        " disabled_count = disabled_count + excluded.disabled_count";
    for (const auto& [key, change] : changes_) {
        db_.execute(kAdd, change.webhook_id, change.hour_at, change.event_type, change.success, change.failed,
                    change.pending, change.retries, change.responses, change.response_ms_sum, change.filtered,
                    change.disabled);
    }
    changes_.clear();
    last_ = nullptr;
}

// ---- ordering -------------------------------------------------------------------------------

// The head of an ordering key lets go; the first that waited for it becomes the head, and is due.
std::size_t SqliteStore::release_order(std::int64_t head, std::string_view webhook_id, std::string_view ordering_key,
                                       TimeMs now) {
    db_.execute("UPDATE deliveries SET holds_order = 0 WHERE rowid = ?", head);
    db_.execute(
        "UPDATE deliveries SET state = iif(attempts > 0, 'retrying', 'queued'), holds_order = 1, due_at = ?1,"
        " updated_at = ?1 WHERE rowid = (SELECT rowid FROM deliveries INDEXED BY deliveries_blocked"
        " WHERE state = 'blocked' AND webhook_id = ?2 AND ordering_key = ?3"
        " ORDER BY shard, stream_ms, stream_seq LIMIT 1)",
        now, webhook_id, ordering_key);
    return static_cast<std::size_t>(db_.changes());
}

bool SqliteStore::lets_go(std::string_view webhook_id, std::string_view state, std::string_view status) {
    if (state == "success" || state == "cancelled") return true;
    if (status != "failed") return false;
    auto row = db_.query("SELECT ordering_policy FROM webhooks WHERE id = ?", webhook_id);
    if (!row.step()) return true;
    if (row.view(0) == "skip") return true;
    return row.view(0) == "dead" && state == "dead";
}

// After a change of what a webhook orders: what may go now goes.
void SqliteStore::settle_order(const Webhook& webhook, TimeMs now) {
    if (webhook.ordering != "key") {
        db_.execute("UPDATE deliveries SET holds_order = 0 WHERE webhook_id = ? AND holds_order = 1", webhook.id);
        db_.execute(
            "UPDATE deliveries SET state = 'queued', due_at = ?1, updated_at = ?1 WHERE webhook_id = ?2"
            " AND state = 'blocked'",
            now, webhook.id);
        return;
    }
    std::vector<std::pair<std::int64_t, std::string>> heads;
    {
        auto rows = db_.query(
            "SELECT rowid, ordering_key, state, status FROM deliveries INDEXED BY deliveries_heads"
            " WHERE webhook_id = ? AND holds_order = 1",
            webhook.id);
        while (rows.step()) {
            if (lets_go(webhook.id, rows.view(2), rows.view(3))) heads.emplace_back(rows.number(0), rows.text(1));
        }
    }
    for (const auto& [head, key] : heads) release_order(head, webhook.id, key, now);
}

}  // namespace headgate
