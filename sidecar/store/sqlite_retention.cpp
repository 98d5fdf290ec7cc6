// Retention: forgets, in small batches, what is older than it must be. First attempts, then events with everything
// that hangs on them, then what is left of deleted webhooks and organizations. Events with an unfinished delivery stay.
#include <algorithm>
#include <vector>

#include "sidecar/base/failpoint.h"
#include "sidecar/store/sqlite_store.h"

namespace headgate {

// One look at events by age, from where the last one ended; over when all organizations have been looked at.
SqliteStore::PurgeStep SqliteStore::purge_events(const PurgeRequest& request) {
    PurgeStep step;
    struct Old {
        std::int64_t rowid = 0;
        std::string id;
    };
    std::vector<Old> old;
    std::size_t seen = 0;
    auto& cursor = purge_cursor_;
    {
        auto rows = db_.query(
            "SELECT rowid, id, created_at, seq FROM events INDEXED BY events_age WHERE organization_id = ?"
            " AND (created_at, seq) > (?, ?) AND created_at < ? ORDER BY created_at, seq LIMIT ?",
            cursor.org, cursor.created_at, cursor.seq, request.events_before, request.batch_max);
        while (rows.step()) {
            seen++;
            cursor.created_at = rows.number(2);
            cursor.seq = rows.number(3);
            auto unfinished = db_.query(
                "SELECT 1 FROM deliveries INDEXED BY deliveries_event WHERE event_id = ?"
                " AND state IN ('queued', 'in_flight', 'retrying', 'blocked') LIMIT 1",
                rows.view(1));
            if (!unfinished.step()) old.push_back({rows.number(0), rows.text(1)});
        }
    }
    for (const Old& event : old) {
        // A head that was left dead holds back the others of its key no longer than it exists.
        struct Head {
            std::int64_t rowid = 0;
            std::string webhook_id, key;
        };
        std::vector<Head> heads;
        {
            auto rows = db_.query(
                "SELECT rowid, webhook_id, ordering_key FROM deliveries INDEXED BY deliveries_event"
                " WHERE event_id = ? AND holds_order = 1",
                event.id);
            while (rows.step()) heads.push_back({rows.number(0), rows.text(1), rows.text(2)});
        }
        for (const Head& head : heads) release_order(head.rowid, head.webhook_id, head.key, request.now);
        db_.execute("DELETE FROM deliveries WHERE event_id = ?", event.id);  // and their attempts
        failpoint("in_purge");
        db_.execute("DELETE FROM ledger WHERE event_id = ?", event.id);
        db_.execute("DELETE FROM events WHERE rowid = ?", event.rowid);
    }
    step.purged = old.size();
    if (seen < request.batch_max) {
        auto next = db_.query("SELECT min(id) FROM organizations WHERE id > ?", cursor.org);
        next.step();
        step.is_over = next.is_null(0);
        cursor = {next.text(0), 0, 0};
    }
    return step;
}

// What is found by an index of its own, or is little.
std::size_t SqliteStore::purge_rest(const PurgeRequest& request) {
    std::int64_t purged = 0;
    auto purge = [&](const char* sql, const auto&... args) {
        db_.execute(sql, args...);
        purged += db_.changes();
    };
    purge(
        "DELETE FROM rollups WHERE (webhook_id, hour_at, event_type) IN (SELECT webhook_id, hour_at, event_type"
        " FROM rollups INDEXED BY rollups_hour WHERE hour_at < ? LIMIT ?)",
        request.events_before - kHourMs, request.batch_max);
    purge(
        "DELETE FROM quarantine WHERE rowid IN (SELECT rowid FROM quarantine INDEXED BY quarantine_age"
        " WHERE created_at < ? ORDER BY created_at LIMIT ?)",
        request.quarantine_before, std::min(request.batch_max, kQuarantineBatchMax));
    purge(
        "DELETE FROM audit_log WHERE rowid IN (SELECT rowid FROM audit_log INDEXED BY audit_log_age"
        " WHERE created_at < ? ORDER BY created_at LIMIT ?)",
        request.audit_before, request.batch_max);
    purge("DELETE FROM revocations WHERE member IN (SELECT member FROM revocations WHERE until <= ? LIMIT ?)",
          request.now, request.batch_max);
    purge(
        "DELETE FROM replays WHERE id IN (SELECT id FROM replays WHERE state IN ('done', 'cancelled')"
        " AND updated_at < ? LIMIT ?)",
        request.events_before, request.batch_max);
    purge(
        "DELETE FROM webhooks WHERE id IN (SELECT id FROM webhooks w WHERE deleted_at < ?"
        " AND NOT EXISTS (SELECT 1 FROM deliveries d INDEXED BY deliveries_webhook WHERE d.webhook_id = w.id) LIMIT ?)",
        request.events_before, request.batch_max);
    purge(
        "DELETE FROM organizations WHERE id IN (SELECT id FROM organizations o WHERE deleted_at < ?"
        " AND NOT EXISTS (SELECT 1 FROM events e INDEXED BY events_age WHERE e.organization_id = o.id)"
        " AND NOT EXISTS (SELECT 1 FROM webhooks w WHERE w.organization_id = o.id) LIMIT ?)",
        request.events_before, request.batch_max);
    return static_cast<std::size_t>(purged);
}

Result<std::size_t> SqliteStore::purge(const PurgeRequest& request) {
    if (request.batch_max == 0) return std::size_t{0};
    // Attempts lie in the order in which they were made, nearly that of their times: the oldest are at the front.
    auto attempts = write([&] {
        db_.execute(
            "DELETE FROM attempts WHERE rowid IN (SELECT place FROM (SELECT rowid AS place, finished_at FROM attempts"
            " ORDER BY rowid LIMIT ?) WHERE finished_at < ? LIMIT ?)",
            10 * request.batch_max, request.attempts_before, request.batch_max);
        return static_cast<std::size_t>(db_.changes());
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
