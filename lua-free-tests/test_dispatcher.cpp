// links: headgate_deliver headgate_match headgate_store
#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>
#include <sqlite3.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "common/event_id.h"
#include "common/webhook_signature.h"
#include "lua-free-tests/cmocka_cpp.h"  // last
#include "lua-free-tests/loopback_server.h"
#include "sidecar/deliver/dispatcher.h"
#include "sidecar/deliver/lanes.h"
#include "sidecar/deliver/memory_quota.h"
#include "sidecar/deliver/store_round.h"
#include "sidecar/io/wall_clock.h"
#include "sidecar/match/subscriptions.h"
#include "sidecar/store/lane.h"

using namespace headgate;
using Connection = LoopbackServer::Connection;
using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {

constexpr std::string_view kSecret = "a-secret-of-the-webhook";

// ---- a real store, a real dispatcher, a real loop -------------------------------------------

struct TempDir {
    std::filesystem::path path;
    TempDir() {
        std::string name = (std::filesystem::temp_directory_path() / "headgate-dispatcher-XXXXXX").string();
        if (mkdtemp(name.data()) == nullptr) {
            std::abort();
        }
        path = name;
    }
    ~TempDir() { std::filesystem::remove_all(path); }
};

// One "process": its store connection, its thread, its loop. Several may follow each other on one directory.
struct Process {
    boost::asio::io_context loop;
    std::unique_ptr<DbExecutor> db;
    Subscriptions subscriptions;
    std::unique_ptr<Dispatcher> dispatcher;
    headgate::OwnedPartsPtr owned;
    bool has_stopped = false;

    static std::unique_ptr<Store> open(const TempDir& dir) {
        StoreOptions options;
        options.url = "sqlite:" + (dir.path / "test.db").string();
        options.master_key = std::string(32, 'k');
        auto store = open_store(options);
        if (!store || !(*store)->migrate()) {
            std::abort();
        }
        return std::move(*store);
    }

    explicit Process(const TempDir& dir, int max_in_flight = 256) {
        auto store = open(dir);
        headgate::LeaseRound round;
        round.owner = "test";
        round.shards = 8;
        round.lanes = headgate::kLanes;
        round.now = wall_clock_ms();
        owned = headgate::owned_parts(store->renew_leases(round).value(), round.shards, round.lanes);
        db = std::make_unique<DbExecutor>(std::move(store));
        DispatcherOptions options;
        options.max_in_flight = max_in_flight;
        options.owned = owned;
        options.guard.allow_networks = {parse_network("127.0.0.0/8").value()};
        dispatcher = std::make_unique<Dispatcher>(loop.get_executor(), *db, options);
        boost::asio::co_spawn(loop, dispatcher->run(), boost::asio::detached);
    }
    // What a crash leaves: nothing is written any more.
    ~Process() {
        dispatcher.reset();
        db->join();
    }

    bool run_until(const std::function<bool()>& condition, milliseconds limit = seconds(30)) {
        const auto deadline = std::chrono::steady_clock::now() + limit;
        while (!condition()) {
            if (std::chrono::steady_clock::now() >= deadline) {
                return false;
            }
            loop.run_one_for(milliseconds(20));
        }
        return true;
    }

    bool stop(milliseconds grace) {
        boost::asio::co_spawn(loop, dispatcher->stop(grace), [this](const std::exception_ptr&) { has_stopped = true; });
        return run_until([this] { return has_stopped; });
    }

    // Persists events as ingest does, and hands on what was claimed.
    void publish(const std::vector<std::string>& types, std::size_t payload_bytes = 0) {
        std::vector<std::string> ids;
        std::vector<EventRecord> records;
        const std::string payload = R"({"n":")" + std::string(payload_bytes, 'x') + "\"}";
        for (std::size_t i = 0; i < types.size(); ++i) {
            ids.push_back(uuid7(wall_clock_ms()));
        }
        for (std::size_t i = 0; i < types.size(); ++i) {
            EventRecord record;
            record.id = ids[i];
            record.org = "org_1";
            record.key_id = "key_1";
            record.type = types[i];
            record.source = "test";
            record.payload = payload;
            record.via = "api";
            record.at_ms = wall_clock_ms();
            records.push_back(record);
        }
        bool done = false;
        boost::asio::co_spawn(loop, persist(records), [&](const std::exception_ptr& error) {
            if (error) {
                std::rethrow_exception(error);
            }
            done = true;
        });
        if (!run_until([&] { return done; })) {
            std::abort();
        }
    }

    struct Persist {
        std::span<const EventRecord> records;
        Process* process;
        Result<PersistOutcome> operator()(Store& store) const {
            PersistBatch batch;
            batch.shard_epochs = process->owned->shard_epochs;
            batch.lane_epochs = process->owned->lane_epochs;
            batch.events = records;
            batch.now = wall_clock_ms();
            batch.claim = [this](std::string_view webhook_id) { return process->dispatcher->reserve(webhook_id); };
            return store.persist(batch, process->subscriptions);
        }
    };

    boost::asio::awaitable<void> persist(const std::vector<EventRecord>& records) {
        Persist work{records, this};
        auto outcome = co_await db->run(std::move(work));
        if (!outcome) {
            throw std::runtime_error(outcome.error().message);
        }
        std::vector<std::shared_ptr<const Event>> events(records.size());
        std::vector<ClaimedDelivery> claimed;
        std::size_t unclaimed = 0;
        for (const PersistedDelivery& delivery : outcome->deliveries) {
            if (!delivery.claimed) {
                ++unclaimed;
                continue;
            }
            auto& event = events[delivery.event_index];
            if (event == nullptr) {
                const EventRecord& record = records[delivery.event_index];
                Event made;
                made.id = record.id;
                made.org = record.org;
                made.type = record.type;
                made.source = record.source;
                made.payload = record.payload;
                made.created_at = record.at_ms;
                event = std::make_shared<const Event>(std::move(made));
            }
            const auto lane = static_cast<std::size_t>(lane_of(delivery.webhook_id));
            claimed.push_back({delivery.delivery_id, delivery.webhook_id, event, delivery.generation, 0,
                               owned->lane_epochs[lane]});
        }
        dispatcher->accept(std::move(claimed), unclaimed);
    }

    Store::Totals totals() {
        struct Ask {
            Result<Store::Totals> operator()(Store& store) const { return store.totals(); }
        };
        Store::Totals totals;
        bool done = false;
        boost::asio::co_spawn(loop, db->run(Ask{}), [&](const std::exception_ptr&, Result<Store::Totals> result) {
            totals = result.value_or(Store::Totals{});
            done = true;
        });
        run_until([&] { return done; });
        return totals;
    }
    bool run_until_successes(std::int64_t wanted, milliseconds limit = seconds(60)) {
        return run_until([&] { return static_cast<std::int64_t>(dispatcher->counters().delivered) >= wanted; },
                         limit) &&
               run_until([&] { return totals().success >= wanted; }, limit);
    }
};

void create_org(Store& store) {
    Organization org;
    org.id = "org_1";
    org.name = "One";
    org.allow_networks = {"*"};
    org.created_at = org.updated_at = wall_clock_ms();
    if (!store.create_org(org)) {
        std::abort();
    }
}

Webhook webhook(std::string id, std::string url, std::vector<std::string> events = {"*"}) {
    Webhook made;
    made.id = std::move(id);
    made.org = "org_1";
    made.name = made.id;
    made.url = std::move(url);
    made.events = std::move(events);
    made.secrets = {{std::string(kSecret), wall_clock_ms(), std::nullopt}};
    made.created_at = made.updated_at = wall_clock_ms();
    return made;
}

// Makes the store before any process opens it.
void prepare(const TempDir& dir, const std::vector<Webhook>& webhooks) {
    auto store = Process::open(dir);
    create_org(*store);
    for (const Webhook& each : webhooks) {
        if (!store->create_webhook(each)) {
            std::abort();
        }
    }
}

// What a receiver got, by webhook-id.
struct Inbox {
    std::mutex mutex;
    std::map<std::string, int> ids;
    std::atomic<int> count{0};
    std::atomic<int> bad_signatures{0};

    void take(const LoopbackServer::Request& request) {
        std::string head = request.head;
        std::erase(head, '\r');
        const std::string id(find_header(head, "webhook-id"));
        const HmacSha256Key key(kSecret);
        const bool is_good =
            verify_standard(key, id, find_header(head, "webhook-timestamp"), find_header(head, "webhook-signature"),
                            request.body, wall_clock_ms() / 1000, 30) &&
            verify_sha256_hex(key, find_header(head, "x-webhook-signature"), request.body) &&
            request.body.find("\"id\":\"" + id + "\"") != std::string::npos;
        bad_signatures += is_good ? 0 : 1;
        const std::lock_guard lock(mutex);
        ++ids[id];
        ++count;
    }
    LoopbackServer::Handler answering(int status) {
        return [this, status](Connection& connection) {
            while (const auto request = connection.read_request()) {
                take(*request);
                if (!connection.respond(status)) {
                    return;
                }
            }
        };
    }
};

std::vector<std::string> types(std::size_t count) { return std::vector<std::string>(count, "order.created"); }

// ---- the whole road -------------------------------------------------------------------------

void test_dispatcher_delivers_signed_and_records(void**) {
    TempDir dir;
    Inbox inbox;
    LoopbackServer server(inbox.answering(200));
    prepare(dir, {webhook("a", server.url("/a")), webhook("b", server.url("/b"))});
    Process process(dir);
    process.publish(types(100));
    assert_true(process.run_until_successes(200));
    assert_int_equal(inbox.count, 200);
    assert_int_equal(inbox.ids.size(), 100);
    assert_int_equal(inbox.bad_signatures, 0);
    assert_int_equal(process.totals().pending, 0);
    assert_true(process.stop(seconds(1)));
    assert_int_equal(process.dispatcher->counters().in_memory, 0);
}

// Far more than fits in memory: the rest waits in the store and follows, each exactly once.
void test_dispatcher_backlog_beyond_memory_is_drained(void**) {
    TempDir dir;
    Inbox inbox;
    LoopbackServer server(inbox.answering(200));
    Webhook narrow = webhook("narrow", server.url());
    narrow.max_in_flight = 4;
    prepare(dir, {narrow});
    Process process(dir);
    process.publish(types(500));
    assert_true(process.dispatcher->counters().in_memory <= 32);
    assert_true(process.run_until_successes(500));
    assert_int_equal(inbox.count, 500);
    assert_int_equal(inbox.ids.size(), 500);
}

void test_dispatcher_retries_until_dead(void**) {
    TempDir dir;
    Inbox inbox;
    LoopbackServer server(inbox.answering(503));
    Webhook failing = webhook("failing", server.url());
    failing.retry.max_retries = 2;
    failing.retry.schedule_ms = {1, 1};
    prepare(dir, {failing});
    Process process(dir);
    process.publish(types(3));
    assert_true(process.run_until([&] { return process.dispatcher->counters().dead == 3; }));
    assert_true(process.run_until([&] { return process.totals().dead == 3; }));
    assert_int_equal(inbox.count, 9);
    assert_int_equal(process.dispatcher->counters().retried, 6);
    assert_int_equal(process.dispatcher->counters().delivered, 0);
}

void test_dispatcher_gone_disables_and_keeps_the_rest_unsent(void**) {
    TempDir dir;
    Inbox inbox;
    LoopbackServer server(inbox.answering(410));
    Webhook gone = webhook("gone", server.url());
    gone.max_in_flight = 1;
    prepare(dir, {gone});
    Process process(dir);
    process.publish(types(20));
    assert_true(process.run_until([&] { return process.totals().dead == 1; }));
    assert_true(process.stop(seconds(1)));
    assert_int_equal(inbox.count, 1);
    assert_false(Process::open(dir)->get_webhook("org_1", "gone")->is_active);
    assert_int_equal(Process::open(dir)->totals()->pending, 19);
}

void test_dispatcher_deleted_webhook_cancels(void**) {
    TempDir dir;
    Inbox inbox;
    LoopbackServer server([&](Connection& connection) {
        while (const auto request = connection.read_request()) {
            inbox.take(*request);
            connection.respond(500);
        }
    });
    Webhook retried = webhook("retried", server.url());
    retried.retry.schedule_ms = {2000};
    prepare(dir, {retried});
    Process process(dir);
    process.publish(types(1));
    assert_true(process.run_until([&] { return inbox.count == 1; }));
    assert_true(process.run_until([&] { return process.dispatcher->counters().in_memory == 0; }));
    assert_true(Process::open(dir)->delete_webhook("org_1", "retried", wall_clock_ms()).has_value());
    assert_true(process.run_until([&] { return process.totals().pending == 0; }));
    assert_int_equal(inbox.count, 1);
}

// The guard stands between a webhook and what its organization may not reach.
void test_dispatcher_blocked_address_is_an_attempt(void**) {
    TempDir dir;
    LoopbackServer server(LoopbackServer::answering(200));
    Webhook inside = webhook("inside", "http://10.0.0.1:8080/");
    inside.retry.max_retries = 0;
    prepare(dir, {inside});
    Process process(dir);
    process.publish(types(1));
    assert_true(process.run_until([&] { return process.totals().dead == 1; }));
    assert_int_equal(process.dispatcher->counters().blocked, 1);
}

// ---- fairness -------------------------------------------------------------------------------

// Endpoints that never answer take what they may of the process's requests; the others still get theirs.
void test_dispatcher_silent_endpoints_do_not_hold_back_others(void**) {
    TempDir dir;
    Inbox inbox;
    LoopbackServer silent([](Connection& connection) { connection.wait_until_gone(); });
    LoopbackServer server(inbox.answering(200));
    std::vector<Webhook> webhooks;
    for (int i = 0; i < 12; ++i) {
        webhooks.push_back(webhook("silent" + std::to_string(i), silent.url(), {"slow"}));
    }
    webhooks.push_back(webhook("good", server.url(), {"order.created"}));
    prepare(dir, webhooks);
    Process process(dir, 32);
    process.publish(std::vector<std::string>(40, "slow"));
    process.publish(types(100));
    assert_true(process.run_until_successes(100));
    assert_int_equal(inbox.count, 100);
    assert_true(process.dispatcher->counters().in_flight > 0);  // the silent ones still wait
}

// ---- ends and beginnings --------------------------------------------------------------------

void test_dispatcher_stop_interrupts_and_next_process_sends_at_once(void**) {
    TempDir dir;
    std::atomic<bool> is_silent{true};
    Inbox inbox;
    LoopbackServer server([&](Connection& connection) {
        while (const auto request = connection.read_request()) {
            if (is_silent) {
                connection.wait_until_gone();
                return;
            }
            inbox.take(*request);
            connection.respond(200);
        }
    });
    Webhook only = webhook("only", server.url());
    only.retry.max_retries = 0;  // an interrupted attempt uses up no retry
    prepare(dir, {only});
    {
        Process process(dir);
        process.publish(types(40));
        assert_true(process.run_until([&] { return process.dispatcher->counters().in_flight > 0; }));
        assert_true(process.stop(milliseconds(50)));
    }
    assert_int_equal(Process::open(dir)->totals()->dead, 0);
    is_silent = false;
    Process next(dir);
    assert_true(next.run_until_successes(40));
    assert_int_equal(inbox.ids.size(), 40);
}

// Before recovery, deliveries in flight are a dead process's. One of ours among them, sent while recovery was
// tried again, was marked as interrupted, and sent a second time.
void test_dispatcher_reserves_nothing_before_recovery(void**) {
    TempDir dir;
    Inbox inbox;
    LoopbackServer server(inbox.answering(200));
    prepare(dir, {webhook("only", server.url())});
    Process process(dir);
    assert_false(process.dispatcher->reserve("only"));
    assert_true(process.run_until([&] { return process.dispatcher->reserve("only"); }));
    process.dispatcher->release("only");
    process.publish(types(10));
    assert_true(process.run_until_successes(10));
}

// A secret that cannot be opened: its webhook was read again ten times a second, which held the others back.
void test_dispatcher_unreadable_webhook_holds_back_no_other(void**) {
    TempDir dir;
    Inbox inbox;
    LoopbackServer server(inbox.answering(200));
    prepare(dir, {webhook("good", server.url()), webhook("unreadable", server.url())});
    sqlite3* database = nullptr;
    assert_int_equal(sqlite3_open((dir.path / "test.db").c_str(), &database), SQLITE_OK);
    assert_int_equal(
        sqlite3_exec(database, "UPDATE webhook_secrets SET secret = 'x' WHERE webhook_id = 'unreadable'", 0, 0, 0),
        SQLITE_OK);
    assert_int_equal(sqlite3_changes(database), 1);
    sqlite3_close(database);
    std::ostringstream log;
    const auto log_before = spdlog::default_logger();
    spdlog::set_default_logger(
        std::make_shared<spdlog::logger>("test", std::make_shared<spdlog::sinks::ostream_sink_mt>(log)));
    const auto reads = [&log] {
        const std::string text = log.str();
        int count = 0;
        for (std::size_t at = 0; (at = text.find("target_failed webhook=unreadable", at)) != std::string::npos; ++at) {
            ++count;
        }
        return count;
    };
    Process process(dir);
    process.publish(types(100));
    assert_true(process.run_until_successes(100));
    assert_int_equal(inbox.count, 100);
    assert_int_equal(process.totals().pending, 100);
    assert_true(process.run_until([&] { return reads() > 0; }));
    assert_false(process.run_until([&] { return reads() > 2; }, milliseconds(500)));
    assert_true(process.stop(seconds(1)));  // nothing of it is lost
    spdlog::set_default_logger(log_before);
    assert_int_equal(Process::open(dir)->totals()->pending, 100);
}

// A process that dies with deliveries in flight and results unwritten: the next one delivers every event.
void test_dispatcher_crash_loses_nothing(void**) {
    TempDir dir;
    Inbox inbox;
    LoopbackServer server(inbox.answering(200));
    prepare(dir, {webhook("only", server.url())});
    for (int life = 0; life < 3; ++life) {
        Process process(dir);
        process.publish(types(50));
        process.run_until([&] { return inbox.count > life * 50 + 10; });
    }
    Process last(dir);
    assert_true(last.run_until([&] { return last.totals().success == 150; }));
    assert_int_equal(inbox.ids.size(), 150);
}

// ---- parts ----------------------------------------------------------------------------------

HeldDelivery held(const std::string& id) {
    HeldDelivery delivery;
    delivery.delivery_id = id;
    delivery.event = std::make_shared<EventBodies>(std::make_shared<const Event>());
    return delivery;
}

std::shared_ptr<const DeliveryTarget> target(int max_in_flight) {
    auto made = std::make_shared<DeliveryTarget>();
    made->webhook.max_in_flight = max_in_flight;
    return made;
}

void test_lanes_round_robin_and_shares(void**) {
    Lanes lanes(8);
    std::vector<Lane*> closed;
    std::vector<std::string> loading;
    const auto always = [](const DeliveryTarget&, const HeldDelivery&) { return true; };
    for (int i = 0; i < 20; ++i) {
        lanes.push("a", held("a" + std::to_string(i)));
    }
    lanes.push("b", held("b0"));
    assert_null(lanes.next(0, always, loading, closed).lane);
    assert_int_equal(loading.size(), 2);
    assert_null(lanes.next(0, always, loading, closed).lane);
    assert_int_equal(loading.size(), 2);  // asked once
    lanes.set_target(*lanes.find("a"), target(16));
    std::string order;
    while (Lane* lane = lanes.next(0, always, loading, closed).lane) {
        order += lane->webhook_id;
    }
    assert_string_equal(order.c_str(), "aaaa");  // a greedy one leaves as many free as it has
    lanes.set_target(*lanes.find("b"), target(16));
    order.clear();
    while (Lane* lane = lanes.next(0, always, loading, closed).lane) {
        order += lane->webhook_id;
    }
    assert_string_equal(order.c_str(), "b");
    lanes.finished(*lanes.find("a"));
    assert_int_equal(lanes.in_flight(), 4);
    assert_non_null(lanes.next(0, always, loading, closed).lane);
    assert_int_equal(lanes.drain(*lanes.find("a")).size(), 15);
    assert_null(lanes.next(0, always, loading, closed).lane);
}

void test_lanes_own_limit(void**) {
    Lanes lanes(100);
    std::vector<Lane*> closed;
    std::vector<std::string> loading;
    const auto always = [](const DeliveryTarget&, const HeldDelivery&) { return true; };
    for (int i = 0; i < 5; ++i) {
        lanes.push("a", held("x"));
    }
    assert_null(lanes.next(0, always, loading, closed).lane);
    lanes.set_target(*lanes.find("a"), target(3));
    Lane* const lane = lanes.find("a");
    for (int i = 0; i < 3; ++i) {
        assert_non_null(lanes.next(0, always, loading, closed).lane);
    }
    assert_null(lanes.next(0, always, loading, closed).lane);
    lanes.finished(*lane);
    assert_non_null(lanes.next(0, always, loading, closed).lane);
    int forgotten = 0;
    lanes.forget_idle(wall_clock_ms(), 0, [&](const std::string&) { ++forgotten; });
    assert_int_equal(forgotten, 0);
}

void test_memory_quota_limits_and_order(void**) {
    MemoryQuota quota(1000, 1'000'000);
    for (int i = 0; i < 32; ++i) {
        assert_true(quota.reserve("a"));
    }
    assert_false(quota.reserve("a"));
    assert_false(quota.wants_claim());
    quota.give_back("a");
    assert_false(quota.reserve("a"));  // older ones wait in the store: they come first
    assert_true(quota.reserve("b"));
    for (int i = 0; i < 16; ++i) {
        quota.give_back("a");
    }
    assert_true(quota.wants_claim());
    const std::size_t claim_max = quota.begin_claim();
    assert_int_equal(quota.offer("a"), 17);
    ClaimedDelivery claimed;
    claimed.webhook_id = "a";
    quota.finish_claim({claimed}, claim_max, 0);
    assert_false(quota.wants_claim());  // the store had no more
    assert_true(quota.reserve("a"));
    assert_int_equal(quota.held(), 18);
}

void test_memory_quota_is_shared(void**) {
    MemoryQuota quota(64, 1'000'000);
    quota.set_max_in_flight("hog", 1000);
    int hog = 0;
    while (quota.reserve("hog")) {
        ++hog;
    }
    assert_int_equal(hog, 32);
    for (int i = 0; i < 96; ++i) {
        assert_true(quota.reserve("w" + std::to_string(i)));  // each of many gets at least one
    }
    assert_false(quota.reserve("too many"));
    MemoryQuota bytes(64, 1000);
    assert_true(bytes.reserve("big"));
    bytes.add_bytes("big", 600);
    assert_false(bytes.reserve("big"));
    assert_true(bytes.reserve("small"));
    bytes.add_bytes("small", 400);
    assert_false(bytes.reserve("third"));
}

// ---- writing results ------------------------------------------------------------------------

ResultBatch batch_of(int records) {
    ResultBatch batch;
    for (int i = 0; i < records; ++i) {
        AttemptRecord record;
        record.delivery_id = std::to_string(i);
        record.response_body = "body";
        batch.records.push_back(record);
    }
    return batch;
}

// A record that the store refuses for good keeps none of the others from being written, and none is written twice.
void test_write_results_culprits_are_isolated(void**) {
    std::vector<std::string> written;
    const RecordAttempts record = [&](std::span<const AttemptRecord> records) -> Result<headgate::RecordOutcome> {
        for (const AttemptRecord& each : records) {
            const bool is_hopeless = each.delivery_id == "37";
            const bool is_too_much = each.delivery_id == "63" && !each.response_body.empty();
            if (is_hopeless || is_too_much) {
                return headgate::fail(ErrorCode::kInternal, "refused");
            }
        }
        for (const AttemptRecord& each : records) {
            written.push_back(each.delivery_id);
        }
        return headgate::RecordOutcome{};
    };
    ResultBatch batch = batch_of(100);
    assert_true(write_results(record, batch).has_value());
    assert_int_equal(batch.written, 100);
    assert_int_equal(written.size(), 99);
    int expected = 0;
    for (const std::string& id : written) {
        expected += expected == 37 ? 1 : 0;
        assert_string_equal(id.c_str(), std::to_string(expected++).c_str());
    }
}

// A store that is away for a while: what was written stays written, the rest follows.
void test_write_results_passing_error_keeps_the_rest(void**) {
    std::vector<std::string> written;
    int calls = 0;
    const RecordAttempts record = [&](std::span<const AttemptRecord> records) -> Result<headgate::RecordOutcome> {
        ++calls;
        if (calls == 1) {
            return headgate::fail(ErrorCode::kInternal, "too long");
        }
        if (calls == 3) {
            return headgate::fail(ErrorCode::kUnavailable, "locked");
        }
        for (const AttemptRecord& each : records) {
            written.push_back(each.delivery_id);
        }
        return headgate::RecordOutcome{};
    };
    ResultBatch batch = batch_of(10);
    const auto first = write_results(record, batch);
    assert_false(first.has_value());
    assert_true(first.error().code == ErrorCode::kUnavailable);
    assert_int_equal(batch.written, 5);
    assert_true(write_results(record, batch).has_value());
    assert_int_equal(written.size(), 10);
    assert_string_equal(written.back().c_str(), "9");
}

}  // namespace

int main() {
    spdlog::set_level(spdlog::level::off);
    const CMUnitTest tests[] = {
        cmocka_unit_test(test_dispatcher_delivers_signed_and_records),
        cmocka_unit_test(test_dispatcher_backlog_beyond_memory_is_drained),
        cmocka_unit_test(test_dispatcher_retries_until_dead),
        cmocka_unit_test(test_dispatcher_gone_disables_and_keeps_the_rest_unsent),
        cmocka_unit_test(test_dispatcher_deleted_webhook_cancels),
        cmocka_unit_test(test_dispatcher_blocked_address_is_an_attempt),
        cmocka_unit_test(test_dispatcher_silent_endpoints_do_not_hold_back_others),
        cmocka_unit_test(test_dispatcher_stop_interrupts_and_next_process_sends_at_once),
        cmocka_unit_test(test_dispatcher_reserves_nothing_before_recovery),
        cmocka_unit_test(test_dispatcher_unreadable_webhook_holds_back_no_other),
        cmocka_unit_test(test_dispatcher_crash_loses_nothing),
        cmocka_unit_test(test_lanes_round_robin_and_shares),
        cmocka_unit_test(test_lanes_own_limit),
        cmocka_unit_test(test_memory_quota_limits_and_order),
        cmocka_unit_test(test_memory_quota_is_shared),
        cmocka_unit_test(test_write_results_culprits_are_isolated),
        cmocka_unit_test(test_write_results_passing_error_keeps_the_rest),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
