// Events as their organization reads them: one, lists, the inbox, the acknowledgement.
#include "sidecar/store/event_page.h"
#include "sidecar/store/postgres_store.h"

namespace headgate {
namespace {

constexpr const char* kSelectEvent =
    "SELECT " HEADGATE_EVENT_COLUMNS " FROM events WHERE id = $1 AND organization_id = $2";

}  // namespace

Result<std::vector<Event>> PostgresStore::inbox(std::string_view org, const InboxQuery& query) {
    return guarded([&] {
        constexpr const char* kNewest = "SELECT " HEADGATE_EVENT_COLUMNS
                                        " FROM events WHERE organization_id = $1 AND status = 'pending' ORDER BY "
                                        "created_at DESC, seq DESC LIMIT $2";
        constexpr const char* kOldest =
            "SELECT " HEADGATE_EVENT_COLUMNS
            " FROM events WHERE organization_id = $1 AND status = 'pending' ORDER BY seq LIMIT $2";
        std::vector<Event> events;
        auto rows = db_.query(query.ascending ? kOldest : kNewest, org, query.limit);
        while (rows.step()) events.push_back(read_event(rows));
        return events;
    });
}

Event PostgresStore::event_row(std::string_view org, std::string_view id) {
    auto row = db_.query(kSelectEvent, id, org);
    if (!row.step()) throw_pg_not_found("event", id);
    return read_event(row);
}

Result<Event> PostgresStore::get_event(std::string_view org, std::string_view id) {
    return guarded([&] { return event_row(org, id); });
}

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

Result<Event> PostgresStore::ack_event(std::string_view org, std::string_view id, TimeMs now) {
    return write([&] {
        db_.execute(
            "UPDATE events SET status = 'delivered', updated_at = $1 WHERE id = $2 AND organization_id = $3"
            " AND status = 'pending'",
            now, id, org);
        return event_row(org, id);
    });
}

}  // namespace headgate
