// Deliveries after a long stop, and after the clock was set: new times, part by part. See overdue_spread.h.
#include <algorithm>

#include "sidecar/base/failpoint.h"
#include "sidecar/store/lane.h"
#include "sidecar/store/postgres_store.h"

namespace headgate {

namespace {

constexpr std::size_t kSharesMax = 200;  // of one part: each is a question of its own

}  // namespace

Result<void> PostgresStore::spread_overdue(OverdueSpread& spread) {
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

Result<void> PostgresStore::look_for_overdue(OverdueSpread& spread) {
    std::vector<std::string> webhooks;
    std::vector<OverdueSpread::Share> shares;
    auto looked = guarded([&] {
        for (auto& [webhook_id, first_due_at] : waiting_webhooks(spread.lane_epochs)) {
            const int lane = lane_of(webhook_id);
            if (!spread.wants_lane(lane)) continue;
            if (first_due_at < spread.now - spread.overdue_ms) shares.push_back({webhook_id, lane, 0});
            webhooks.push_back(std::move(webhook_id));
        }
    });
    if (looked) spread.looked(std::move(webhooks), std::move(shares));
    return looked;
}

Result<void> PostgresStore::count_overdue(OverdueSpread& spread) {
    OverdueSpread::Place place = spread.place();
    const TimeMs before = spread.now - spread.overdue_ms;
    return guarded([&] {
        const std::size_t end = std::min(spread.shares().size(), place.index + kSharesMax);
        std::size_t left = spread.count_max();
        while (left > 0 && place.index < end) {
            const std::string& webhook_id = spread.shares()[place.index].webhook_id;
            auto last = db_.query(
                "SELECT due_at, id FROM deliveries WHERE state IN ('queued', 'retrying') AND webhook_id = $1"
                " AND (due_at, id) > ($2, $3) AND due_at < $4 ORDER BY due_at, id LIMIT 1 OFFSET $5",
                webhook_id, place.due_at, place.id, before, left - 1);
            if (last.step()) {
                spread.counted(place.index, static_cast<std::int64_t>(left));
                place.due_at = last.number(0);
                place.id = last.text(1);
                break;
            }
            auto rest = db_.query(
                "SELECT count(*) FROM deliveries WHERE state IN ('queued', 'retrying') AND webhook_id = $1"
                " AND (due_at, id) > ($2, $3) AND due_at < $4",
                webhook_id, place.due_at, place.id, before);
            rest.step();
            spread.counted(place.index, rest.number(0));
            left -= std::min(left, static_cast<std::size_t>(rest.number(0)) + 1);
            place = {.index = place.index + 1};
        }
        spread.went_on(std::move(place), 0);
    });
}

// What has its new time is overdue no more; the place spares the index entries that were left behind.
Result<void> PostgresStore::spread_part(OverdueSpread& spread) {
    OverdueSpread::Place place = spread.place();
    std::size_t changed = 0;
    auto written = write([&] {
        const auto& shares = spread.shares();
        const std::size_t end = std::min(shares.size(), place.index + kSharesMax);
        PgArray ids = PgArray::texts();
        PgArray before = PgArray::numbers();
        PgArray after = PgArray::numbers();
        std::vector<int> lanes;
        std::size_t left = spread.part_max;
        while (left > 0 && place.index < end) {
            const OverdueSpread::Share& share = shares[place.index];
            if (lanes.empty() || lanes.back() != share.lane) lanes.push_back(share.lane);  // shares come by lane
            auto due = db_.query(
                "SELECT id, due_at FROM deliveries WHERE state IN ('queued', 'retrying') AND webhook_id = $1"
                " AND due_at >= $2 AND due_at < $3 ORDER BY due_at, id LIMIT $4",
                share.webhook_id, place.due_at, spread.now - spread.overdue_ms, left);
            const auto found = static_cast<std::size_t>(due.rows());
            while (due.step()) {
                place.due_at = due.number(1);
                ids.add(due.view(0));
                before.add(place.due_at);
                after.add(spread.time_of(place.index, place.passed++));
            }
            if (found < left) place = {.index = place.index + 1};
            left -= std::min(left, found + 1);
        }
        std::vector<bool> held = held_lanes_now(lanes, spread.lane_epochs);
        for (int lane : lanes) {
            if (!held[static_cast<std::size_t>(lane)]) throw_lane_lost(lane);
        }
        // Whoever was sent, cancelled or hurried by hand since is left alone.
        changed = static_cast<std::size_t>(db_.execute(
            "UPDATE deliveries d SET due_at = n.after FROM unnest($1::text[], $2::bigint[], $3::bigint[])"
            " AS n (id, before, after) WHERE d.id = n.id AND d.due_at = n.before AND d.state IN ('queued', 'retrying')",
            ids, before, after));
        failpoint("in_spread");
    });
    if (written) spread.went_on(std::move(place), changed);
    return written;
}

// Nothing tells these apart but their rows: all that is due later is looked at once, and seldom anything written.
Result<void> PostgresStore::mend_part(OverdueSpread& spread) {
    const TimeMs ahead = spread.now + kClockAheadMs;
    OverdueSpread::Place place = spread.place();
    if (place.passed == 0) place.due_at = ahead;
    std::vector<int> lanes;
    PgArray found = PgArray::texts();
    auto looked = guarded([&] {
        const std::size_t end = std::min(spread.webhooks().size(), place.index + kSharesMax);
        std::size_t left = spread.part_max;
        while (left > 0 && place.index < end) {
            const std::string& webhook_id = spread.webhooks()[place.index];
            auto rows = db_.query(
                "SELECT id, due_at, updated_at FROM deliveries WHERE state IN ('queued', 'retrying')"
                " AND webhook_id = $1 AND (due_at, id) > ($2, $3) ORDER BY due_at, id LIMIT $4",
                webhook_id, place.due_at, place.id, left);
            const auto seen = static_cast<std::size_t>(rows.rows());
            while (rows.step()) {
                place.passed++;
                place.id = rows.text(0);
                place.due_at = rows.number(1);
                if (place.due_at <= ahead || rows.number(2) <= ahead) continue;
                found.add(place.id);
                lanes.push_back(lane_of(webhook_id));
            }
            if (seen < left) place = {.index = place.index + 1, .due_at = ahead};
            left -= std::min(left, seen + 1);
        }
    });
    if (!looked) return looked;
    std::size_t changed = 0;
    if (!found.empty()) {
        auto written = write([&] {
            std::sort(lanes.begin(), lanes.end());
            lanes.erase(std::unique(lanes.begin(), lanes.end()), lanes.end());
            std::vector<bool> held = held_lanes_now(lanes, spread.lane_epochs);
            for (int lane : lanes) {
                if (!held[static_cast<std::size_t>(lane)]) throw_lane_lost(lane);
            }
            changed = static_cast<std::size_t>(db_.execute(
                "UPDATE deliveries d SET due_at = $1 + greatest(d.due_at - d.updated_at, 0), updated_at = $1 FROM"
                " (SELECT id FROM deliveries WHERE id = ANY ($2) AND state IN ('queued', 'retrying')"
                "  AND due_at > $3 AND updated_at > $3 ORDER BY id FOR UPDATE) n WHERE d.id = n.id",
                spread.now, found, ahead));
        });
        if (!written) return written;
    }
    spread.went_on(std::move(place), changed);
    return {};
}

}  // namespace headgate
