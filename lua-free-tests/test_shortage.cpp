// links: headgate_deliver
// What is made of a shortage of sockets, and who may look up a host's name.
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "lua-free-tests/cmocka_cpp.h"  // last
#include "sidecar/deliver/name_look_ups.h"
#include "sidecar/deliver/shortage.h"

using namespace headgate;
using Answer = NameLookUps::Answer;
using End = NameLookUps::End;

namespace {

void test_shortage_bounds_what_is_in_flight_and_grows_again(void**) {
    Shortage shortage;
    assert_int_equal(shortage.limit(256, 0), 256);
    shortage.met(40, 10'000);
    assert_int_equal(shortage.limit(256, 10'000), 40);
    assert_int_equal(shortage.limit(256, 10'999), 40);
    assert_int_equal(shortage.limit(256, 11'000), 45);
    shortage.met(60, 11'000);  // more than was allowed: an old one's end
    assert_int_equal(shortage.limit(256, 11'000), 45);
    shortage.met(30, 11'000);
    assert_int_equal(shortage.limit(256, 12'000), 33);
    assert_int_equal(shortage.limit(16, 12'000), 16);
    assert_int_equal(shortage.limit(256, 11'000 + 1'000'000), 256);
    assert_int_equal(shortage.limit(256, 1'000'000'000'000'000), 256);
}

// Nothing under way whose end could help: nothing begins for a while, and then one.
void test_shortage_with_nothing_in_flight_pauses(void**) {
    Shortage shortage;
    shortage.met(0, 5'000);
    assert_int_equal(shortage.limit(256, 5'000), 0);
    assert_int_equal(shortage.limit(256, 5'999), 0);
    assert_int_equal(shortage.limit(256, 6'000), 2);
    shortage.met(0, 6'000);
    assert_int_equal(shortage.limit(256, 6'999), 0);
}

// They are only ever compared.
struct Requests {
    std::vector<char> places = std::vector<char>(100);
    HttpTransfer* operator[](std::size_t i) { return reinterpret_cast<HttpTransfer*>(&places[i]); }
};

const auto kStart = std::chrono::steady_clock::time_point(std::chrono::hours(1));
constexpr auto kSecond = std::chrono::seconds(1);

void test_one_look_up_of_a_name_at_a_time(void**) {
    Requests r;
    NameLookUps look_ups;
    assert_true(look_ups.begin("a", r[0], kStart) == Answer::kBegin);
    assert_true(look_ups.begin("a", r[0], kStart) == Answer::kBegin);
    assert_true(look_ups.begin("b", r[1], kStart) == Answer::kBegin);
    assert_true(look_ups.begin("a", r[2], kStart) == Answer::kWait);
    look_ups.wait("a", r[2], kStart + 5 * kSecond);
    assert_true(look_ups.begin("a", r[3], kStart) == Answer::kWait);
    look_ups.wait("a", r[3], kStart + 2 * kSecond);
    assert_true(look_ups.next_deadline() == kStart + 2 * kSecond);
    assert_true(look_ups.take_ready(kStart).empty());
    look_ups.ended("b", r[1], End::kNotFound);
    look_ups.ended("a", r[3], End::kNotFound);  // it had begun none
    assert_true(look_ups.take_ready(kStart).empty());
    assert_true(look_ups.take_ready(kStart + 2 * kSecond) == std::vector{r[3]});
    look_ups.ended("a", r[0], End::kNotFound);
    look_ups.ended("a", r[0], End::kNotFound);
    assert_true(look_ups.take_ready(kStart + 2 * kSecond) == std::vector{r[2]});
    assert_true(!look_ups.next_deadline());
    assert_true(look_ups.begin("a", r[2], kStart) == Answer::kBegin);
}

void test_look_up_that_ends_before_the_wait_begins(void**) {
    Requests r;
    NameLookUps look_ups;
    assert_true(look_ups.begin("a", r[0], kStart) == Answer::kBegin);
    assert_true(look_ups.begin("a", r[1], kStart) == Answer::kWait);
    look_ups.ended("a", r[0], End::kNotFound);
    look_ups.wait("a", r[1], kStart + kSecond);
    assert_true(look_ups.take_ready(kStart) == std::vector{r[1]});
    assert_true(look_ups.take_ready(kStart + 9 * kSecond).empty());
}

void test_what_waited_can_be_forgotten(void**) {
    Requests r;
    NameLookUps look_ups;
    assert_true(look_ups.begin("a", r[0], kStart) == Answer::kBegin);
    look_ups.wait("a", r[1], kStart);
    look_ups.forget_waiting();
    look_ups.ended("a", r[0], End::kNotFound);
    assert_true(look_ups.take_ready(kStart + 9 * kSecond).empty());
}

// A look-up that was left behind goes on: the next one of its name waits.
void test_name_whose_look_up_was_left_behind_rests(void**) {
    Requests r;
    NameLookUps look_ups;
    assert_true(look_ups.begin("a", r[0], kStart) == Answer::kBegin);
    look_ups.wait("a", r[1], kStart + 30 * kSecond);
    look_ups.wait("a", r[2], kStart + 2 * kSecond);
    look_ups.ended("a", r[0], End::kLeftBehind);
    assert_true(look_ups.take_ready(kStart + kSecond).empty());
    assert_true(look_ups.begin("a", r[3], kStart + kSecond) == Answer::kWait);
    assert_true(look_ups.take_ready(kStart + 2 * kSecond) == std::vector{r[2]});
    assert_true(look_ups.next_deadline() == kStart + 5 * kSecond);
    assert_true(look_ups.take_ready(kStart + 5 * kSecond) == std::vector{r[1]});
    assert_true(look_ups.begin("a", r[1], kStart + 5 * kSecond) == Answer::kBegin);
}

// Threads that look-ups left behind count until they end.
void test_look_ups_are_bounded_by_the_threads_that_run(void**) {
    Requests r;
    NameLookUps look_ups;
    for (const char* host : {"known", "slow"}) {
        assert_true(look_ups.begin(host, r[0], kStart) == Answer::kBegin);
        look_ups.ended(host, r[0], End::kFound);
    }
    assert_true(look_ups.begin("slow", r[0], kStart) == Answer::kBegin);
    look_ups.ended("slow", r[0], End::kLeftBehind);
    std::mutex mutex;
    std::condition_variable changed;
    bool may_end = false;
    std::vector<std::thread> threads;
    for (int i = 0; i < kLookUpsMax; ++i) {
        assert_true(look_ups.begin("host" + std::to_string(i), r[0], kStart) == Answer::kBegin);
        threads.emplace_back([&] {
            std::unique_lock lock(mutex);
            changed.wait(lock, [&] { return may_end; });
        });
    }
    const Answer beyond = look_ups.begin("one-more", r[1], kStart);
    const Answer known = look_ups.begin("known", r[1], kStart);
    const Answer slow = look_ups.begin("slow", r[1], kStart + 5 * kSecond);
    {
        const std::lock_guard lock(mutex);
        may_end = true;
    }
    changed.notify_all();
    for (std::thread& thread : threads) {
        thread.join();
    }
    assert_true(beyond == Answer::kTooMany);
    assert_true(known == Answer::kBegin);
    assert_true(slow == Answer::kTooMany);
    assert_true(look_ups.begin("one-more", r[1], kStart) == Answer::kBegin);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(test_shortage_bounds_what_is_in_flight_and_grows_again),
        cmocka_unit_test(test_shortage_with_nothing_in_flight_pauses),
        cmocka_unit_test(test_one_look_up_of_a_name_at_a_time),
        cmocka_unit_test(test_look_up_that_ends_before_the_wait_begins),
        cmocka_unit_test(test_what_waited_can_be_forgotten),
        cmocka_unit_test(test_name_whose_look_up_was_left_behind_rests),
        cmocka_unit_test(test_look_ups_are_bounded_by_the_threads_that_run),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
