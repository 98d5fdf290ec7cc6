// links: headgate_store headgate_common PkgConfig::PQ
// What only PostgreSQL's store can meet: a claim whose commit nobody heard of, partitions that retention drops, a
// server whose clock is set.
#include "lua-free-tests/store_postgres_world.h"  // last
#include "sidecar/store/postgres_partitions.h"

using namespace headgate;
using namespace headgate::conformance;

namespace {

inline constexpr int kUnavailable = static_cast<int>(ErrorCode::kUnavailable);

// ---- doubtful claims ------------------------------------------------------------------------

// Any commit of a change of deliveries ends its connection.
constexpr const char* kCutAtCommit =
    "CREATE OR REPLACE FUNCTION cut() RETURNS trigger LANGUAGE plpgsql AS"
    " $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END $$;"
    " CREATE CONSTRAINT TRIGGER cut AFTER UPDATE ON deliveries DEFERRABLE INITIALLY DEFERRED"
    " FOR EACH ROW EXECUTE FUNCTION cut()";
constexpr const char* kNoCut = "DROP TRIGGER IF EXISTS cut ON deliveries";

// Two deliveries, and a claim of both that failed at its commit; then as if that had gone through all the same.
void claim_in_doubt(World& world) {
    world.add_webhook("wh-1");
    World::require(world.persist({{.org = "org-a"}, {.org = "org-a"}}).has_value());
    (void)sql(world, kCutAtCommit);
    auto claimed = world.store->claim_due({kNow, 10, world.owned->lane_epochs, [](std::string_view) { return 10; }});
    (void)sql(world, kNoCut);
    World::require(code_of(claimed) == kUnavailable);
    World::require(sql(world, "SELECT count(*) FROM deliveries WHERE state = 'queued'") == "2");
    (void)sql(world, "UPDATE deliveries SET state = 'in_flight'");
}

// The first connection after the end of one is refused for a moment.
template <typename Call>
auto once_connected(Call call) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    auto result = call();
    while (code_of(result) == kUnavailable && std::chrono::steady_clock::now() < deadline) result = call();
    return result;
}

void test_claim_in_doubt_is_taken_back(void** state) {
    World& world = world_of(state);
    claim_in_doubt(world);
    auto claimed = once_connected([&] {
        return world.store->claim_due({kNow, 10, world.owned->lane_epochs, [](std::string_view) { return 10; }});
    });
    assert_true(claimed.has_value() && claimed->size() == 2);  // nobody holds them: they are given out again
    assert_true(world.claim(kNow, 10, 10).empty());            // once
}

void test_claim_in_doubt_of_a_lost_lane_is_left_alone(void** state) {
    World& world = world_of(state);
    claim_in_doubt(world);
    // Another owner has claimed them, or recovers them by itself.
    once_connected([&] { return world.store->ping(); });
    (void)world.hand_over();
    auto claimed = once_connected([&] {
        return world.store->claim_due({kNow, 10, world.owned->lane_epochs, [](std::string_view) { return 10; }});
    });
    assert_true(claimed.has_value() && claimed->empty());
    assert_true(sql(world, "SELECT count(*) FROM deliveries WHERE state = 'in_flight'") == "2");
    auto recovered = world.store->recover_in_flight(every_lane(), world.owned->lane_epochs, kNow);
    assert_true(recovered.has_value() && *recovered == 2);
}

// ---- partitions -----------------------------------------------------------------------------

std::string partitions_of(World& world, const std::string& table, TimeMs at) {
    const TimeMs from = at / kPartitionMs * kPartitionMs;
    return sql(world, "SELECT coalesce(to_regclass('" + partition_name(table, from) + "')::text, 'none')");
}

// Weeks of their own, before the suite's.
void make_week(World& world, const std::string& table, TimeMs at) {
    const TimeMs from = at / kPartitionMs * kPartitionMs;
    (void)sql(world, "CREATE TABLE IF NOT EXISTS " + partition_name(table, from) + " PARTITION OF " + table +
                         " FOR VALUES FROM ('" + partition_bound(from) + "') TO ('" +
                         partition_bound(from + kPartitionMs) + "')");
}

void purge_until_idle(World& world, TimeMs events_before, TimeMs attempts_before) {
    for (int call = 0; call < 200; call++) {
        auto purged = world.store->purge({events_before, attempts_before, kNow, 100});
        World::require(purged.has_value());
        if (*purged == 0) return;
    }
    World::require(false);
}

void test_old_partitions_are_dropped_and_what_is_unfinished_stays(void** state) {
    World& world = world_of(state);
    world.add_webhook("wh-1");
    constexpr TimeMs kOld = kNow - 20 * kPartitionMs;
    constexpr TimeMs kOlder = kNow - 30 * kPartitionMs;
    for (TimeMs at : {kOld, kOlder}) {
        for (const char* table : {"events", "attempts"}) make_week(world, table, at);
    }
    SampleEvent finished{.id = uuid7(kOlder), .org = "org-a", .at = kOlder};
    SampleEvent waiting{.id = uuid7(kOld), .org = "org-a", .at = kOld};
    SampleEvent unmatched{.id = uuid7(kOlder), .org = "org-a", .type = "nobody.wants", .at = kOlder};
    auto outcome = world.persist({finished, waiting, unmatched}, true);
    World::require(outcome.has_value() && outcome->deliveries.size() == 2);
    auto fail_at = [&](std::size_t index, AttemptOutcome result, TimeMs at) {
        AttemptRecord attempt = world.attempt(outcome->deliveries[index], result);
        attempt.started_at = attempt.finished_at = at;
        World::require(record(world, attempt) == kOk);
    };
    fail_at(0, AttemptOutcome::kSuccess, kOlder);
    fail_at(1, AttemptOutcome::kRetry, kOld);
    World::require(
        sql(world, "SELECT count(*) FROM " + partition_name("events", kOlder / kPartitionMs * kPartitionMs)) == "2");
    purge_until_idle(world, kNow - 10 * kPartitionMs, kNow - 10 * kPartitionMs);
    assert_string_equal(partitions_of(world, "events", kOlder).c_str(), "none");
    assert_string_equal(partitions_of(world, "attempts", kOlder).c_str(), "none");
    assert_string_equal(partitions_of(world, "attempts", kOld).c_str(), "none");
    assert_true(partitions_of(world, "events", kOld) != "none");  // somebody is still to get what is in it
    assert_int_equal(code_of(world.store->get_event("org-a", waiting.id)), kOk);
    assert_true(world.state_of(waiting.id) == "retrying/failed");
    auto claimed = world.claim(kNow + 60'000, 10, 10);
    assert_true(claimed.size() == 1 && claimed[0].event->id == waiting.id);
    World::require(record(world, world.attempt(outcome->deliveries[1], AttemptOutcome::kSuccess, 2)) == kOk);
    purge_until_idle(world, kNow - 10 * kPartitionMs, kNow - 10 * kPartitionMs);
    assert_string_equal(partitions_of(world, "events", kOld).c_str(), "none");
    // A backlog as old as that still finds its place, though its week has gone.
    SampleEvent late{.id = uuid7(kOlder), .org = "org-a", .at = kOlder};
    assert_int_equal(world.persist({late})->events_new, 1);
    assert_string_equal(sql(world, "SELECT count(*) FROM events_stray WHERE id = '" + late.id + "'").c_str(), "1");
}

// Somebody reads the table all the while: the drop gives up after its short wait, and rows go meanwhile.
void test_partition_in_use_does_not_hold_up_retention(void** state) {
    World& world = world_of(state);
    constexpr TimeMs kOld = kNow - 40 * kPartitionMs;
    make_week(world, "attempts", kOld);
    const std::string name = partition_name("attempts", kOld / kPartitionMs * kPartitionMs);
    world.add_webhook("wh-1");
    SampleEvent event{.org = "org-a", .at = kNow - 100};
    auto outcome = world.persist({event}, true);
    World::require(record(world, world.attempt(outcome->deliveries[0], AttemptOutcome::kSuccess)) == kOk);
    PGconn* reader = PQconnectdb(server->url(static_cast<PostgresFactory&>(*world.factory).database()).c_str());
    World::require(PQstatus(reader) == CONNECTION_OK);
    PQclear(PQexec(reader, "BEGIN"));
    PQclear(PQexec(reader, ("SELECT count(*) FROM " + name).c_str()));
    purge_until_idle(world, kNow, kNow - 10 * kPartitionMs);
    assert_int_equal(code_of(world.store->get_event("org-a", event.id)), kNotFound);
    assert_true(partitions_of(world, "attempts", kOld) != "none");
    PQfinish(reader);
    purge_until_idle(world, kNow, kNow - 10 * kPartitionMs);
    assert_string_equal(partitions_of(world, "attempts", kOld).c_str(), "none");
}

// ---- the server's clock ---------------------------------------------------------------------

// An hour ahead when the owner died, then set back: its parts are free one lease later, not an hour later.
void test_leases_after_the_servers_clock_was_set_back(void** state) {
    World& world = world_of(state);
    (void)sql(world, "UPDATE leases SET until = until + 3600000; UPDATE instances SET until = until + 3600000");
    auto other = world.factory->open();
    OwnedPartsPtr taken = take_parts(*other, "successor");
    auto held = [](const OwnedParts& owned) {
        return std::count_if(owned.lane_epochs.begin(), owned.lane_epochs.end(), [](auto epoch) { return epoch != 0; });
    };
    assert_int_equal(held(*taken), 0);  // the owner may still live
    const char* kAhead =
        "SELECT count(*) FROM (SELECT until FROM leases UNION ALL SELECT until FROM instances) t"
        " WHERE until > extract(epoch FROM clock_timestamp()) * 1000 + 10000";
    assert_string_equal(sql(world, kAhead).c_str(), "0");
    world.factory->expire_leases();  // that lease has passed
    taken = take_parts(*other, "successor");
    assert_int_equal(held(*taken), kLanes);
    // The owner lived after all, and is late.
    assert_int_equal(code_of(world.persist({{.org = "org-a"}})), kLeaseLost);
}

}  // namespace

int main() {
    PostgresFixture own_server;
    if (!use_server(own_server)) return 1;
    const CMUnitTest tests[] = {
        WORLD_TEST(test_claim_in_doubt_is_taken_back),
        WORLD_TEST(test_claim_in_doubt_of_a_lost_lane_is_left_alone),
        WORLD_TEST(test_old_partitions_are_dropped_and_what_is_unfinished_stays),
        WORLD_TEST(test_partition_in_use_does_not_hold_up_retention),
        WORLD_TEST(test_leases_after_the_servers_clock_was_set_back),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
