// links: headgate_deliver headgate_match headgate_store
#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>
#include <sqlite3.h>

#include <sstream>

#include "lua-free-tests/cmocka_cpp.h"  // last
#include "lua-free-tests/dispatcher_process.h"

using namespace headgate;

namespace {

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
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
