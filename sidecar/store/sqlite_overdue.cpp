// Deliveries after a long stop, and after the clock was set: new times, part by part. See overdue_spread.h.
#include <algorithm>

#include "sidecar/base/failpoint.h"
#include "sidecar/store/sqlite_store.h"

namespace headgate {

Result<void> SqliteStore::spread_overdue(OverdueSpread& spread) {
    switch (spread.step()) {
        case OverdueSpread::Step::kLook:
            return look_for_overdue(spread);
        case OverdueSpread::Step::kCount:
            return count_overdue(spread);
        case OverdueSpread::Step::kSpread:
            return spread_part(spread);
        case OverdueSpread::Step::kMend:
            return mend_part(spread);
        case OverdueSpread::Step::kDone:
            break;
    }
    return {};
}

Result<void> SqliteStore::look_for_overdue(OverdueSpread& spread) {
    std::vector<std::string> webhooks;
    std::vector<OverdueSpread::Share> shares;
    auto looked = read([&] {
        SqliteLanes lanes(db_, spread.lane_epochs);
        for (auto& [webhook_id, first_due_at] : waiting_webhooks(lanes)) {
            const int lane = lane_of(webhook_id);
            if (!spread.wants_lane(lane)) continue;
            if (first_due_at < spread.now - spread.overdue_ms) shares.push_back({webhook_id, lane, 0});
            webhooks.push_back(std::move(webhook_id));
        }
    });
    if (looked) spread.looked(std::move(webhooks), std::move(shares));
    return looked;
}

Result<void> SqliteStore::count_overdue(OverdueSpread& spread) {
    OverdueSpread::Place place = spread.place();
    const TimeMs before = spread.now - spread.overdue_ms;
    return guarded([&] {
        std::size_t left = spread.count_max();
        while (left > 0 && place.index < spread.shares().size()) {
            const std::string& webhook_id = spread.shares()[place.index].webhook_id;
            auto last = db_.query(
                "SELECT due_at, rowid FROM deliveries INDEXED BY deliveries_waiting WHERE state IN ('queued',"
                " 'retrying') AND webhook_id = ? AND (due_at, rowid) > (?, ?) AND due_at < ?"
                " ORDER BY due_at, rowid LIMIT 1 OFFSET ?",
                webhook_id, place.due_at, place.row, before, left - 1);
            if (last.step()) {
                spread.counted(place.index, static_cast<std::int64_t>(left));
                place.due_at = last.number(0);
                place.row = last.number(1);
                break;
            }
            auto rest = db_.query(
                "SELECT count(*) FROM deliveries INDEXED BY deliveries_waiting WHERE state IN ('queued', 'retrying')"
                " AND webhook_id = ? AND (due_at, rowid) > (?, ?) AND due_at < ?",
                webhook_id, place.due_at, place.row, before);
            rest.step();
            spread.counted(place.index, rest.number(0));
            left -= std::min(left, static_cast<std::size_t>(rest.number(0)) + 1);
            place = {.index = place.index + 1};
        }
        spread.went_on(std::move(place), 0);
    });
}

// What has its new time is overdue no more, so that each part begins where the one before ended.
Result<void> SqliteStore::spread_part(OverdueSpread& spread) {
    OverdueSpread::Place place = spread.place();
    std::size_t changed = 0;
    auto written = write([&] {
        SqliteLanes lanes(db_, spread.lane_epochs);
        std::size_t left = spread.part_max;
        std::vector<DueRow> rows;
        while (left > 0 && place.index < spread.shares().size()) {
            const OverdueSpread::Share& share = spread.shares()[place.index];
            if (!lanes.holds_lane(share.lane)) throw_lease_lost("lane", share.lane);
            rows.clear();
            {
                auto due = db_.query(
                    "SELECT due_at, rowid FROM deliveries INDEXED BY deliveries_waiting WHERE state IN ('queued',"
                    " 'retrying') AND webhook_id = ? AND due_at < ? ORDER BY due_at, rowid LIMIT ?",
                    share.webhook_id, spread.now - spread.overdue_ms, left);
                while (due.step()) rows.emplace_back(due.number(0), due.number(1));
            }
            auto update = db_.query("UPDATE deliveries SET due_at = ? WHERE rowid = ?");
            for (const DueRow& row : rows) {
                update.bind_all(spread.time_of(place.index, place.passed++), row.second);
                update.run();
                update.rewind();
            }
            changed += rows.size();
            if (rows.size() < left) place = {.index = place.index + 1};
            left -= std::min(left, rows.size() + 1);
        }
        failpoint("in_spread");
    });
    if (written) spread.went_on(std::move(place), changed);
    return written;
}

// Nothing tells these apart but their rows: all that is due later is looked at once, and seldom anything written.
Result<void> SqliteStore::mend_part(OverdueSpread& spread) {
    const TimeMs ahead = spread.now + kClockAheadMs;
    OverdueSpread::Place place = spread.place();
    if (place.passed == 0) place.due_at = ahead;
    std::vector<std::pair<int, std::int64_t>> found;  // lane, row
    auto looked = read([&] {
        std::size_t left = spread.part_max;
        while (left > 0 && place.index < spread.webhooks().size()) {
            const std::string& webhook_id = spread.webhooks()[place.index];
            auto rows = db_.query(
                "SELECT due_at, rowid, updated_at FROM deliveries INDEXED BY deliveries_waiting WHERE state IN"
                " ('queued', 'retrying') AND webhook_id = ? AND (due_at, rowid) > (?, ?) ORDER BY due_at, rowid"
                " LIMIT ?",
                webhook_id, place.due_at, place.row, left);
            std::size_t seen = 0;
            while (rows.step()) {
                seen++;
                place.passed++;
                place.due_at = rows.number(0);
                place.row = rows.number(1);
                if (place.due_at > ahead && rows.number(2) > ahead) found.emplace_back(lane_of(webhook_id), place.row);
            }
            if (seen < left) place = {.index = place.index + 1, .due_at = ahead};
            left -= std::min(left, seen + 1);
        }
    });
    if (!looked) return looked;
    std::size_t changed = 0;
    if (!found.empty()) {
        auto written = write([&] {
            SqliteLanes lanes(db_, spread.lane_epochs);
            auto update = db_.query(
                "UPDATE deliveries SET due_at = ?1 + max(due_at - updated_at, 0), updated_at = ?1 WHERE rowid = ?2"
                " AND state IN ('queued', 'retrying') AND due_at > ?3 AND updated_at > ?3");
            for (const auto& [lane, row] : found) {
                if (!lanes.holds_lane(lane)) throw_lease_lost("lane", lane);
                update.bind_all(spread.now, row, ahead);
                update.run();
                update.rewind();
                changed += static_cast<std::size_t>(db_.changes());
            }
        });
        if (!written) return written;
    }
    spread.went_on(std::move(place), changed);
    return {};
}

}  // namespace headgate
