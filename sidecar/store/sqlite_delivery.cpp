// Deliveries: which are due. Input: the dispatcher's questions. Next file: sqlite_results.cpp, what became of them.
#include <algorithm>
#include <queue>
#include <unordered_map>

#include "sidecar/store/sqlite_store.h"

namespace headgate {
namespace {

// The first waiting delivery of the next webhook that has one: a loose scan over the index, one
// step for each webhook, however many rows each has.
constexpr const char* kNextWaitingWebhook =
    "SELECT d.webhook_id, d.due_at, w.is_active AND NOT o.is_suspended AND o.deleted_at IS NULL"
    " FROM (SELECT webhook_id, due_at FROM deliveries INDEXED BY deliveries_waiting"
    "  WHERE state IN ('queued', 'retrying') AND webhook_id > ? ORDER BY webhook_id, due_at LIMIT 1) d"
    " JOIN webhooks w ON w.id = d.webhook_id JOIN organizations o ON o.id = w.organization_id";

}  // namespace

std::vector<std::pair<std::string, TimeMs>> SqliteStore::waiting_webhooks(SqliteLanes& lanes) {
    std::vector<std::pair<std::string, TimeMs>> webhooks;
    std::string last;
    for (;;) {
        auto row = db_.query(kNextWaitingWebhook, last);
        if (!row.step()) return webhooks;
        std::string webhook_id = row.text(0);
        if (row.number(2) != 0 && lanes.holds(webhook_id)) webhooks.emplace_back(webhook_id, row.number(1));
        last = std::move(webhook_id);
    }
}

Result<std::optional<TimeMs>> SqliteStore::next_due_at(Epochs lane_epochs) {
    return read([&]() -> std::optional<TimeMs> {
        std::optional<TimeMs> next;
        SqliteLanes lanes(db_, lane_epochs);
        for (const auto& [webhook_id, due_at] : waiting_webhooks(lanes)) next = std::min(next.value_or(due_at), due_at);
        return next;
    });
}

Result<std::optional<TimeMs>> SqliteStore::oldest_due_at(TimeMs now, Epochs lane_epochs,
                                                         std::span<const std::string> held_back) {
    return read([&]() -> std::optional<TimeMs> {
        std::optional<TimeMs> oldest;
        SqliteLanes lanes(db_, lane_epochs);
        for (const auto& [webhook_id, first_due_at] : waiting_webhooks(lanes)) {
            if (first_due_at > now) continue;
            if (std::find(held_back.begin(), held_back.end(), webhook_id) != held_back.end()) continue;
            auto row = db_.query(
                "SELECT due_at FROM deliveries INDEXED BY deliveries_waiting WHERE state IN ('queued', 'retrying')"
                " AND webhook_id = ? AND due_at <= ? AND state = 'queued' ORDER BY due_at LIMIT 1",
                webhook_id, now);
            if (row.step()) oldest = std::min(oldest.value_or(row.number(0)), row.number(0));
        }
        return oldest;
    });
}

Result<std::vector<ClaimedDelivery>> SqliteStore::claim_due(const ClaimRequest& request) {
    const TimeMs now = request.now;
    const std::size_t total_max = request.total_max;
    if (total_max == 0) return std::vector<ClaimedDelivery>();
    return write([&] {
        SqliteLanes lanes(db_, request.lane_epochs);
        auto webhooks = waiting_webhooks(lanes);
        std::sort(webhooks.begin(), webhooks.end(), [](const auto& a, const auto& b) {
            return std::pair(a.second, a.first) < std::pair(b.second, b.first);
        });
        // The oldest `total_max` seen so far, the newest of them on top. Webhooks come in the order of
        // their oldest delivery: once that is newer than the top, no later one can contribute.
        std::priority_queue<DueRow> chosen;
        for (const auto& [webhook_id, first_due_at] : webhooks) {
            if (first_due_at > now) break;
            if (chosen.size() == total_max && first_due_at > chosen.top().first) break;
            int free = request.room(webhook_id);
            if (free <= 0) continue;
            auto rows = db_.query(
                "SELECT due_at, rowid FROM deliveries INDEXED BY deliveries_waiting WHERE state IN ('queued', "
                "'retrying')"
                " AND webhook_id = ? AND due_at <= ? ORDER BY due_at, rowid LIMIT ?",
                webhook_id, now, std::min<std::size_t>(static_cast<std::size_t>(free), total_max));
            while (rows.step()) {
                DueRow due{rows.number(0), rows.number(1)};
                if (chosen.size() == total_max) {
                    if (!(due < chosen.top())) break;
                    chosen.pop();
                }
                chosen.push(due);
            }
        }
        std::vector<DueRow> due(chosen.size());
        for (auto slot = due.rbegin(); slot != due.rend(); ++slot) {
            *slot = chosen.top();
            chosen.pop();
        }
        return claim(due, now);
    });
}

std::vector<ClaimedDelivery> SqliteStore::claim(const std::vector<DueRow>& due, TimeMs now) {
    std::vector<ClaimedDelivery> claimed;
    claimed.reserve(due.size());
    std::unordered_map<std::string, std::shared_ptr<const Event>> events;  // one for all deliveries of an event
    // Not one UPDATE with RETURNING: SQLite makes a table of its own for that, each time.
    auto read = db_.query(
        "SELECT id, webhook_id, event_id, generation, attempts, organization_id FROM deliveries WHERE rowid = ?");
    auto update = db_.query("UPDATE deliveries SET state = 'in_flight', updated_at = ? WHERE rowid = ?");
    for (const DueRow& delivery : due) {
        read.bind_all(delivery.second);
        if (!read.step()) throw SqliteError({ErrorCode::kCorrupt, "an index names a delivery that is not there"});
        ClaimedDelivery row{.delivery_id = read.text(0),
                            .webhook_id = read.text(1),
                            .event = nullptr,
                            .generation = read.number(3),
                            .attempts = static_cast<int>(read.number(4)),
                            .row = delivery.second};
        auto& event = events[read.text(2)];
        if (!event) event = std::make_shared<const Event>(event_row(read.view(5), read.view(2)));
        row.event = event;
        claimed.push_back(std::move(row));
        read.rewind();
        update.bind_all(now, delivery.second);
        update.run();
        update.rewind();
    }
    return claimed;
}

}  // namespace headgate
