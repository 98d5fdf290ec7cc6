#include <cstdio>
#include <cstdlib>

#include "common/lease.h"
#include "lua-free-tests/cmocka_cpp.h"  // last
#include "lua-free-tests/lease_model.h"

using namespace headgate;
using namespace headgate::test;

namespace {

// HEADGATE_LEASE_SCHEDULES=n runs that many instead, HEADGATE_LEASE_SEED=s begins there.
std::uint64_t from_environment(const char* name, std::uint64_t otherwise) {
    const char* text = std::getenv(name);
    return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

void test_leases_keep_their_promise_in_every_schedule(void**) {
    const std::uint64_t count = from_environment("HEADGATE_LEASE_SCHEDULES", 2'500);
    const std::uint64_t first = from_environment("HEADGATE_LEASE_SEED", 1);
    Findings sum;
    bool failed = false;
    for (std::uint64_t seed = first; seed < first + count; ++seed) {
        const Findings found = LeaseWorld(seed, Mutation::kNone).run();
        if (!found.violation.empty()) {
            std::fprintf(stderr, "HEADGATE_LEASE_SEED=%llu HEADGATE_LEASE_SCHEDULES=1: %s\n",
                         static_cast<unsigned long long>(seed), found.violation.c_str());
            failed = true;
        }
        sum.admitted += found.admitted;
        sum.from_leases += found.from_leases;
        sum.refused += found.refused;
        sum.returned += found.returned;
        sum.late += found.late;
        sum.lost += found.lost;
    }
    std::printf(
        "seeds %llu to %llu: %lld admitted, %lld from leases, %lld refused, %lld returned, %lld late, %lld lost\n",
        static_cast<unsigned long long>(first), static_cast<unsigned long long>(first + count - 1),
        static_cast<long long>(sum.admitted), static_cast<long long>(sum.from_leases),
        static_cast<long long>(sum.refused), static_cast<long long>(sum.returned), static_cast<long long>(sum.late),
        static_cast<long long>(sum.lost));
    assert_false(failed);
    if (count >= 1'000) {
        assert_true(sum.from_leases > 1'000 && sum.refused > 1'000 && sum.returned > 1'000 && sum.late > 10 &&
                    sum.lost > 10);
    }
}

// The schedules notice when a part of the protocol is missing.
int broken_promises(Mutation mutation) {
    int found = 0;
    for (std::uint64_t seed = 1; seed <= 500; ++seed) {
        found += LeaseWorld(seed, mutation).run().violation.starts_with("more than burst") ? 1 : 0;
    }
    return found;
}

void test_leases_without_the_discount_break_their_promise(void**) {
    assert_true(broken_promises(Mutation::kReturnWithoutAge) > 5);
}

void test_leases_without_the_age_check_break_their_promise(void**) {
    assert_true(broken_promises(Mutation::kTokenWithoutAge) > 5);
}

constexpr std::int64_t kNowUs = 77'000'000'000;

// One host and a Redis that answers at once.
struct Desk {
    std::vector<RateWindow> windows;
    std::vector<std::int64_t> tats;  // in Redis, on the same clock
    std::vector<WindowState> states;
    LeaseState state;
    std::int64_t now_us = kNowUs;
    explicit Desk(std::string_view plan)
        : windows(*parse_rate_plan(plan)), tats(windows.size()), states(windows.size()) {}

    LeaseDecision spend(std::int64_t cost = 1, LeaseAsker asker = {}) {
        return lease_spend(state, windows, cost, asker, now_us);
    }
    LimitDecision redis(const LeaseTake& take) {
        return gcra_charge(windows, tats, now_us, take.need, take.ahead, take.ret, take.ret_age_us, states);
    }
    LeaseOutcome reply(const LeaseTake& take) {
        LimitDecision decision = redis(take);
        return lease_on_reply(state, take, decision, states, now_us);
    }
    // Asks and is granted.
    LeaseTake take(std::int64_t cost = 1) {
        const LeaseDecision decision = spend(cost);
        assert_true(decision.answer == LeaseAnswer::kAsk);
        assert_true(reply(decision.take) == LeaseOutcome::kGranted);
        return decision.take;
    }
};

void test_lease_spend_asks_ahead_for_the_last_50_ms(void**) {
    Desk desk("1000r/s");
    for (int i = 0; i < 2; ++i) {
        assert_int_equal(desk.take().ahead, 0);  // one token would not be worth holding
    }
    assert_int_equal(desk.take().ahead, 2);
    assert_int_equal(desk.state.tokens, 2);
    assert_true(desk.spend().answer == LeaseAnswer::kSpent);
    assert_true(desk.spend().answer == LeaseAnswer::kSpent);
    assert_int_equal(desk.take().ahead, 5);
    desk.now_us += 50'000;
    desk.state.tokens = 0;
    assert_int_equal(desk.take().ahead, 0);
}

void test_lease_spend_slow_key_is_exact(void**) {
    Desk desk("60r/m");
    for (int i = 0; i < 60; ++i) {
        const LeaseTake take = desk.take();
        assert_int_equal(take.ahead + take.ret, 0);
        desk.now_us += 100'000;
    }
    assert_int_equal(desk.state.tokens, 0);
}

void test_lease_token_dies_after_100_ms_and_goes_back_with_its_age(void**) {
    Desk desk("100r/s:90");
    desk.take(30);
    assert_int_equal(desk.take(1).ahead, 30);
    desk.now_us += 100'000;
    Desk alive = desk;
    assert_true(alive.spend(1).answer == LeaseAnswer::kSpent);
    assert_int_equal(lease_due_return(desk.state, desk.windows, desk.now_us).ret, 0);
    desk.now_us += 1;
    Desk with_timer = desk;
    const LeaseTake back = lease_due_return(with_timer.state, with_timer.windows, with_timer.now_us);
    assert_int_equal(back.need, 0);
    assert_int_equal(back.ret, 30);
    assert_int_equal(back.ret_age_us, 200'001);  // its way to Redis included
    assert_int_equal(with_timer.state.tokens, 0);
    const LeaseDecision next = desk.spend(1);
    assert_true(next.answer == LeaseAnswer::kAsk);
    assert_int_equal(next.take.ret, 30);
    assert_int_equal(next.take.ret_age_us, 200'001);
}

void test_lease_due_return_sends_nothing_that_the_discount_would_keep(void**) {
    Desk desk("1000r/s");
    desk.take(30);
    desk.take(1);
    desk.now_us += 100'001;
    assert_int_equal(desk.state.tokens, 30);
    assert_int_equal(lease_due_return(desk.state, desk.windows, desk.now_us).ret, 0);
    assert_int_equal(desk.state.tokens, 0);
}

void test_lease_late_reply_grants_nothing(void**) {
    for (const std::int64_t late_us : {0, 1}) {
        Desk desk("1000r/s");
        desk.take(5);
        const LeaseDecision decision = desk.spend();
        LimitDecision redis = desk.redis(decision.take);
        assert_int_equal(redis.granted, 6);
        const std::int64_t now_us = desk.now_us + 100'000 + late_us;
        const LeaseOutcome outcome = lease_on_reply(desk.state, decision.take, redis, desk.states, now_us);
        assert_true(outcome == (late_us == 0 ? LeaseOutcome::kGranted : LeaseOutcome::kLate));
        assert_int_equal(desk.state.tokens, late_us == 0 ? 5 : 0);
    }
}

void test_lease_refusal_is_remembered_for_50_ms_at_most(void**) {
    Desk desk("60r/m:10");
    desk.take(10);
    LeaseDecision decision = desk.spend(2);
    assert_true(desk.reply(decision.take) == LeaseOutcome::kRefused);
    desk.now_us += 49'999;
    decision = desk.spend(2);
    assert_true(decision.answer == LeaseAnswer::kRefused);
    assert_int_equal(decision.retry_us, 2'000'000 - 49'999);
    assert_true(desk.spend(3).answer == LeaseAnswer::kRefused);
    assert_true(desk.spend(1).answer == LeaseAnswer::kAsk);  // less might fit
    desk.now_us += 1;
    assert_true(desk.spend(2).answer == LeaseAnswer::kAsk);
    // min(retry, 50 ms)
    Desk quick("100r/s:1");
    quick.take();
    decision = quick.spend();
    assert_true(quick.reply(decision.take) == LeaseOutcome::kRefused);
    quick.now_us += 10'000;
    assert_true(quick.spend().answer == LeaseAnswer::kAsk);
}

void test_lease_one_take_ahead_for_each_host(void**) {
    Desk desk("1000r/s");
    desk.take(10);
    const LeaseDecision leading = desk.spend();
    assert_int_equal(leading.take.ahead, 10);
    assert_true(desk.spend(1, {.waiting = 0, .may_wait = true}).answer == LeaseAnswer::kWait);
    // Another worker, for which two others wait: what they need, and no more.
    const LeaseDecision other = desk.spend(1, {.waiting = 2, .may_wait = false});
    assert_int_equal(other.take.ahead, 2);
    // The leading worker died: 100 ms later the key is led again.
    desk.now_us += 100'000;
    assert_int_equal(desk.spend().take.number, leading.take.number + 1);
    // A loss that is noticed frees it at once; a late notice of the first does not.
    lease_on_lost(desk.state, leading.take);
    assert_int_equal(desk.spend().take.number, 0);
    lease_on_lost(desk.state, desk.state.take_number == leading.take.number + 1
                                  ? LeaseTake{.number = leading.take.number + 1}
                                  : LeaseTake{});
    assert_int_equal(desk.spend().take.number, leading.take.number + 2);
}

void test_lease_window_states_count_what_is_held_and_refilled(void**) {
    Desk desk("100r/s+1000r/m");
    desk.take(20);
    desk.take(1);
    assert_int_equal(desk.state.tokens, 20);
    WindowState states[2];
    lease_window_states(desk.state, desk.windows, desk.now_us, states);
    assert_int_equal(states[0].free, 79);
    assert_int_equal(states[0].full_us, 210'000);
    assert_int_equal(states[1].free, 979);
    desk.spend(5);
    desk.now_us += 20'000;
    lease_window_states(desk.state, desk.windows, desk.now_us, states);
    assert_int_equal(states[0].free, 76);
    assert_int_equal(states[0].full_us, 240'000);
    // A key never seen is full.
    lease_window_states(LeaseState{}, desk.windows, desk.now_us, states);
    assert_int_equal(states[0].free, 100);
    assert_int_equal(states[0].full_us, 0);
}

void test_lease_charge_local_goes_on_from_what_redis_was_seen_to_have_charged(void**) {
    Desk desk("60r/m:10");
    desk.take(7);
    WindowState states[1];
    assert_int_equal(lease_charge_local(desk.state, desk.windows, 3, desk.now_us, states).granted, 3);
    assert_int_equal(states[0].free, 0);
    const LimitDecision refused = lease_charge_local(desk.state, desk.windows, 1, desk.now_us, states);
    assert_int_equal(refused.granted, 0);
    assert_int_equal(refused.retry_us, 1'000'000);
    LeaseState unseen;
    assert_int_equal(lease_charge_local(unseen, desk.windows, 10, desk.now_us, states).granted, 10);
    assert_int_equal(lease_charge_local(unseen, desk.windows, 1, desk.now_us, states).granted, 0);
}

void test_lease_charge_local_admits_one_burst_however_often_redis_comes_and_goes(void**) {
    Desk desk("60r/m:10");
    WindowState states[1];
    int admitted = 0;
    for (int outage = 0; outage < 3; ++outage) {
        while (lease_charge_local(desk.state, desk.windows, 1, desk.now_us, states).granted != 0) {
            ++admitted;
        }
        desk.take();  // Redis is back, and knows nothing of them
    }
    assert_int_equal(admitted, 10);
    desk.now_us += 2'000'000;
    assert_int_equal(lease_charge_local(desk.state, desk.windows, 2, desk.now_us, states).granted, 2);
    assert_int_equal(lease_charge_local(desk.state, desk.windows, 1, desk.now_us, states).granted, 0);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(test_lease_spend_asks_ahead_for_the_last_50_ms),
        cmocka_unit_test(test_lease_spend_slow_key_is_exact),
        cmocka_unit_test(test_lease_token_dies_after_100_ms_and_goes_back_with_its_age),
        cmocka_unit_test(test_lease_due_return_sends_nothing_that_the_discount_would_keep),
        cmocka_unit_test(test_lease_late_reply_grants_nothing),
        cmocka_unit_test(test_lease_refusal_is_remembered_for_50_ms_at_most),
        cmocka_unit_test(test_lease_one_take_ahead_for_each_host),
        cmocka_unit_test(test_lease_window_states_count_what_is_held_and_refilled),
        cmocka_unit_test(test_lease_charge_local_goes_on_from_what_redis_was_seen_to_have_charged),
        cmocka_unit_test(test_lease_charge_local_admits_one_burst_however_often_redis_comes_and_goes),
        cmocka_unit_test(test_leases_keep_their_promise_in_every_schedule),
        cmocka_unit_test(test_leases_without_the_discount_break_their_promise),
        cmocka_unit_test(test_leases_without_the_age_check_break_their_promise),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
