// What an operator does with deliveries: single ones by hand, replays, what was not delivered and why, retention.
#include "sidecar/store/sqlite_store.h"

namespace headgate {

namespace {
tl::unexpected<Error> missing(const char* what) {
    return fail(ErrorCode::kInternal, std::string(what) + " is not written yet");
}
}  // namespace

Result<std::size_t> SqliteStore::spread_overdue(std::span<const int>, Epochs, TimeMs, TimeMs, TimeMs) {
    return std::size_t{0};
}
Result<Delivery> SqliteStore::get_delivery(std::string_view, std::string_view) { return missing("get_delivery"); }
Result<std::vector<Delivery>> SqliteStore::list_deliveries(std::string_view, const DeliveryQuery&) {
    return missing("list_deliveries");
}
Result<Delivery> SqliteStore::retry_delivery(std::string_view, std::string_view, TimeMs) {
    return missing("retry_delivery");
}
Result<Delivery> SqliteStore::cancel_delivery(std::string_view, std::string_view, TimeMs) {
    return missing("cancel_delivery");
}
Result<std::vector<LedgerEntry>> SqliteStore::ledger_of_event(std::string_view, std::string_view) {
    return missing("ledger_of_event");
}
Result<std::int64_t> SqliteStore::count_replay(const Replay&, const Wants&) { return missing("count_replay"); }
Result<Replay> SqliteStore::create_replay(const Replay&, const Wants&) { return missing("create_replay"); }
Result<Replay> SqliteStore::get_replay(std::string_view, std::string_view) { return missing("get_replay"); }
Result<std::vector<Replay>> SqliteStore::list_replays(std::string_view, std::string_view) {
    return missing("list_replays");
}
Result<Replay> SqliteStore::set_replay_state(std::string_view, std::string_view, std::string_view, TimeMs) {
    return missing("set_replay_state");
}
Result<std::vector<Replay>> SqliteStore::running_replays() { return missing("running_replays"); }
Result<std::size_t> SqliteStore::advance_replay(std::string_view, const Wants&, std::size_t, TimeMs) {
    return missing("advance_replay");
}
Result<std::size_t> SqliteStore::relay_system_events(SubscriptionMatcher&, std::size_t, TimeMs) {
    return missing("relay_system_events");
}
Result<std::size_t> SqliteStore::purge(const PurgeRequest&) { return missing("purge"); }

}  // namespace headgate
