// Events as their organization reads them: one, the inbox, the acknowledgement.
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
