// Retention: forgets what is older than it must be. Whole weekly partitions first, dropped as they are; then, in small
// batches, attempts, events with everything that hangs on them, and what is left of deleted webhooks and organizations.
// Events with an unfinished delivery stay.
#include <algorithm>
#include <vector>

#include "sidecar/base/failpoint.h"
#include "sidecar/store/postgres_partitions.h"
#include "sidecar/store/postgres_store.h"

namespace headgate {
namespace {

constexpr TimeMs kRollupMs = 3'600'000;

}  // namespace

// At most one: a drop waits for everybody who uses the table, and everybody who comes later waits behind it.
std::size_t PostgresStore::drop_old_partition(const PurgeRequest& request) {
    auto rows = db_.query(
        "SELECT p.relname::text, c.relname::text, greatest(c.reltuples, 1)::bigint FROM pg_inherits i"
        " JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_class p ON p.oid = i.inhparent"
        " WHERE i.inhparent IN ('events'::regclass, 'attempts'::regclass) ORDER BY c.relname");
    while (rows.step()) {
        const std::string_view table = rows.view(0);
        const bool is_events = table == "events";
        auto from = partition_start(table, rows.view(1));
        if (!from || *from + kPartitionMs > (is_events ? request.events_before : request.attempts_before)) continue;
        if (is_events) {
            // Created at the edge, and named there: an id may be older than its row's time by the age of a backlog.
            auto used = db_.query(
                "SELECT EXISTS (SELECT 1 FROM deliveries WHERE event_id >= $1 AND event_id < $2)"
                " OR EXISTS (SELECT 1 FROM ledger WHERE event_id >= $1 AND event_id < $2)",
                partition_bound(*from), partition_bound(*from + kPartitionMs));
            used.step();
            if (used.number(0) != 0) continue;
        }
        db_.send("SET LOCAL lock_timeout = '2s'");
        db_.execute_script("DROP TABLE " +
                           rows.text(1));  // a name of letters and digits: partition_start() has read it
        return static_cast<std::size_t>(rows.number(2));
    }
    return 0;
}

// One look at events by age, from where the last one ended; over when all organizations have been looked at.
PostgresStore::PurgeStep PostgresStore::purge_events(const PurgeRequest& request) {
    PurgeStep step;
    PurgeCursor cursor = purge_cursor_;
    auto rows = db_.query(
        "SELECT e.id, e.created_at, e.seq, EXISTS (SELECT 1 FROM deliveries d WHERE d.event_id = e.id"
        "  AND d.state IN ('queued', 'in_flight', 'retrying', 'blocked'))"
        " FROM (SELECT id, created_at, seq FROM events WHERE organization_id = $1 AND (created_at, seq) > ($2, $3)"
        "  AND created_at < $4 ORDER BY created_at, seq LIMIT $5) e ORDER BY e.created_at, e.seq",
        cursor.org, cursor.created_at, cursor.seq, request.events_before, request.batch_max);
    PgArray old = PgArray::texts();
    while (rows.step()) {
        cursor.created_at = rows.number(1);
        cursor.seq = rows.number(2);
        if (rows.number(3) == 0) old.add(rows.view(0));
    }
    if (!old.empty()) {
        // A head that was left dead holds back the others of its key no longer than it exists.
        auto heads = db_.query(
            "UPDATE deliveries SET holds_order = 0 WHERE event_id = ANY ($1) AND holds_order = 1"
            " RETURNING webhook_id, ordering_key",
            old);
        std::vector<OrderingKey> keys;
        while (heads.step()) keys.push_back({heads.view(0), heads.view(1), request.now});
        if (!keys.empty()) send_next_heads(keys);
        db_.send("DELETE FROM attempts WHERE delivery_id IN (SELECT id FROM deliveries WHERE event_id = ANY ($1))",
                 old);
        db_.send("DELETE FROM deliveries WHERE event_id = ANY ($1)", old);
        failpoint("in_purge");
        db_.send("DELETE FROM ledger WHERE event_id = ANY ($1)", old);
        db_.send("DELETE FROM events WHERE id = ANY ($1)", old);
        db_.flush();
    }
    step.purged = static_cast<std::size_t>(old.size());
    if (static_cast<std::size_t>(rows.rows()) < request.batch_max) {
        auto next = db_.query("SELECT min(id) FROM organizations WHERE id > $1", cursor.org);
        next.step();
        step.is_over = next.is_null(0);
        cursor = {next.text(0), 0, 0};
    }
    purge_cursor_ = cursor;
    return step;
}

// What is found by an index of its own, or is little.
std::size_t PostgresStore::purge_rest(const PurgeRequest& request) {
    std::int64_t purged = 0;
    auto purge = [&](const char* sql, const auto&... args) { purged += db_.execute(sql, args...); };
    purge(
        "DELETE FROM rollups WHERE (webhook_id, hour_at, event_type) IN (SELECT webhook_id, hour_at, event_type"
        " FROM rollups WHERE hour_at < $1 LIMIT $2)",
        request.events_before - kRollupMs, request.batch_max);
    purge(
        "DELETE FROM quarantine WHERE (shard, stream_id) IN (SELECT shard, stream_id FROM quarantine"
        " WHERE created_at < $1 ORDER BY created_at LIMIT $2)",
        request.quarantine_before, std::min(request.batch_max, kQuarantineBatchMax));
    purge(
        "DELETE FROM audit_log WHERE id IN (SELECT id FROM audit_log WHERE created_at < $1 ORDER BY created_at LIMIT "
        "$2)",
        request.audit_before, request.batch_max);
    purge("DELETE FROM revocations WHERE member IN (SELECT member FROM revocations WHERE until <= $1 LIMIT $2)",
          request.now, request.batch_max);
    purge(
        "DELETE FROM replays WHERE id IN (SELECT id FROM replays WHERE state IN ('done', 'cancelled')"
        " AND updated_at < $1 LIMIT $2)",
        request.events_before, request.batch_max);
    purge(
        "DELETE FROM webhooks WHERE id IN (SELECT id FROM webhooks w WHERE deleted_at < $1"
        " AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.webhook_id = w.id) LIMIT $2)",
        request.events_before, request.batch_max);
    purge(
        "DELETE FROM organizations WHERE id IN (SELECT id FROM organizations o WHERE deleted_at < $1"
        " AND NOT EXISTS (SELECT 1 FROM events e WHERE e.organization_id = o.id)"
        " AND NOT EXISTS (SELECT 1 FROM webhooks w WHERE w.organization_id = o.id) LIMIT $2)",
        request.events_before, request.batch_max);
    return static_cast<std::size_t>(purged);
}

Result<std::size_t> PostgresStore::purge(const PurgeRequest& request) {
    if (request.batch_max == 0) return std::size_t{0};
    auto dropped = write([&] {
        make_partitions(request.now);
        return drop_old_partition(request);
    });
    // Somebody uses the table all the time: another call will find the moment, and rows go meanwhile.
    if (dropped && *dropped > 0) return dropped;
    auto attempts = write([&] {
        return static_cast<std::size_t>(
            db_.execute("DELETE FROM attempts WHERE id IN (SELECT id FROM attempts WHERE id < $1 ORDER BY id LIMIT $2)",
                        partition_bound(request.attempts_before), request.batch_max));
    });
    if (!attempts || *attempts > 0) return attempts;
    for (;;) {
        auto step = write([&] { return purge_events(request); });
        if (!step) return tl::unexpected<Error>(step.error());
        if (step->purged > 0) return step->purged;
        if (step->is_over) break;
    }
    return write([&] { return purge_rest(request); });
}

}  // namespace headgate
