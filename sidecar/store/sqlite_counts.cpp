// What operators are told about the store: how many deliveries are not finished, counted over the partial indexes of
// those (what succeeded, and is most of the table, is never looked at).
#include "sidecar/store/sqlite_store.h"

namespace headgate {

Result<Store::DeliveryCounts> SqliteStore::delivery_counts(TimeMs now) {
    return read([&] {
        auto number = [this](const char* sql) {
            auto row = db_.query(sql);
            row.step();
            return row.number(0);
        };
        DeliveryCounts counts;
        auto waiting = db_.query(
            "SELECT count(*), coalesce(sum(due_at > ?), 0) FROM deliveries INDEXED BY deliveries_waiting"
            " WHERE state IN ('queued', 'retrying')",
            now);
        waiting.step();
        counts.later = waiting.number(1);
        counts.due = waiting.number(0) - counts.later;
        counts.in_flight =
            number("SELECT count(*) FROM deliveries INDEXED BY deliveries_in_flight WHERE state = 'in_flight'");
        counts.blocked =
            number("SELECT count(*) FROM deliveries INDEXED BY deliveries_blocked WHERE state = 'blocked'");
        counts.dead = number("SELECT count(*) FROM deliveries INDEXED BY deliveries_dead WHERE state = 'dead'");
        return counts;
    });
}

}  // namespace headgate
