// Events as their organization reads them: one, lists, the inbox, the acknowledgement.
#include "sidecar/store/event_page.h"
#include "sidecar/store/sqlite_store.h"

namespace headgate {
namespace {

constexpr const char* kSelectEvent =
    "SELECT " HEADGATE_EVENT_COLUMNS " FROM events WHERE id = ? AND organization_id = ?";

}  // namespace

Result<std::vector<Event>> SqliteStore::inbox(std::string_view org, const InboxQuery& query) {
    return guarded([&] {
        constexpr const char* kNewest =
            "SELECT " HEADGATE_EVENT_COLUMNS
            " FROM events WHERE organization_id = ? AND status = 'pending' ORDER BY created_at DESC, seq DESC LIMIT ?";
        constexpr const char* kOldest =
            "SELECT " HEADGATE_EVENT_COLUMNS
            " FROM events WHERE organization_id = ? AND status = 'pending' ORDER BY seq LIMIT ?";
        std::vector<Event> events;
        auto rows = db_.query(query.ascending ? kOldest : kNewest, org, query.limit);
        while (rows.step()) events.push_back(read_event(rows));
        return events;
    });
}

Event SqliteStore::event_row(std::string_view org, std::string_view id) {
    auto row = db_.query(kSelectEvent, id, org);
    if (!row.step()) throw_not_found("event", id);
    return read_event(row);
}

Result<Event> SqliteStore::get_event(std::string_view org, std::string_view id) {
    return guarded([&] { return event_row(org, id); });
}

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

Result<Event> SqliteStore::ack_event(std::string_view org, std::string_view id, TimeMs now) {
    return write([&] {
        db_.execute(
            "UPDATE events SET status = 'delivered', updated_at = ? WHERE id = ? AND organization_id = ?"
            " AND status = 'pending'",
            now, id, org);
        return event_row(org, id);
    });
}

}  // namespace headgate
