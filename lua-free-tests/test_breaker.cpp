// links: headgate_deliver
// The circuit breaker and the gate around it, on a clock of the test's own.
#include <algorithm>
#include <vector>

#include "lua-free-tests/cmocka_cpp.h"  // last
#include "sidecar/deliver/breaker.h"
#include "sidecar/deliver/lane_gate.h"

using namespace headgate;
using Verdict = Breaker::Verdict;

namespace {

constexpr TimeMs kStart = 1'000'000;

void end(Breaker& breaker, Verdict verdict, TimeMs now) { breaker.ended(breaker.began(), verdict, now); }

void open(Breaker& breaker, TimeMs now) {
    for (int i = 0; i < Breaker::kFailuresInARow; ++i) {
        end(breaker, Verdict::kFails, now);
    }
}

// ---- the breaker ----------------------------------------------------------------------------

void test_breaker_opens_after_failures_in_a_row(void**) {
    Breaker breaker;
    for (int i = 0; i < Breaker::kFailuresInARow - 1; ++i) {
        end(breaker, Verdict::kFails, kStart);
        end(breaker, Verdict::kUnknown, kStart);  // says nothing either way
    }
    assert_true(breaker.state(kStart) == BreakerState::kClosed);
    end(breaker, Verdict::kFails, kStart);
    assert_true(breaker.state(kStart) == BreakerState::kOpen);
    assert_int_equal(breaker.open_until(), kStart + Breaker::kOpenMsMin);
    Breaker saved;
    for (int i = 0; i < Breaker::kFailuresInARow - 1; ++i) {
        end(saved, Verdict::kFails, kStart);
    }
    end(saved, Verdict::kWorks, kStart);
    end(saved, Verdict::kFails, kStart);
    assert_true(saved.state(kStart) == BreakerState::kClosed);
}

void test_breaker_opens_when_half_of_many_fail(void**) {
    Breaker breaker;
    int requests = 0;
    while (breaker.state(kStart) == BreakerState::kClosed && requests < 1000) {
        end(breaker, ++requests % 2 == 0 ? Verdict::kFails : Verdict::kWorks, kStart);
    }
    assert_int_equal(requests, Breaker::kWindowRequestsMin);
    Breaker mostly_works;
    for (int i = 0; i < 1000; ++i) {
        end(mostly_works, i % 3 == 0 ? Verdict::kFails : Verdict::kWorks, kStart);
    }
    assert_true(mostly_works.state(kStart) == BreakerState::kClosed);
    // What happened long ago does not count.
    Breaker forgets;
    for (int i = 0; i < 9; ++i) {
        end(forgets, Verdict::kFails, kStart);
    }
    for (int i = 0; i < 19; ++i) {
        end(forgets, i % 2 == 0 ? Verdict::kWorks : Verdict::kFails, kStart + 3 * Breaker::kHalfWindowMs);
    }
    assert_true(forgets.state(kStart + 3 * Breaker::kHalfWindowMs) == BreakerState::kClosed);
}

void test_breaker_probes_close_it_or_open_it_for_longer(void**) {
    Breaker breaker;
    open(breaker, kStart);
    TimeMs now = kStart;
    TimeMs open_ms = Breaker::kOpenMsMin;
    for (int i = 0; i < 12; ++i) {
        assert_true(breaker.state(breaker.open_until() - 1) == BreakerState::kOpen);
        assert_int_equal(breaker.open_until() - now, open_ms);
        now = breaker.open_until();
        assert_true(breaker.state(now) == BreakerState::kHalfOpen);
        end(breaker, Verdict::kUnknown, now);
        assert_true(breaker.state(now) == BreakerState::kHalfOpen);
        end(breaker, Verdict::kFails, now);
        open_ms = std::min(open_ms * 2, Breaker::kOpenMsMax);
    }
    assert_int_equal(open_ms, Breaker::kOpenMsMax);
    now = breaker.open_until();
    for (int i = 0; i < Breaker::kProbes; ++i) {
        assert_true(breaker.state(now) == BreakerState::kHalfOpen);
        end(breaker, Verdict::kWorks, now);
    }
    assert_true(breaker.state(now) == BreakerState::kClosed);
    open(breaker, now);
    assert_int_equal(breaker.open_until() - now, Breaker::kOpenMsMin);  // it begins anew
}

// Requests that began before it opened end one by one: they neither prolong the time nor count as probes.
void test_breaker_stragglers_say_nothing(void**) {
    Breaker breaker;
    const auto straggler = breaker.began();
    open(breaker, kStart);
    const TimeMs until = breaker.open_until();
    breaker.ended(straggler, Verdict::kFails, kStart + 1);
    assert_int_equal(breaker.open_until(), until);
    for (int i = 0; i < 5; ++i) {
        breaker.ended(straggler, Verdict::kWorks, until);
    }
    assert_true(breaker.state(until) == BreakerState::kHalfOpen);
}

// ---- the gate -------------------------------------------------------------------------------

LaneGate gate_of(int max_in_flight, std::string rate = "") {
    Webhook webhook;
    webhook.max_in_flight = max_in_flight;
    webhook.rate = std::move(rate);
    LaneGate gate;
    gate.configure(webhook);
    return gate;
}

void answer(LaneGate& gate, int status, TimeMs now, std::optional<std::int64_t> retry_after_ms = std::nullopt) {
    gate.ended(gate.began(now), {status, false, false, retry_after_ms}, now);
}

void test_gate_keeps_the_rate(void**) {
    LaneGate gate = gate_of(16, "60r/m:3");
    TimeMs now = kStart;
    int sent_at_once = 0;
    while (gate.free_at(now) <= now) {
        (void)gate.began(now);
        ++sent_at_once;
    }
    assert_int_equal(sent_at_once, 3);
    for (int i = 0; i < 10; ++i) {
        assert_int_equal(gate.free_at(now), now + 1'000);
        now = gate.free_at(now);
        assert_int_equal(gate.worth_holding(now), 2);  // this one, and one in a second
        (void)gate.began(now);
    }
    LaneGate slow = gate_of(16, "1r/h");
    assert_int_equal(slow.worth_holding(now), 1);
    (void)slow.began(now);
    assert_int_equal(slow.free_at(now) - now, 3'600'000);
    assert_false(slow.is_at_rest(now));
    assert_true(slow.is_at_rest(now + 3'600'000));
    LaneGate unreadable = gate_of(16, "often");
    (void)unreadable.began(now);
    assert_int_equal(unreadable.free_at(now), now);
}

void test_gate_halves_once_for_all_that_were_under_way(void**) {
    LaneGate gate = gate_of(16);
    std::vector<LaneGate::Ticket> tickets;
    for (int i = 0; i < 16; ++i) {
        tickets.push_back(gate.began(kStart));
    }
    for (const auto& ticket : tickets) {
        gate.ended(ticket, {429, false, false, std::nullopt}, kStart);
    }
    assert_int_equal(gate.limit(kStart), 8);
    assert_int_equal(gate.worth_holding(kStart), 16);
    for (int i = 0; i < 8; ++i) {
        assert_int_equal(gate.limit(kStart), 8);
        answer(gate, 200, kStart);
    }
    assert_int_equal(gate.limit(kStart), 9);
    for (int i = 0; i < 1000; ++i) {
        answer(gate, 200, kStart);
    }
    assert_int_equal(gate.limit(kStart), 16);
    answer(gate, 500, kStart);  // fails, and is not overwhelmed
    assert_int_equal(gate.limit(kStart), 16);
}

void test_gate_leaves_alone_who_cannot_do_one_at_a_time(void**) {
    LaneGate gate = gate_of(4);
    answer(gate, 504, kStart);
    answer(gate, 502, kStart);
    assert_int_equal(gate.limit(kStart), 1);
    assert_int_equal(gate.free_at(kStart), kStart);
    TimeMs now = kStart;
    for (TimeMs pause : {1'000, 2'000, 4'000, 8'000, 16'000, 32'000, 60'000, 60'000}) {
        answer(gate, 429, now);
        assert_int_equal(gate.free_at(now) - now, pause);
        now = gate.free_at(now);
    }
    answer(gate, 200, now);
    answer(gate, 429, now);
    answer(gate, 429, now);
    assert_int_equal(gate.free_at(now) - now, 1'000);
}

void test_gate_honours_retry_after_for_a_day_at_most(void**) {
    constexpr TimeMs kDayMs = 24LL * 3600 * 1000;
    for (int status : {429, 502, 503, 504}) {
        LaneGate gate = gate_of(16);
        answer(gate, status, kStart, 3'600'000);
        assert_int_equal(gate.free_at(kStart), kStart + 3'600'000);
        answer(gate, status, kStart, 1'000);  // never shortened
        assert_int_equal(gate.free_at(kStart), kStart + 3'600'000);
        answer(gate, status, kStart, 100 * kDayMs);
        assert_int_equal(gate.free_at(kStart), kStart + kDayMs);
    }
    LaneGate other = gate_of(16);
    answer(other, 404, kStart, 3'600'000);  // of that one delivery
    assert_int_equal(other.free_at(kStart), kStart);
}

void test_gate_opens_for_a_changed_webhook(void**) {
    Webhook webhook;
    webhook.rate = "1r/h";
    LaneGate gate;
    gate.configure(webhook);
    for (int i = 0; i < Breaker::kFailuresInARow; ++i) {
        answer(gate, 503, kStart, 3'600'000);
    }
    assert_true(gate.breaker(kStart) == BreakerState::kOpen);
    gate.configure(webhook);
    assert_true(gate.breaker(kStart) == BreakerState::kOpen);
    webhook.version++;
    gate.configure(webhook);
    assert_true(gate.breaker(kStart) == BreakerState::kClosed);
    assert_true(gate.free_at(kStart) > kStart);  // its rate is what it was
    webhook.version++;
    webhook.rate = "";
    gate.configure(webhook);
    assert_int_equal(gate.free_at(kStart), kStart);
}

// Who sent before may have used the rate up in the moment before we became the owner.
void test_gate_of_a_webhook_that_was_anothers_begins_without_a_burst(void**) {
    Webhook webhook;
    webhook.rate = "10r/s:20";
    LaneGate gate;
    gate.was_anothers(kStart);
    gate.configure(webhook);
    assert_int_equal(gate.free_at(kStart), kStart + 100);
    int begun = 0;
    for (TimeMs now = kStart; now <= kStart + 1000; ++now) {
        for (; gate.free_at(now) <= now; ++begun) (void)gate.began(now);
    }
    assert_int_equal(begun, 10);
    // Long after it is as any other, and an hour later it goes away and comes back.
    assert_int_equal(gate.worth_holding(kStart + 10'000), 20 + 10);
    gate.was_anothers(kStart + 3'600'000);
    assert_int_equal(gate.free_at(kStart + 3'600'000), kStart + 3'600'100);
    // A changed rate is not a way around it; no rate has nothing to use up.
    webhook.version++;
    webhook.rate = "1r/m";
    gate.configure(webhook);
    assert_int_equal(gate.free_at(kStart + 3'600'000), kStart + 3'660'000);
    webhook.version++;
    webhook.rate = "";
    gate.configure(webhook);
    assert_int_equal(gate.free_at(kStart + 3'600'000), kStart + 3'600'000);
}

void test_gate_lets_few_probes_through(void**) {
    LaneGate gate = gate_of(16);
    for (int i = 0; i < Breaker::kFailuresInARow; ++i) {
        gate.ended(gate.began(kStart), {0, true, false, std::nullopt}, kStart);
    }
    const TimeMs half_open_at = gate.free_at(kStart);
    assert_int_equal(half_open_at, kStart + Breaker::kOpenMsMin);
    assert_int_equal(gate.free_at(half_open_at), half_open_at);
    assert_int_equal(gate.limit(half_open_at), Breaker::kProbes);
    assert_int_equal(gate.worth_holding(half_open_at), Breaker::kProbes);
    assert_false(gate.is_at_rest(half_open_at));
    assert_true(gate.is_at_rest(half_open_at + 3'600'000));
    for (int i = 0; i < Breaker::kProbes; ++i) {
        answer(gate, 404, half_open_at);  // it answers: what is wrong is not that it is away
    }
    assert_int_equal(gate.limit(half_open_at), 16);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(test_breaker_opens_after_failures_in_a_row),
        cmocka_unit_test(test_breaker_opens_when_half_of_many_fail),
        cmocka_unit_test(test_breaker_probes_close_it_or_open_it_for_longer),
        cmocka_unit_test(test_breaker_stragglers_say_nothing),
        cmocka_unit_test(test_gate_keeps_the_rate),
        cmocka_unit_test(test_gate_halves_once_for_all_that_were_under_way),
        cmocka_unit_test(test_gate_leaves_alone_who_cannot_do_one_at_a_time),
        cmocka_unit_test(test_gate_honours_retry_after_for_a_day_at_most),
        cmocka_unit_test(test_gate_opens_for_a_changed_webhook),
        cmocka_unit_test(test_gate_of_a_webhook_that_was_anothers_begins_without_a_burst),
        cmocka_unit_test(test_gate_lets_few_probes_through),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
