// links: headgate_deliver headgate_match headgate_store
// What holds deliveries back: an open breaker, a rate, Retry-After, their order.
#include <spdlog/spdlog.h>
#include <sqlite3.h>

#include <algorithm>

#include "lua-free-tests/cmocka_cpp.h"  // last
#include "lua-free-tests/dispatcher_process.h"
#include "sidecar/deliver/breaker.h"

using namespace headgate;

namespace {

// ---- gates ----------------------------------------------------------------------------------

int rows_of(const TempDir& dir, const char* where) {
    sqlite3* database = nullptr;
    sqlite3_open((dir.path / "test.db").c_str(), &database);
    sqlite3_busy_timeout(database, 10'000);
    sqlite3_stmt* statement = nullptr;
    const std::string sql = std::string("SELECT count(*) FROM ") + where;
    sqlite3_prepare_v2(database, sql.c_str(), -1, &statement, nullptr);
    const int count = sqlite3_step(statement) == SQLITE_ROW ? sqlite3_column_int(statement, 0) : -1;
    sqlite3_finalize(statement);
    sqlite3_close(database);
    return count;
}

// While it is open nothing is sent and nothing is held; a changed webhook is sent everything at once.
void test_dispatcher_open_breaker_puts_back_and_a_change_closes_it(void**) {
    TempDir dir;
    Inbox inbox;
    std::atomic<int> refused{0};
    LoopbackServer broken([&](Connection& connection) {
        while (connection.read_request()) {
            ++refused;  // before the other side can know of it
            if (!connection.respond(500)) break;
        }
    });
    LoopbackServer server(inbox.answering(200));
    Webhook failing = webhook("failing", broken.url(), {"order.created"});
    failing.max_in_flight = 1;
    failing.retry.schedule_ms = {1};
    failing.retry.max_retries = 30;
    prepare(dir, {failing, webhook("good", server.url("/good"), {"order.paid"})});
    Process process(dir);
    process.publish(types(40));
    assert_true(process.run_until([&] { return process.dispatcher->breaker_counts().open == 1; }));
    assert_true(process.run_until([&] { return process.dispatcher->counters().in_memory == 0; }));
    const int asked = refused;
    assert_true(asked >= Breaker::kFailuresInARow && asked <= Breaker::kFailuresInARow + 1);
    process.publish(types(10));  // left in the store as well
    process.publish(std::vector<std::string>(20, "order.paid"));
    assert_true(process.run_until_successes(20));
    assert_int_equal(refused, asked);
    assert_int_equal(process.dispatcher->counters().in_memory, 0);
    const auto held_back = process.dispatcher->held_back();
    assert_int_equal(held_back.size(), 1);
    assert_string_equal(held_back[0].c_str(), "failing");
    assert_int_equal(process.totals().pending, 50);
    // What was put back has used up no attempt.
    assert_true(process.run_until([&] { return rows_of(dir, "deliveries WHERE state = 'in_flight'") == 0; }));
    assert_int_equal(rows_of(dir, "attempts WHERE outcome = 'retry'"), asked);
    assert_int_equal(rows_of(dir, "deliveries WHERE webhook_id = 'failing' AND attempts > 0"), asked);
    auto store = Process::open(dir);
    Webhook mended = store->get_webhook("org_1", "failing").value();
    mended.url = server.url("/mended");
    assert_true(store->update_webhook(mended, std::nullopt).has_value());
    process.dispatcher->invalidate("failing");
    assert_true(process.run_until_successes(70));
    assert_int_equal(process.dispatcher->breaker_counts().open, 0);
    assert_int_equal(inbox.ids.size(), 70);
    assert_true(process.dispatcher->held_back().empty());
}

// Over its rate it is sent what the rate allows; what waits for long is not held.
void test_dispatcher_rate_is_kept(void**) {
    TempDir dir;
    Inbox inbox;
    LoopbackServer server(inbox.answering(200));
    Webhook limited = webhook("limited", server.url(), {"order.created"});
    limited.rate = "3r/h";
    prepare(dir, {limited, webhook("good", server.url(), {"order.paid"})});
    Process process(dir);
    process.publish(types(40));
    assert_true(process.run_until_successes(3));
    assert_true(process.run_until([&] { return process.dispatcher->counters().in_memory == 0; }));
    process.publish(std::vector<std::string>(20, "order.paid"));
    assert_true(process.run_until_successes(23));
    assert_int_equal(inbox.count, 23);
    assert_int_equal(process.totals().pending, 37);
    assert_true(process.stop(seconds(1)));
}

// 429 with Retry-After stops all of the webhook's requests, not only that one.
void test_dispatcher_retry_after_pauses_the_webhook(void**) {
    TempDir dir;
    std::atomic<int> asked{0};
    LoopbackServer server([&](Connection& connection) {
        while (connection.read_request() && connection.respond(429, "", "Retry-After: 3600\r\n")) {
            ++asked;
        }
    });
    Webhook busy = webhook("busy", server.url());
    busy.max_in_flight = 2;
    prepare(dir, {busy});
    Process process(dir);
    process.publish(types(30));
    assert_true(process.run_until([&] { return process.dispatcher->counters().attempts >= 2; }));
    assert_true(process.run_until([&] { return process.dispatcher->counters().in_memory == 0; }));
    assert_int_equal(process.dispatcher->breaker_counts().open, 0);
    assert_int_equal(process.dispatcher->held_back().size(), 1);
    assert_true(asked <= 3);
    assert_int_equal(process.totals().pending, 30);
}

// ---- ordering -------------------------------------------------------------------------------

// 1,000 events on 20 keys, an endpoint that fails now and then, a restart on the way: what a key's events were first
// answered 2xx for came in their order, and never two of a key at a time.
void check_order(OrderingPolicy policy) {
    TempDir dir;
    std::mutex mutex;
    std::map<std::string, std::vector<std::string>> accepted;  // by key: the event ids
    std::map<std::string, int> under_way;
    std::atomic<int> overlaps{0}, asked{0}, succeeded{0};
    std::map<std::string, std::vector<std::string>> published;
    LoopbackServer server([&](Connection& connection) {
        while (const auto request = connection.read_request()) {
            std::string head = request->head;
            std::erase(head, '\r');
            const std::string id(find_header(head, "webhook-id"));
            std::string key(find_header(head, "x-webhook-event"));
            {
                const std::lock_guard lock(mutex);
                overlaps += under_way[key]++ > 0 ? 1 : 0;
            }
            const bool fails = ++asked % 7 == 0;
            {
                const std::lock_guard lock(mutex);
                --under_way[key];
                if (!fails) {
                    auto& ids = accepted[key];
                    if (std::find(ids.begin(), ids.end(), id) == ids.end()) {
                        ids.push_back(id);
                        ++succeeded;
                    }
                }
            }
            if (!connection.respond(fails ? 503 : 200)) {
                return;
            }
        }
    });
    Webhook ordered = webhook("ordered", server.url());
    ordered.ordering = "key";
    ordered.ordering_policy = policy;
    ordered.retry.schedule_ms = {1};
    ordered.retry.max_retries = 30;
    prepare(dir, {ordered});
    std::vector<std::string> types, keys;
    for (int i = 0; i < 1000; ++i) {
        keys.push_back("k" + std::to_string(i % 20));
        types.push_back("order." + keys.back());  // the receiver sees the key in the type
    }
    {
        Process process(dir);
        process.publish(types, 0, keys);
        for (std::size_t i = 0; i < types.size(); ++i) {
            published[types[i]].push_back(process.published[i]);
        }
        process.run_until([&] { return succeeded >= 300; });
        assert_true(succeeded < 1000);
    }
    Process process(dir);
    assert_true(process.run_until([&] { return succeeded == 1000 && process.totals().success == 1000; }, seconds(90)));
    assert_int_equal(accepted.size(), 20);
    if (policy != OrderingPolicy::kSkip) {
        assert_int_equal(overlaps, 0);
        assert_true(accepted == published);
    }
}

void test_dispatcher_order_held_until_dead(void**) { check_order(OrderingPolicy::kDead); }
void test_dispatcher_order_held_until_an_operator_acts(void**) { check_order(OrderingPolicy::kBlock); }
void test_dispatcher_order_skips_what_failed_once(void**) { check_order(OrderingPolicy::kSkip); }

}  // namespace

int main() {
    spdlog::set_level(spdlog::level::off);
    const CMUnitTest tests[] = {
        cmocka_unit_test(test_dispatcher_open_breaker_puts_back_and_a_change_closes_it),
        cmocka_unit_test(test_dispatcher_rate_is_kept),
        cmocka_unit_test(test_dispatcher_retry_after_pauses_the_webhook),
        cmocka_unit_test(test_dispatcher_order_held_until_dead),
        cmocka_unit_test(test_dispatcher_order_held_until_an_operator_acts),
        cmocka_unit_test(test_dispatcher_order_skips_what_failed_once),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
