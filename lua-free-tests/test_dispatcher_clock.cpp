// links: headgate_deliver headgate_match headgate_store
// The wall clock is set while deliveries wait: back, and nothing is stuck until the old time comes again; forward, and
// what is due all at once is spread. The clock of this process is the test's: clock_gettime() is its own.
#include <spdlog/spdlog.h>
#include <sqlite3.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <ctime>

#include "lua-free-tests/cmocka_cpp.h"  // last
#include "lua-free-tests/dispatcher_process.h"
#include "sidecar/deliver/clock_watch.h"

namespace {

std::atomic<std::int64_t> set_by_seconds{0};

}  // namespace

// Of libstdc++'s clocks too, which ask for it by name.
extern "C" __attribute__((visibility("default"))) int clock_gettime(clockid_t id, timespec* now) noexcept {
    const auto result = static_cast<int>(syscall(SYS_clock_gettime, id, now));
    if (result == 0 && id == CLOCK_REALTIME) now->tv_sec += set_by_seconds;
    return result;
}

using namespace headgate;

namespace {

constexpr std::int64_t kHour = 3600;

int rows_of(const TempDir& dir, const std::string& where) {
    sqlite3* database = nullptr;
    sqlite3_open((dir.path / "test.db").c_str(), &database);
    sqlite3_busy_timeout(database, 10'000);
    sqlite3_stmt* statement = nullptr;
    sqlite3_prepare_v2(database, ("SELECT count(*) FROM " + where).c_str(), -1, &statement, nullptr);
    const int count = sqlite3_step(statement) == SQLITE_ROW ? sqlite3_column_int(statement, 0) : -1;
    sqlite3_finalize(statement);
    sqlite3_close(database);
    return count;
}

// An endpoint that fails once for each event, then takes everything.
struct FailsOnce {
    std::mutex mutex;
    std::map<std::string, int> asked;
    std::atomic<int> first{0}, again{0};
    LoopbackServer server{[this](Connection& connection) {
        while (const auto request = connection.read_request()) {
            std::string head = request->head;
            std::erase(head, '\r');
            int times = 0;
            {
                const std::lock_guard lock(mutex);
                times = ++asked[std::string(find_header(head, "webhook-id"))];
            }
            ++(times == 1 ? first : again);
            // 409 is tried again, and closes no gate but the breaker's: after five in a row.
            if (!connection.respond(times == 1 ? 409 : 200)) {
                return;
            }
        }
    }};
    Webhook webhook_with_delay(std::int64_t delay_ms) {
        Webhook made = webhook("waits", server.url());
        made.retry.schedule_ms = {delay_ms};
        made.retry.max_retries = 5;
        return made;
    }
};

void test_clock_watch_tells_steps_from_time_that_passes(void**) {
    ClockWatch watch;
    assert_false(watch.step(1'000'000, 50).has_value());  // the first look knows no other
    assert_false(watch.step(9'000'000, 8'000'050).has_value());
    assert_false(watch.step(9'059'999, 8'000'050).has_value());  // less than a step
    assert_true(watch.step(9'059'999 + 60'000, 8'000'050) == 60'000);
    assert_false(watch.step(9'119'999, 8'000'050).has_value());  // told once
    assert_true(watch.step(9'119'999 - 3'600'000, 8'000'051) == -3'600'001);
}

void test_clock_set_back_leaves_nothing_stuck(void**) {
    set_by_seconds = 0;
    TempDir dir;
    FailsOnce endpoint;
    prepare(dir, {endpoint.webhook_with_delay(1500)});
    Process process(dir);
    process.publish(types(4));
    assert_true(process.run_until([&] { return rows_of(dir, "deliveries WHERE state = 'retrying'") == 4; }));
    set_by_seconds = -kHour;
    assert_true(process.run_until_successes(4, seconds(30)));
    assert_int_equal(endpoint.again, 4);
    process.publish(types(1));  // and new ones are sent
    assert_true(process.run_until_successes(5, seconds(30)));
    set_by_seconds = 0;
}

// While nobody ran: the next process finds times that a clock has set which was an hour ahead.
void test_clock_set_back_while_stopped_leaves_nothing_stuck(void**) {
    set_by_seconds = kHour;
    TempDir dir;
    FailsOnce endpoint;
    prepare(dir, {endpoint.webhook_with_delay(1500)});
    {
        Process process(dir);
        process.publish(types(4));
        assert_true(process.run_until([&] { return rows_of(dir, "deliveries WHERE state = 'retrying'") == 4; }));
        assert_true(process.stop(milliseconds(100)));
    }
    set_by_seconds = 0;
    Process process(dir);
    assert_true(process.run_until_successes(4, seconds(30)));
}

void test_clock_set_forward_spreads_what_is_due(void**) {
    constexpr int kWaiting = 200;
    set_by_seconds = 0;
    TempDir dir;
    Inbox inbox;
    LoopbackServer server(inbox.answering(200));
    prepare(dir, {webhook("waits", server.url())});
    {
        Process process(dir);
        process.dispatcher->follow(owned_parts({}, 8, kLanes));  // sends for no lane
        process.publish(types(kWaiting));
    }
    // As if all of them waited for their retries, half an hour from now.
    sqlite3* database = nullptr;
    sqlite3_open((dir.path / "test.db").c_str(), &database);
    assert_int_equal(sqlite3_exec(database, "UPDATE deliveries SET state = 'retrying', due_at = due_at + 1800000",
                                  nullptr, nullptr, nullptr),
                     SQLITE_OK);
    sqlite3_close(database);
    Process process(dir);
    process.publish({"other.type"});
    assert_true(process.run_until_successes(1, seconds(30)));
    set_by_seconds = kHour;
    const auto due_within = [&](std::int64_t from_ms, std::int64_t to_ms) {
        return rows_of(
            dir, "deliveries WHERE state = 'retrying' AND due_at >= " + std::to_string(wall_clock_ms() + from_ms) +
                     " AND due_at < " + std::to_string(wall_clock_ms() + to_ms));
    };
    assert_true(process.run_until([&] { return due_within(0, 75'000) > kWaiting / 2; }));
    assert_true(due_within(40'000, 75'000) > kWaiting / 4);
    assert_true(inbox.count <= kWaiting / 2);
    set_by_seconds = 0;
}

}  // namespace

int main() {
    spdlog::set_level(spdlog::level::off);
    const CMUnitTest tests[] = {
        cmocka_unit_test(test_clock_watch_tells_steps_from_time_that_passes),
        cmocka_unit_test(test_clock_set_back_leaves_nothing_stuck),
        cmocka_unit_test(test_clock_set_back_while_stopped_leaves_nothing_stuck),
        cmocka_unit_test(test_clock_set_forward_spreads_what_is_due),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
