// Lists of an organization's events.
#include "sidecar/store/event_page.h"
#include "sidecar/store/postgres_store.h"

namespace headgate {
Result<EventPage> PostgresStore::list_events(std::string_view org, const EventQuery& query) {
    const auto start = event_page_start(query);
    if (!start) return tl::unexpected<Error>(start.error());
    return guarded([&] {
        // What has to be searched is read in greater numbers than are shown.
        const bool shows_all = query.type.empty() && query.source.empty();
        const auto rows_max = shows_all ? static_cast<std::int64_t>(query.limit) : std::int64_t{kEventsSeenMax};
        EventPage page;
        std::int64_t seen = 0;
        auto rows = db_.query(
            "SELECT id, organization_id, key_id, type, source, substr(payload, 1, 0), ordering_key, traceparent, via,"
            " status, seq, created_at, updated_at FROM events WHERE organization_id = $1 AND"
            " (created_at, seq) < ($2::bigint, $3::bigint) AND created_at >= $4 ORDER BY created_at DESC, seq DESC"
            " LIMIT $5",
            org, start->created_at, start->seq, query.since.value_or(0), rows_max);
        while (rows.step()) {
            if (is_on_event_page(query, rows.view(3), rows.view(4))) page.events.push_back(read_event(rows));
            if (++seen == rows_max || page.events.size() >= static_cast<std::size_t>(query.limit)) {
                page.next = event_place_text({rows.number(11), rows.number(10)});
                break;
            }
        }
        return page;
    });
}

}  // namespace headgate
