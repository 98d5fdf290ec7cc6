// Replays: deliveries of kind `replay`, made bit by bit from the events that a webhook missed. A replay is a cursor
// over its organization's events by age, kept in its row, so that it goes on after a restart, on whichever instance.
#include "sidecar/base/failpoint.h"
#include "sidecar/store/id_source.h"
#include "sidecar/store/lane.h"
#include "sidecar/store/postgres_store.h"

namespace headgate {
namespace {

constexpr std::size_t kSeenMax = 500;  // events of one transaction
constexpr std::size_t kSeenInCallMax = 20'000;

// $1 organization, $2 and $3 behind this event, $4 before this time, $5 up to this seq, $6 how many, $7 webhook. Each
// with the state of its newest delivery there.
constexpr const char* kNextEvents =
    "SELECT e.created_at, e.seq, e.id, e.organization_id, e.key_id, e.type, e.source, e.payload, e.ordering_key,"
    " e.traceparent, e.via, d.state FROM (SELECT * FROM events WHERE organization_id = $1"
    "  AND (created_at, seq) > ($2, $3) AND created_at < $4 AND seq <= $5 ORDER BY created_at, seq LIMIT $6) e"
    " LEFT JOIN LATERAL (SELECT state FROM deliveries WHERE event_id = e.id AND webhook_id = $7 AND kind <> 'test'"
    "  ORDER BY id DESC LIMIT 1) d ON true ORDER BY e.created_at, e.seq";
constexpr int kNewestState = 11;

// Before the subscription is asked: it may have to parse the payload.
bool is_missed(const Replay& replay, const PgResult& row) {
    if (row.is_null(kNewestState)) return is_missed(replay, std::nullopt);
    return is_missed(replay, row.view(kNewestState));
}

}  // namespace

std::int64_t PostgresStore::count_missed(const Replay& replay, const Wants& wants, std::int64_t seq_max) {
    std::int64_t total = 0;
    TimeMs cursor_at = replay.since;
    std::int64_t cursor_seq = 0;
    for (;;) {
        auto rows = db_.query(kNextEvents, replay.org, cursor_at, cursor_seq, replay.until, seq_max, kSeenMax,
                              replay.webhook_id);
        while (rows.step()) {
            cursor_at = rows.number(0);
            cursor_seq = rows.number(1);
            if (is_missed(replay, rows) && wants(replay_record(rows))) total++;
        }
        if (static_cast<std::size_t>(rows.rows()) < kSeenMax) return total;
    }
}

// ---- going on -------------------------------------------------------------------------------

PostgresStore::ReplayStep PostgresStore::replay_step(std::string_view id, const Wants& wants, std::size_t queued_max,
                                                     TimeMs now) {
    // The organization first, in the order of locks.
    auto org = db_.query(
        "SELECT o.generation FROM organizations o JOIN replays r ON r.organization_id = o.id WHERE r.id = $1"
        " FOR NO KEY UPDATE OF o",
        id);
    auto row = db_.query("SELECT " HEADGATE_REPLAY_COLUMNS
                         ", cursor_at, cursor_seq, seq_max FROM replays WHERE id = $1 AND state = 'running' FOR UPDATE",
                         id);
    if (!org.step() || !row.step()) return {.is_over = true};
    const Replay replay = read_replay(row);
    TimeMs cursor_at = row.number(13);
    std::int64_t cursor_seq = row.number(14);
    std::size_t unfinished_rows = db_.send(
        "SELECT count(*) FROM deliveries WHERE replay_id <> '' AND replay_id = $1"
        " AND state IN ('queued', 'in_flight', 'retrying')",
        id);
    std::size_t event_rows = db_.send(kNextEvents, replay.org, cursor_at, cursor_seq, replay.until, row.number(15),
                                      kSeenMax, replay.webhook_id);
    db_.flush();
    auto unfinished = db_.take(unfinished_rows);
    auto events = db_.take(event_rows);
    unfinished.step();
    const auto queued = static_cast<std::size_t>(unfinished.number(0));
    if (queued >= queued_max) return {.is_over = true};

    ReplayStep step;
    bool is_full = false;
    IdSource ids(now);
    PgArray delivery_ids = PgArray::texts();
    PgArray event_ids = PgArray::texts();
    while (!is_full && events.step()) {
        step.seen++;
        cursor_at = events.number(0);
        cursor_seq = events.number(1);
        if (!is_missed(replay, events) || !wants(replay_record(events))) continue;
        delivery_ids.add(ids.next());
        event_ids.add(events.view(2));
        step.made++;
        is_full = queued + step.made >= queued_max;
    }
    if (step.made > 0) {
        db_.send(
            "INSERT INTO deliveries (id, event_id, organization_id, webhook_id, state, kind, due_at, generation, lane,"
            " shard, stream_ms, stream_seq, replay_id, created_at, updated_at) SELECT *, $3, $4, 'queued', 'replay',"
            " $5::bigint, $6::bigint, $7::bigint, 0, 0, 0, $8, $5::bigint, $5::bigint"
            " FROM unnest($1::text[], $2::text[])",
            delivery_ids, event_ids, replay.org, replay.webhook_id, now, org.number(0), lane_of(replay.webhook_id), id);
        db_.send("UPDATE organizations SET deliveries_made = deliveries_made + $1 WHERE id = $2", step.made,
                 replay.org);
    }
    failpoint("in_replay");
    const bool is_done = !is_full && step.seen < kSeenMax;
    db_.send(
        "UPDATE replays SET cursor_at = $1, cursor_seq = $2, made = made + $3,"
        " state = CASE WHEN $4 = 1 THEN 'done' ELSE state END, updated_at = $5 WHERE id = $6",
        cursor_at, cursor_seq, step.made, is_done, now, id);
    step.is_over = is_done || is_full;
    return step;
}

Result<std::size_t> PostgresStore::advance_replay(std::string_view id, const Wants& wants, std::size_t queued_max,
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
