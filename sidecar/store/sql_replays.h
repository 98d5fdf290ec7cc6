// Replays as they are asked for, read and steered; see sql_store.h. How one goes on is each engine's own.
#pragma once

#include "sidecar/store/sql_store.h"

namespace headgate {

template <typename Engine>
std::int64_t SqlStore<Engine>::newest_seq(std::string_view org) {
    auto row = db().query("SELECT seq FROM organizations WHERE id = $1", org);
    return row.step() ? row.number(0) : 0;
}

template <typename Engine>
std::int64_t SqlStore<Engine>::count_replay_now(const Replay& replay, const Wants& wants, std::int64_t seq_max) {
    if (replay.which != "missing" && replay.which != "failed" && replay.which != "all") {
        throw StoreFailure(
            {ErrorCode::kInvalidArgument, "a replay is of missing, failed or all, not of \"" + replay.which + "\""});
    }
    if (!db().query("SELECT 1 FROM webhooks WHERE id = $1 AND organization_id = $2 AND deleted_at IS NULL",
                    replay.webhook_id, replay.org)
             .step()) {
        throw_not_found("webhook", replay.webhook_id);
    }
    return engine().count_missed(replay, wants, seq_max);
}

template <typename Engine>
Result<std::int64_t> SqlStore<Engine>::count_replay(const Replay& replay, const Wants& wants) {
    return engine().read([&] { return count_replay_now(replay, wants, newest_seq(replay.org)); });
}

template <typename Engine>
Result<Replay> SqlStore<Engine>::create_replay(const Replay& replay, const Wants& wants) {
    // Counted as of one state, without a lock, which a long range would hold for seconds. What is persisted later is
    // not part of the replay: it is delivered by itself.
    std::int64_t seq_max = 0;
    auto total = engine().read([&] {
        seq_max = newest_seq(replay.org);
        return count_replay_now(replay, wants, seq_max);
    });
    if (!total) return tl::unexpected<Error>(total.error());
    return engine().write([&] {
        db().execute(
            "INSERT INTO replays (id, organization_id, webhook_id, since_at, until_at, which, total, seq_max,"
            " cursor_at, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
            replay.id, replay.org, replay.webhook_id, replay.since, replay.until, replay.which, *total, seq_max,
            replay.since, replay.created_at, replay.updated_at);
        return replay_row(replay.org, replay.id);
    });
}

// ---- reading and steering -------------------------------------------------------------------

template <typename Engine>
Replay SqlStore<Engine>::replay_row(std::string_view org, std::string_view id) {
    auto row =
        db().query("SELECT " HEADGATE_REPLAY_COLUMNS " FROM replays WHERE id = $1 AND organization_id = $2", id, org);
    if (!row.step()) throw_not_found("replay", id);
    return read_replay(row);
}

template <typename Engine>
Result<Replay> SqlStore<Engine>::get_replay(std::string_view org, std::string_view id) {
    return engine().guarded([&] { return replay_row(org, id); });
}

template <typename Engine>
Result<std::vector<Replay>> SqlStore<Engine>::list_replays(std::string_view org, std::string_view webhook_id) {
    return engine().guarded([&] {
        std::vector<Replay> replays;
        auto rows = db().query("SELECT " HEADGATE_REPLAY_COLUMNS
                               " FROM replays WHERE webhook_id = $1 AND organization_id = $2 ORDER BY id DESC",
                               webhook_id, org);
        while (rows.step()) replays.push_back(read_replay(rows));
        return replays;
    });
}

template <typename Engine>
Result<std::vector<Replay>> SqlStore<Engine>::running_replays() {
    return engine().guarded([&] {
        std::vector<Replay> replays;
        auto rows = db().query("SELECT " HEADGATE_REPLAY_COLUMNS " FROM replays WHERE state = 'running' ORDER BY id");
        while (rows.step()) replays.push_back(read_replay(rows));
        return replays;
    });
}

template <typename Engine>
Result<Replay> SqlStore<Engine>::set_replay_state(std::string_view org, std::string_view id, std::string_view state,
                                                  TimeMs now) {
    return engine().write([&] {
        if (state != "running" && state != "paused" && state != "cancelled") {
            throw StoreFailure({ErrorCode::kInvalidArgument,
                                "a replay can be running, paused or cancelled, not \"" + std::string(state) + "\""});
        }
        engine().lock_replay(org, id);
        Replay before = replay_row(org, id);
        if (before.state == state) return before;
        if (before.state == "done" || before.state == "cancelled") {
            throw_conflict("replay " + before.id + " is " + before.state);
        }
        db().execute("UPDATE replays SET state = $1, updated_at = $2 WHERE id = $3", state, now, id);
        return replay_row(org, id);
    });
}

}  // namespace headgate
