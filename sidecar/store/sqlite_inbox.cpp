// Lists of an organization's events.
#include "sidecar/store/event_page.h"
#include "sidecar/store/sqlite_store.h"

namespace headgate {
Result<EventPage> SqliteStore::list_events(std::string_view org, const EventQuery& query) {
    const auto start = event_page_start(query);
    if (!start) return tl::unexpected<Error>(start.error());
    return read([&] {
        EventPage page;
        int seen = 0;
        auto rows = db_.query(
            "SELECT id, organization_id, key_id, type, source, '', ordering_key, traceparent, via, status, seq,"
            " created_at, updated_at FROM events INDEXED BY events_age WHERE organization_id = ? AND"
            " (created_at, seq) < (?, ?) AND created_at >= ? ORDER BY created_at DESC, seq DESC",
            org, start->created_at, start->seq, query.since.value_or(0));
        while (rows.step()) {
            if (is_on_event_page(query, rows.view(3), rows.view(4))) page.events.push_back(read_event(rows));
            if (++seen == kEventsSeenMax || page.events.size() >= static_cast<std::size_t>(query.limit)) {
                page.next = event_place_text({rows.number(11), rows.number(10)});
                break;
            }
        }
        return page;
    });
}

}  // namespace headgate
