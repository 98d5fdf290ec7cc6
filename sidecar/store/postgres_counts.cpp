// What operators are told about the store: how many deliveries are not finished, counted over the partial indexes of
// those (what succeeded, and is most of the table, is never looked at).
#include "sidecar/store/postgres_store.h"

namespace headgate {

Result<Store::DeliveryCounts> PostgresStore::delivery_counts(TimeMs now) {
    return guarded([&] {
        auto row = db_.query(
            "SELECT w.due, w.later, (SELECT count(*) FROM deliveries WHERE state = 'in_flight'),"
            " (SELECT count(*) FROM deliveries WHERE state = 'blocked'),"
            " (SELECT count(*) FROM deliveries WHERE state = 'dead')"
            " FROM (SELECT count(*) FILTER (WHERE due_at <= $1) AS due, count(*) FILTER (WHERE due_at > $1) AS later"
            "  FROM deliveries WHERE state IN ('queued', 'retrying')) w",
            now);
        row.step();
        DeliveryCounts counts;
        counts.due = row.number(0);
        counts.later = row.number(1);
        counts.in_flight = row.number(2);
        counts.blocked = row.number(3);
        counts.dead = row.number(4);
        return counts;
    });
}

}  // namespace headgate
