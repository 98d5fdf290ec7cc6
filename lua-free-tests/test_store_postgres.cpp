// links: headgate_store headgate_common PkgConfig::PQ
// The store on PostgreSQL: the conformance suite against a real server, and what only this engine has: connections that
// end, instances that share leases, transactions that meet.
#include <atomic>
#include <thread>

#include "lua-free-tests/store_postgres_world.h"  // last
#include "sidecar/store/open_store.h"
#include "sidecar/store/postgres_connection.h"
#include "sidecar/store/store.h"

using namespace headgate;
using namespace headgate::conformance;

namespace {

constexpr const char* kEndOthers =
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database()"
    " AND pid <> pg_backend_pid()";
inline constexpr int kUnavailable = static_cast<int>(ErrorCode::kUnavailable);

// ---- opening --------------------------------------------------------------------------------

void test_open_says_what_is_wrong_without_the_password(void**) {
    StoreOptions options = options_of("migrated");
    options.url = "postgresql://headgate:very-secret@/migrated?host=/nowhere&port=abc";
    auto refused = open_store(options);
    assert_true(!refused && refused.error().message.find("very-secret") == std::string::npos);
    options.url = "postgresql://headgate:very secret[@/migrated";
    refused = open_store(options);
    assert_true(!refused && refused.error().message.find("secret") == std::string::npos);
    options = options_of("no_such_database");
    refused = open_store(options);
    assert_int_equal(code_of(refused), static_cast<int>(ErrorCode::kInvalidArgument));  // the server is there
    options.url = "postgresql://headgate@/migrated?host=/nowhere";
    refused = open_store(options);
    assert_int_equal(code_of(refused), kUnavailable);
    options = options_of("migrated");
    options.master_key = std::string(32, 'x');
    refused = open_store(options);
    assert_true(!refused && refused.error().message.find("the master key is not the one") != std::string::npos);
}

void test_migrate_twice_at_once_applies_each_once(void**) {
    (void)server->sql("postgres", "CREATE DATABASE fresh");
    int applied[2] = {-1, -1};
    {
        auto first = opened(options_of("fresh"));
        auto second = opened(options_of("fresh"));
        std::thread other([&] { applied[1] = second->migrate().value_or(-100); });
        applied[0] = first->migrate().value_or(-100);
        other.join();
    }
    std::string versions = server->sql("fresh", "SELECT count(*) FROM schema_migrations");
    assert_int_equal(applied[0] + applied[1], std::stoi(versions));
    assert_true(applied[0] == 0 || applied[1] == 0);
}

void test_migrate_makes_partitions_ahead(void** state) {
    World& world = world_of(state);
    // Five weeks and the strays; retention has made more in other tests.
    assert_true(std::stoi(sql(world, "SELECT count(*) FROM pg_inherits WHERE inhparent = 'events'::regclass")) >= 6);
    auto now =
        std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch());
    SampleEvent event{.id = uuid7(now.count()), .org = "org-a"};
    World::require(world.persist({event}).has_value());
    assert_string_equal(sql(world, "SELECT count(*) FROM events_stray").c_str(), "0");
    assert_string_equal(sql(world, "SELECT tableoid::regclass::text LIKE 'events_w%' FROM events").c_str(), "t");
}

// What is acknowledged is on disk, also where somebody has set the database to answer before that.
void test_commits_are_synchronous_whatever_the_default_is(void** state) {
    World& world = world_of(state);
    (void)sql(world,
              "ALTER DATABASE migrated SET synchronous_commit = off; CREATE TABLE told (setting TEXT);"
              " CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
              " INSERT INTO told VALUES (current_setting('synchronous_commit')); RETURN NULL; END $$;"
              " CREATE TRIGGER tell AFTER INSERT ON events_stray FOR EACH ROW EXECUTE FUNCTION tell()");
    const std::string by_default = sql(world, "SHOW synchronous_commit");
    world.store = world.factory->open();
    SampleEvent event{.id = "00000000-0000-7000-8000-000000000001", .org = "org-a"};
    const bool is_persisted = world.persist({event}).has_value();
    const std::string told = sql(world, "SELECT string_agg(setting, ',') FROM told");
    (void)sql(world,
              "ALTER DATABASE migrated RESET synchronous_commit; DROP TRIGGER tell ON events_stray;"
              " DROP FUNCTION tell; DROP TABLE told");
    assert_true(is_persisted);
    assert_string_equal(by_default.c_str(), "off");
    assert_string_equal(told.c_str(), "on");
}

// ---- another master key ---------------------------------------------------------------------

// A row that somebody is writing is passed over, and found by the next pass: nobody waits for anybody.
void test_reseal_passes_over_rows_that_are_written(void** state) {
    World& world = world_of(state);
    world.add_webhook("wh-1");
    world.add_webhook("wh-2");
    auto store = world.factory->open_with({kNewKey, kMasterKey});
    World::require(store->migrate().has_value());
    std::unique_ptr<PGconn, decltype(&PQfinish)> writer(PQconnectdb(options_of("migrated").url.c_str()), PQfinish);
    auto say = [&writer](const char* text) { PQclear(PQexec(writer.get(), text)); };
    say("BEGIN");
    say("UPDATE webhooks SET updated_at = updated_at WHERE id = 'wh-1'");
    bool is_done = true;
    (void)reseal_pass(*store, 1000, is_done);
    const std::int64_t left = values_under(*store, false);
    const bool is_asked_for = needs_another_key(refusal_of(world, {kNewKey}));
    say("COMMIT");
    assert_false(is_done);
    assert_int_equal(left, 2);  // the headers of that one
    assert_true(is_asked_for);
    assert_int_equal(reseal_pass(*store, 1000, is_done), 1);
    assert_true(is_done && refusal_of(world, {kNewKey}).empty());
}

// ---- connections that end -------------------------------------------------------------------

void test_connection_ended_between_calls_is_replaced(void** state) {
    World& world = world_of(state);
    (void)sql(world, kEndOthers);
    SampleEvent event{.org = "org-a"};
    auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    Result<PersistOutcome> outcome = world.persist({event});
    while (!outcome && std::chrono::steady_clock::now() < deadline) {
        assert_int_equal(code_of(outcome), kUnavailable);
        outcome = world.persist({event});
    }
    assert_int_equal(code_of(outcome), kOk);
    assert_int_equal(outcome->events_new, 1);
}

// A matcher that has the connection ended in the middle of the transaction.
class EndingMatcher : public ExactMatcher {
 public:
    explicit EndingMatcher(World& world) : world_(world) {}
    void match(const EventRecord& event, std::vector<Match>& out) override {
        ExactMatcher::match(event, out);
        if (std::exchange(armed, false)) (void)sql(world_, kEndOthers);
    }
    bool armed = true;

 private:
    World& world_;
};

void test_connection_ended_in_mid_transaction_leaves_nothing(void** state) {
    World& world = world_of(state);
    world.add_webhook("wh-1");
    EndingMatcher matcher(world);
    SampleEvent event{.org = "org-a"};
    EventRecord record = event.record();
    StreamPosition position{0, 1, 1};
    auto persist = [&] {
        return world.store->persist({.shard_epochs = world.owned->shard_epochs,
                                     .lane_epochs = world.owned->lane_epochs,
                                     .events = {&record, 1},
                                     .positions = {&position, 1},
                                     .quarantine = {},
                                     .now = kNow,
                                     .claim = [](std::string_view) { return true; }},
                                    matcher);
    };
    assert_int_equal(code_of(persist()), kUnavailable);
    assert_string_equal(sql(world, "SELECT count(*) FROM events").c_str(), "0");
    auto again = persist();
    assert_int_equal(code_of(again), kOk);
    assert_true(again->events_new == 1 && again->deliveries.size() == 1 && again->deliveries[0].claimed);
    assert_int_equal(world.store->get_event("org-a", event.id)->seq, 1);
}

void test_server_restarted_keeps_everything(void** state) {
    World& world = world_of(state);
    world.add_webhook("wh-1");
    auto before = world.persist({{.org = "org-a"}}, true);
    World::require(before.has_value());
    server->stop(SIGQUIT);
    assert_int_equal(code_of(world.persist({{.org = "org-a"}})), kUnavailable);
    assert_int_equal(code_of(world.store->ping()), kUnavailable);
    server->start();
    auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (!world.store->ping() && std::chrono::steady_clock::now() < deadline) std::this_thread::yield();
    assert_int_equal(record(world, world.attempt(before->deliveries[0], AttemptOutcome::kSuccess)), kOk);
    auto after = world.persist({{.org = "org-a"}});
    assert_true(after.has_value() && after->events_new == 1);
    assert_int_equal(world.store->totals()->events, 2);
}

// ---- leases of several instances ------------------------------------------------------------

LeaseView renew(Store& store, std::string_view owner, std::vector<int> released_shards = {},
                std::vector<int> released_lanes = {}, bool is_leaving = false) {
    auto view = store.renew_leases({.owner = owner,
                                    .shards = 4,
                                    .lanes = kLanes,
                                    .released_shards = released_shards,
                                    .released_lanes = released_lanes,
                                    .is_leaving = is_leaving,
                                    .now = 0});
    if (!view) throw std::runtime_error(view.error().message);
    return *view;
}

std::vector<int> last_parts(const std::vector<Lease>& leases, int count) {
    std::vector<int> parts;
    for (auto lease = leases.rbegin(); lease != leases.rend() && count-- > 0; ++lease) parts.push_back(lease->part);
    return parts;
}

// Rounds until nobody has more than its share.
void balance(World& world, Store& other, LeaseView& first, LeaseView& second) {
    first = renew(*world.store, "owner");
    second = renew(other, "second");
    first = renew(*world.store, "owner");
    first = renew(*world.store, "owner", last_parts(first.shards, first.shards_excess),
                  last_parts(first.lanes, first.lanes_excess));
    second = renew(other, "second");
}

void test_leases_two_instances_share_fairly(void** state) {
    World& world = world_of(state);
    auto other = world.factory->open();
    LeaseView first = renew(*world.store, "owner");
    assert_true(first.instances == 1 && first.shards.size() == 4 && first.lanes.size() == kLanes);
    LeaseView second = renew(*other, "second");
    assert_true(second.instances == 2 && second.shards.empty() && second.lanes.empty());  // never from the living
    assert_true(second.is_short && !first.is_short && !first.next_end_ms.has_value());
    assert_in_range(second.next_end_ms.value(), 1, kLeaseMs);
    first = renew(*world.store, "owner");
    assert_false(first.next_end_ms.has_value());
    assert_true(first.shards.size() == 4 && first.shards_excess == 2 && first.lanes_excess == kLanes / 2);
    balance(world, *other, first, second);
    assert_true(first.shards.size() == 2 && second.shards.size() == 2 && first.shards_excess == 0);
    assert_true(first.lanes.size() == kLanes / 2 && second.lanes.size() == kLanes / 2);
    assert_true(!first.is_short && !second.is_short && second.next_end_ms.has_value());
    // A third: 64 of 256 lanes more or less by at most one.
    auto last = world.factory->open();
    LeaseView third = renew(*last, "third");
    first = renew(*world.store, "owner");
    second = renew(*other, "second");
    first = renew(*world.store, "owner", last_parts(first.shards, first.shards_excess),
                  last_parts(first.lanes, first.lanes_excess));
    second = renew(*other, "second", last_parts(second.shards, second.shards_excess),
                   last_parts(second.lanes, second.lanes_excess));
    third = renew(*last, "third");
    for (const LeaseView* view : {&first, &second, &third}) {
        assert_in_range(view->lanes.size(), kLanes / 3, kLanes / 3 + 1);
        assert_in_range(view->shards.size(), 1, 2);
    }
    assert_int_equal(first.shards.size() + second.shards.size() + third.shards.size(), 4);
}

void test_leases_of_the_dead_are_taken_over_and_the_late_write_nothing(void** state) {
    World& world = world_of(state);
    world.add_webhook("wh-1");
    OwnedPartsPtr late = world.owned;
    auto held = world.persist({{.org = "org-a"}}, true);
    World::require(held.has_value() && held->deliveries.size() == 1);
    World::require(world.persist({{.org = "org-a"}}).has_value());
    auto other = world.factory->open();
    assert_true(renew(*other, "second").shards.empty());
    (void)sql(
        world,
        "UPDATE instances SET until = 0 WHERE owner = 'owner'; UPDATE leases SET until = 0 WHERE owner = 'owner'");
    LeaseView taken = renew(*other, "second");
    assert_true(taken.shards.size() == 4 && taken.lanes.size() == kLanes && taken.instances == 1);
    for (const Lease& lease : taken.lanes) {
        assert_true(lease.epoch == late->lane_epochs[static_cast<std::size_t>(lease.part)] + 1);
    }
    // Persist, record, claim, recover: nothing of the late one is written.
    SampleEvent event{.org = "org-a"};
    assert_int_equal(code_of(world.persist({event}, false, late)), kLeaseLost);
    assert_int_equal(code_of(world.store->get_event("org-a", event.id)), kNotFound);
    AttemptRecord attempt = world.attempt(held->deliveries[0], AttemptOutcome::kSuccess);
    auto recorded = world.store->record_attempts({&attempt, 1}, late->lane_epochs);
    assert_true(recorded.has_value() && recorded->late == 1);
    assert_string_equal(sql(world, "SELECT count(*) FROM attempts").c_str(), "0");
    assert_true(world.claim(kNow, 10, 10).empty());
    assert_int_equal(code_of(world.store->recover_in_flight(every_lane(), late->lane_epochs, kNow)), kLeaseLost);
    // The new owner gets all of it.
    OwnedPartsPtr owned = owned_parts(taken, 4, kLanes);
    assert_int_equal(*other->recover_in_flight(every_lane(), owned->lane_epochs, kNow), 1);
    auto claimed = other->claim_due({kNow, 10, owned->lane_epochs, [](std::string_view) { return 10; }});
    assert_true(claimed.has_value() && claimed->size() == 2);
    // Whoever comes back is one instance among others, without a lease.
    assert_true(renew(*world.store, "owner").shards.empty());
}

void test_leases_leaving_frees_at_once(void** state) {
    World& world = world_of(state);
    auto other = world.factory->open();
    assert_true(renew(*other, "second").lanes.empty());
    assert_true(renew(*world.store, "owner", {}, {}, true).lanes.empty());
    LeaseView second = renew(*other, "second");
    assert_true(second.instances == 1 && second.shards.size() == 4 && second.lanes.size() == kLanes);
}

// A writer that has compared its epoch holds the take-over off until it has committed.
void test_take_over_waits_for_a_transaction_that_has_compared(void** state) {
    World& world = world_of(state);
    auto other = world.factory->open();
    (void)renew(*other, "second");
    std::size_t taken_meanwhile = 1;
    class TakingMatcher : public ExactMatcher {
     public:
        std::function<void()> act;
        void match(const EventRecord& event, std::vector<Match>& out) override {
            ExactMatcher::match(event, out);
            act();
        }
    } matcher;
    matcher.act = [&] {
        (void)sql(world, "UPDATE leases SET until = 0; UPDATE instances SET until = 0 WHERE owner = 'owner'");
        LeaseView view = renew(*other, "second");
        taken_meanwhile = 0;
        for (const Lease& lease : view.shards) taken_meanwhile += lease.part == 0 ? 1 : 0;
    };
    SampleEvent event{.org = "org-a"};
    EventRecord record = event.record();
    StreamPosition position{0, 1, 1};
    auto outcome = world.store->persist({.shard_epochs = world.owned->shard_epochs,
                                         .lane_epochs = world.owned->lane_epochs,
                                         .events = {&record, 1},
                                         .positions = {&position, 1},
                                         .quarantine = {},
                                         .now = kNow,
                                         .claim = {}},
                                        matcher);
    assert_int_equal(code_of(outcome), kOk);
    assert_int_equal(taken_meanwhile, 0);
    assert_int_equal(renew(*other, "second").shards.size(), 4);
}

// ---- transactions that meet -----------------------------------------------------------------

void test_persist_same_events_at_once_persists_once(void** state) {
    World& world = world_of(state);
    world.add_webhook("wh-1");
    auto other = world.factory->open();
    std::vector<SampleEvent> events;
    for (int i = 0; i < 200; i++) events.push_back({.org = "org-a"});
    std::atomic<std::size_t> made{0};
    std::atomic<std::size_t> failures{0};
    auto persist_all = [&](Store& store) {
        ExactMatcher matcher;
        for (std::size_t first = 0; first < events.size(); first += 20) {
            std::vector<EventRecord> records;
            for (std::size_t i = first; i < first + 20; i++) records.push_back(events[i].record());
            auto outcome = store.persist({.shard = 0,
                                          .shard_epochs = world.owned->shard_epochs,
                                          .lane_epochs = world.owned->lane_epochs,
                                          .events = records,
                                          .positions = {},
                                          .quarantine = {},
                                          .now = kNow,
                                          .claim = {}},
                                         matcher);
            outcome ? made += outcome->events_new : failures += 1;
        }
    };
    std::thread thread([&] { persist_all(*other); });
    persist_all(*world.store);
    thread.join();
    assert_int_equal(failures, 0);
    assert_int_equal(made, 200);
    assert_string_equal(
        sql(world, "SELECT count(*) || ' ' || count(DISTINCT seq) || ' ' || max(seq) FROM events").c_str(),
        "200 200 200");
    assert_string_equal(sql(world, "SELECT count(*) FROM deliveries").c_str(), "200");
}

// Persists and results of the same few ordering keys, with API calls in between: no deadlock, and at the end every key
// has one head or none, and nothing waits behind nothing.
void test_persist_and_record_on_the_same_keys_never_deadlock(void** state) {
    World& world = world_of(state);
    for (const char* id : {"wh-1", "wh-2"}) {
        Webhook webhook = world.sample_webhook(id);
        webhook.ordering = "key";
        World::require(world.store->create_webhook(webhook).has_value());
    }
    auto delivering = world.factory->open();
    auto api = world.factory->open();
    std::atomic<bool> persisting{true};
    std::atomic<int> failures{0};
    std::string failure;
    auto fail_with = [&](const Error& error) {
        if (failures++ == 0) failure = error.message;
    };
    std::size_t recorded = 0;
    std::thread deliverer([&] {
        for (int empty_rounds = 0; empty_rounds < 2;) {
            auto claimed =
                delivering->claim_due({kNow, 50, world.owned->lane_epochs, [](std::string_view) { return 50; }});
            if (!claimed) return fail_with(claimed.error());
            if (claimed->empty()) {
                if (!persisting) empty_rounds++;
                continue;
            }
            std::vector<AttemptRecord> attempts;
            for (const ClaimedDelivery& delivery : *claimed) {
                attempts.push_back(
                    world.attempt({delivery.delivery_id, delivery.webhook_id}, AttemptOutcome::kSuccess));
                attempts.back().finished_at = kNow;
            }
            auto result = delivering->record_attempts(attempts, world.owned->lane_epochs);
            if (!result) return fail_with(result.error());
            recorded += attempts.size();
        }
    });
    std::thread caller([&] {
        for (int i = 0; persisting; i++) {
            auto webhook = api->get_webhook("org-a", "wh-1");
            if (!webhook) return fail_with(webhook.error());
            webhook->description = std::to_string(i);
            auto updated = api->update_webhook(*webhook, std::nullopt);
            if (!updated) return fail_with(updated.error());
        }
    });
    for (int batch = 0; batch < 60; batch++) {
        std::vector<SampleEvent> events;
        for (int i = 0; i < 8; i++) events.push_back({.org = "org-a", .ordering_key = "key-" + std::to_string(i % 4)});
        auto outcome = world.persist(events, false);
        if (!outcome) fail_with(outcome.error());
    }
    persisting = false;
    deliverer.join();
    caller.join();
    if (failures > 0) print_error("%s\n", failure.c_str());
    assert_int_equal(failures, 0);
    assert_int_equal(recorded, 60 * 8 * 2);
    assert_string_equal(
        sql(world, "SELECT count(*) FROM deliveries WHERE state <> 'success' OR holds_order = 1").c_str(), "0");
}

// ---- text -----------------------------------------------------------------------------------

void test_text_that_cannot_be_kept_spares_the_others(void** state) {
    World& world = world_of(state);
    world.add_webhook("wh-1");
    std::vector<SampleEvent> events = {{.org = "org-a"},
                                       {.org = "org-a", .payload = std::string("{\"a\": \"\0\"}", 10)},
                                       {.org = "org-a", .payload = "{\"a\": \"\xff\"}"},
                                       {.id = std::string("id\0x", 4), .org = "org-a"},
                                       {.org = std::string("org\0", 4)},
                                       {.org = "org-a", .payload = "{\"a\": \"\\u0000\"}"}};
    auto outcome = world.persist(events, true);
    assert_int_equal(code_of(outcome), kOk);
    assert_true(outcome->events_new == 2 && outcome->events_quarantined == 4 && outcome->deliveries.size() == 2);
    assert_true(world.store->get_event("org-a", events[5].id)->payload == events[5].payload);
    AttemptRecord attempt = world.attempt(outcome->deliveries[0], AttemptOutcome::kRetry);
    attempt.response_body = std::string("a\0b\xff\xc3\xa9\xc3", 7);
    attempt.error_message = "\xed\xa0\x80";
    assert_int_equal(record(world, attempt), kOk);
    auto attempts = world.store->attempts_of_delivery("org-a", outcome->deliveries[0].delivery_id);
    assert_true(attempts->size() == 1 && (*attempts)[0].response_body ==
                                             "a\xef\xbf\xbd"
                                             "b\xef\xbf\xbd\xc3\xa9\xef\xbf\xbd");
}

void test_sqlstates_only_data_is_never_tried_again(void**) {
    for (const char* state :
         {"08006", "57P01", "57014", "40001", "40P01", "53300", "55P03", "25006", "25P03", "42P01", "XX000"}) {
        assert_true(error_traits(error_code_of_sqlstate(state)).retryable);
    }
    assert_int_equal(static_cast<int>(error_code_of_sqlstate("23505")), kConflict);
    assert_int_equal(static_cast<int>(error_code_of_sqlstate("22021")), kUnprocessable);
}

void test_addresses_of_a_url(void**) {
    using Addresses = std::vector<std::pair<std::string, std::uint16_t>>;
    assert_true((store_addresses("postgresql://u:p@db.internal/headgate") == Addresses{{"db.internal", 5432}}));
    assert_true((store_addresses("postgres://a:1111,[::1]:2222/x") == Addresses{{"a", 1111}, {"::1", 2222}}));
    assert_true((store_addresses("postgresql://h/x?hostaddr=10.0.0.7&port=6000") ==
                 Addresses{{"h", 6000}, {"10.0.0.7", 6000}}));
    assert_true(store_addresses("postgresql:///x?host=/var/run/postgresql").empty());
    assert_true(store_addresses("sqlite:/x.db").empty() && store_addresses("postgresql://%zz/x").empty());
}

void test_read_only_store_refuses_to_write(void** state) {
    World& world = world_of(state);
    StoreOptions options = options_of(static_cast<PostgresFactory&>(*world.factory).database());
    options.read_only = true;
    auto reader = opened(options);
    assert_true(reader->list_orgs().has_value());
    Organization org;
    org.id = org.name = "o";
    assert_int_equal(code_of(reader->create_org(org)), kUnavailable);
}

}  // namespace

int main() {
    PostgresFixture own_server;
    if (!use_server(own_server)) return 1;
    std::vector<CMUnitTest> tests = store_conformance_tests();
    const CMUnitTest own[] = {
        cmocka_unit_test(test_open_says_what_is_wrong_without_the_password),
        cmocka_unit_test(test_migrate_twice_at_once_applies_each_once),
        WORLD_TEST(test_migrate_makes_partitions_ahead),
        WORLD_TEST(test_commits_are_synchronous_whatever_the_default_is),
        WORLD_TEST(test_reseal_passes_over_rows_that_are_written),
        WORLD_TEST(test_connection_ended_between_calls_is_replaced),
        WORLD_TEST(test_connection_ended_in_mid_transaction_leaves_nothing),
        WORLD_TEST(test_server_restarted_keeps_everything),
        WORLD_TEST(test_leases_two_instances_share_fairly),
        WORLD_TEST(test_leases_of_the_dead_are_taken_over_and_the_late_write_nothing),
        WORLD_TEST(test_leases_leaving_frees_at_once),
        WORLD_TEST(test_take_over_waits_for_a_transaction_that_has_compared),
        WORLD_TEST(test_persist_same_events_at_once_persists_once),
        WORLD_TEST(test_persist_and_record_on_the_same_keys_never_deadlock),
        WORLD_TEST(test_text_that_cannot_be_kept_spares_the_others),
        cmocka_unit_test(test_sqlstates_only_data_is_never_tried_again),
        cmocka_unit_test(test_addresses_of_a_url),
        WORLD_TEST(test_read_only_store_refuses_to_write),
    };
    tests.insert(tests.end(), std::begin(own), std::end(own));
    return _cmocka_run_group_tests("store_postgres", tests.data(), tests.size(), nullptr, nullptr);
}
