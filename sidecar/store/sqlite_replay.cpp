// Replays: deliveries of kind `replay`, made bit by bit from the events that a webhook missed. A replay is a cursor
// over its organization's events by age, kept in its row, so that it goes on after a restart.
#include "common/event_id.h"
#include "sidecar/base/failpoint.h"
#include "sidecar/store/sqlite_store.h"

namespace headgate {
namespace {

constexpr std::size_t kSeenMax = 500;  // events of one transaction
constexpr std::size_t kSeenInCallMax = 20'000;

// ?1 organization, ?2 and ?3 behind this event, ?4 before this time, ?5 up to this seq, ?6 how many.
constexpr const char* kNextEvents =
    "SELECT created_at, seq, id, organization_id, key_id, type, source, payload, ordering_key, traceparent, via"
    " FROM events INDEXED BY events_age WHERE organization_id = ?1 AND (created_at, seq) > (?2, ?3)"
    " AND created_at < ?4 AND seq <= ?5 ORDER BY created_at, seq LIMIT ?6";

}  // namespace

// Before the subscription is asked: it may have to parse the payload.
bool SqliteStore::is_missed(const Replay& replay, std::string_view event_id) {
    if (replay.which == "all") return true;
    auto newest = db_.query(
        "SELECT state FROM deliveries INDEXED BY deliveries_event WHERE event_id = ? AND webhook_id = ?"
        " AND kind <> 'test' ORDER BY id DESC LIMIT 1",
        event_id, replay.webhook_id);
    if (!newest.step()) return headgate::is_missed(replay, std::nullopt);
    return headgate::is_missed(replay, newest.view(0));
}

std::int64_t SqliteStore::count_missed(const Replay& replay, const Wants& wants, std::int64_t seq_max) {
    std::int64_t total = 0;
    auto rows = db_.query(kNextEvents, replay.org, replay.since, 0, replay.until, seq_max, -1);
    while (rows.step()) {
        if (is_missed(replay, rows.view(2)) && wants(replay_record(rows))) total++;
    }
    return total;
}

// ---- going on -------------------------------------------------------------------------------

SqliteStore::ReplayStep SqliteStore::replay_step(std::string_view id, const Wants& wants, std::size_t queued_max,
                                                 TimeMs now) {
    auto row = db_.query("SELECT " HEADGATE_REPLAY_COLUMNS
                         ", cursor_at, cursor_seq, seq_max FROM replays WHERE id = ? AND state = 'running'",
                         id);
    if (!row.step()) return {.is_over = true};
    const Replay replay = read_replay(row);
    auto unfinished = db_.query(
        "SELECT count(*) FROM deliveries INDEXED BY deliveries_replay WHERE replay_id <> '' AND replay_id = ?"
        " AND state IN ('queued', 'in_flight', 'retrying')",
        id);
    unfinished.step();
    const auto queued = static_cast<std::size_t>(unfinished.number(0));
    if (queued >= queued_max) return {.is_over = true};
    auto generation = db_.query("SELECT generation FROM organizations WHERE id = ?", replay.org);
    generation.step();

    ReplayStep step;
    TimeMs cursor_at = row.number(13);
    std::int64_t cursor_seq = row.number(14);
    bool is_full = false;
    {
        auto events = db_.query(kNextEvents, replay.org, cursor_at, cursor_seq, replay.until, row.number(15), kSeenMax);
        while (!is_full && events.step()) {
            step.seen++;
            cursor_at = events.number(0);
            cursor_seq = events.number(1);
            if (!is_missed(replay, events.view(2)) || !wants(replay_record(events))) continue;
            db_.execute(
                "INSERT INTO deliveries (id, organization_id, webhook_id, event_id, state, kind, due_at, generation,"
                " lane, shard, stream_ms, stream_seq, replay_id, created_at, updated_at)"
                " VALUES (?1, ?2, ?3, ?4, 'queued', 'replay', ?5, ?6, ?7, 0, 0, 0, ?8, ?5, ?5)",
                uuid7(now), replay.org, replay.webhook_id, events.view(2), now, generation.number(0),
                lane_of(replay.webhook_id), id);
            step.made++;
            is_full = queued + step.made >= queued_max;
        }
    }
    failpoint("in_replay");
    const bool is_done = !is_full && step.seen < kSeenMax;
    db_.execute(
        "UPDATE replays SET cursor_at = ?, cursor_seq = ?, made = made + ?, state = iif(?, 'done', state),"
        " updated_at = ? WHERE id = ?",
        cursor_at, cursor_seq, step.made, is_done, now, id);
    step.is_over = is_done || is_full;
    return step;
}

Result<std::size_t> SqliteStore::advance_replay(std::string_view id, const Wants& wants, std::size_t queued_max,
                                                TimeMs now) {
    std::size_t made = 0;
    std::size_t seen = 0;
    for (;;) {
        auto step = write([&] { return replay_step(id, wants, queued_max, now); });
        if (!step) return tl::unexpected<Error>(step.error());
        made += step->made;
        seen += step->seen;
        if (step->is_over || seen >= kSeenInCallMax) return made;
    }
}

}  // namespace headgate
