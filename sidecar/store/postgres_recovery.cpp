// What an operator does with deliveries: single ones by hand, replays, what was not delivered and why, retention.
#include "sidecar/store/postgres_store.h"

namespace headgate {

namespace {
tl::unexpected<Error> missing(const char* what) {
    return fail(ErrorCode::kInternal, std::string(what) + " is not written yet");
}
}  // namespace

Result<std::size_t> PostgresStore::spread_overdue(std::span<const int>, Epochs, TimeMs, TimeMs, TimeMs) {
    return std::size_t{0};
}
Result<Delivery> PostgresStore::retry_delivery(std::string_view, std::string_view, TimeMs) {
    return missing("retry_delivery");
}
Result<Delivery> PostgresStore::cancel_delivery(std::string_view, std::string_view, TimeMs) {
    return missing("cancel_delivery");
}
Result<std::int64_t> PostgresStore::count_replay(const Replay&, const Wants&) { return missing("count_replay"); }
Result<Replay> PostgresStore::create_replay(const Replay&, const Wants&) { return missing("create_replay"); }
Result<Replay> PostgresStore::get_replay(std::string_view, std::string_view) { return missing("get_replay"); }
Result<std::vector<Replay>> PostgresStore::list_replays(std::string_view, std::string_view) {
    return missing("list_replays");
}
Result<Replay> PostgresStore::set_replay_state(std::string_view, std::string_view, std::string_view, TimeMs) {
    return missing("set_replay_state");
}
Result<std::vector<Replay>> PostgresStore::running_replays() { return missing("running_replays"); }
Result<std::size_t> PostgresStore::advance_replay(std::string_view, const Wants&, std::size_t, TimeMs) {
    return missing("advance_replay");
}
Result<std::size_t> PostgresStore::relay_system_events(SubscriptionMatcher&, std::size_t, TimeMs) {
    return missing("relay_system_events");
}
Result<std::size_t> PostgresStore::purge(const PurgeRequest&) { return missing("purge"); }

}  // namespace headgate
