#include <algorithm>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/gcra.h"
#include "common/rate_plan.h"
#include "lua-free-tests/cmocka_cpp.h"  // last

using namespace headgate;

namespace {

constexpr std::int64_t kStartUs = 1'700'000'000'000'000;

// The windows of one key and their arrival times.
struct Limiter {
    std::vector<RateWindow> windows;
    std::vector<std::int64_t> tats;
    std::vector<WindowState> states;
    explicit Limiter(std::string_view plan)
        : windows(*parse_rate_plan(plan)), tats(windows.size()), states(windows.size()) {}
    LimitDecision charge(std::int64_t now_us, std::int64_t need, std::int64_t ahead = 0, std::int64_t ret = 0,
                         std::int64_t ret_age_us = 0) {
        return gcra_charge(windows, tats, now_us, need, ahead, ret, ret_age_us, states);
    }
};

// The plans of the property tests: periods that the quota divides and does not, bursts above and below
// the quota, rates from one a day to a billion a second.
constexpr std::string_view kPlans[] = {"3r/s",
                                       "7r/s:2",
                                       "60r/m:1",
                                       "60r/m",
                                       "7r/m:20",
                                       "1r/d:3",
                                       "1000r/h:50",
                                       "999r/s",
                                       "1001r/s",
                                       "3000r/s:10",
                                       "300000r/s",
                                       "700000r/s:9",
                                       "999999937r/s:1500",
                                       "1000000000r/s:3",
                                       "999999937r/d",
                                       "5r/s+60r/m+1000r/h",
                                       "11r/s:3+100r/m:30+999r/h+7000r/d:2"};

// A duration of any order of magnitude.
std::int64_t random_us(std::mt19937_64& random, std::int64_t max_us) {
    const int bits = std::uniform_int_distribution<int>(0, 62)(random);
    return std::min(static_cast<std::int64_t>(random() >> (63 - bits)), max_us);
}

void test_gcra_charge_fresh_window_has_exactly_its_burst(void**) {
    for (const std::string_view plan : kPlans) {
        Limiter fresh(plan);
        fresh.charge(kStartUs, 0);
        for (std::size_t i = 0; i < fresh.windows.size(); ++i) {
            assert_int_equal(fresh.states[i].free, fresh.windows[i].burst);
            assert_int_equal(fresh.states[i].full_us, 0);
        }
        std::int64_t least = INT64_MAX;
        for (const RateWindow& window : fresh.windows) {
            least = std::min(least, window.burst);
        }
        assert_int_equal(fresh.charge(kStartUs, 1, least - 1).granted, least);
        assert_int_equal(fresh.charge(kStartUs, 1).granted, 0);
        Limiter other(plan);
        assert_int_equal(other.charge(kStartUs, least).granted, least);
        assert_int_equal(Limiter(plan).charge(kStartUs, least + 1).granted, 0);
    }
}

// What broke: with the cost of each charge rounded up by itself, three requests of 3r/s were one too many.
void test_gcra_charge_one_by_one_counts_down_to_zero(void**) {
    for (const std::string_view plan : {"3r/s", "7r/s", "7r/m:20", "999r/s", "1r/d:3", "60r/m:1", "1000r/s"}) {
        Limiter limiter(plan);
        const std::int64_t burst = limiter.windows[0].burst;
        for (std::int64_t left = burst - 1; left >= 0; --left) {
            assert_int_equal(limiter.charge(kStartUs, 1).granted, 1);
            assert_int_equal(limiter.states[0].free, left);
        }
        const LimitDecision refused = limiter.charge(kStartUs, 1);
        assert_int_equal(refused.granted, 0);
        const auto& window = limiter.windows[0];
        assert_int_equal(refused.retry_us, (window.period_us + window.quota - 1) / window.quota);
    }
}

struct Grant {
    std::int64_t at_us, units;
};

// No span between two grants admits more than burst + rate·t. Rates above 1000/s, whose units are no whole number
// of µs, may be a µs early.
void assert_bounded(const RateWindow& window, const std::vector<Grant>& grants, std::int64_t slack_us) {
    const std::int64_t unit_us = (window.period_us + window.quota - 1) / window.quota;
    slack_us += unit_us < 1'000 ? 1 : 0;
    for (std::size_t i = 0; i < grants.size(); ++i) {
        std::int64_t units = 0;
        for (std::size_t j = i; j < grants.size(); ++j) {
            units += grants[j].units;
            // units <= burst + quota·t/period, in integers of 128 bits.
            const auto over = static_cast<__int128>(units - window.burst) * window.period_us;
            const auto refilled = static_cast<__int128>(grants[j].at_us - grants[i].at_us + slack_us) * window.quota;
            assert_true(over <= refilled);
        }
    }
}

void test_gcra_charge_no_span_admits_more_than_burst_and_rate(void**) {
    std::mt19937_64 random(20'240'501);
    for (const std::string_view plan : kPlans) {
        for (int round = 0; round < 6; ++round) {
            Limiter limiter(plan);
            std::int64_t now_us = kStartUs, burst_min = INT64_MAX, gap_us = INT64_MAX;
            for (const RateWindow& window : limiter.windows) {
                burst_min = std::min(burst_min, window.burst);
                gap_us = std::min(gap_us, window.period_us);
            }
            std::vector<Grant> grants;
            for (int step = 0; step < 250; ++step) {
                // Mostly right when a refusal said that it fits again, the sharpest moment.
                const auto need = static_cast<std::int64_t>(random() % std::min<std::uint64_t>(burst_min, 1'000) + 1);
                const auto ahead = round % 2 == 0 ? 0 : random_us(random, burst_min);
                const std::vector<std::int64_t> before = limiter.tats;
                LimitDecision decision = limiter.charge(now_us, need, ahead);
                if (decision.granted == 0) {
                    assert_true(limiter.tats == before);  // nothing is charged
                    assert_true(decision.retry_us > 0);
                    assert_int_equal(limiter.charge(now_us + decision.retry_us - 1, need, ahead).granted, 0);
                    now_us += decision.retry_us;
                    decision = limiter.charge(now_us, need, ahead);
                }
                assert_in_range(decision.granted, need, need + ahead);
                grants.push_back({now_us, decision.granted});
                now_us += random() % 4 == 0 ? random_us(random, gap_us) : 0;
            }
            for (const RateWindow& window : limiter.windows) {
                assert_bounded(window, grants, 0);
            }
        }
    }
}

void test_gcra_charge_greedy_client_reaches_the_rate(void**) {
    for (const std::string_view plan : {"3r/s", "7r/s:2", "60r/m:1", "999r/s", "3000r/s:10", "70000r/s:9"}) {
        Limiter limiter(plan);
        const RateWindow window = limiter.windows[0];
        std::int64_t now_us = kStartUs, granted = 0;
        while (now_us < kStartUs + 3 * window.period_us) {
            const LimitDecision decision = limiter.charge(now_us, 1, window.burst);
            granted += decision.granted;
            now_us += decision.granted == 0 ? decision.retry_us : 0;
        }
        const std::int64_t most = window.burst + 3 * window.quota;
        // One unit at a time costs up to a µs more than the rate says: 7 % at 70000/s.
        const std::int64_t unit_us = std::max<std::int64_t>(1, window.period_us / window.quota);
        assert_in_range(granted, most - 3 * window.quota / unit_us - 1, most);
    }
}

void test_gcra_charge_all_windows_or_none(void**) {
    Limiter limiter("2r/s+3r/m");
    assert_int_equal(limiter.charge(kStartUs, 2).granted, 2);
    assert_int_equal(limiter.charge(kStartUs + 1'000'000, 1).granted, 1);
    const std::vector<std::int64_t> before = limiter.tats;
    const LimitDecision refused = limiter.charge(kStartUs + 2'000'000, 1);
    assert_int_equal(refused.granted, 0);
    assert_int_equal(refused.retry_us, 18'000'000);
    assert_int_equal(limiter.states[0].free, 2);
    assert_int_equal(limiter.states[1].free, 0);
    assert_true(limiter.tats == before);
    // Ahead is cut to what the tightest window has.
    Limiter other("10r/s+3r/m");
    assert_int_equal(other.charge(kStartUs, 1, 100).granted, 3);
    assert_int_equal(other.states[0].free, 7);
    assert_int_equal(other.states[1].free, 0);
}

void test_gcra_charge_need_above_burst_never(void**) {
    Limiter limiter("10r/s:5+100r/m");
    const LimitDecision decision = limiter.charge(kStartUs, 6);
    assert_int_equal(decision.granted, 0);
    assert_int_equal(decision.retry_us, -1);
    limiter.charge(kStartUs, 5);
    assert_int_equal(limiter.charge(kStartUs, 6).retry_us, -1);
}

void test_gcra_charge_clock_that_steps_back_or_a_wild_state_is_clamped(void**) {
    Limiter limiter("60r/m");
    limiter.tats[0] = kStartUs + 1'000 * 60'000'000LL;
    const LimitDecision refused = limiter.charge(kStartUs, 1);
    assert_int_equal(refused.granted, 0);
    assert_int_equal(refused.retry_us, 1'000'000);
    assert_int_equal(limiter.states[0].full_us, 60'000'000);
    limiter.tats[0] = -1;
    assert_int_equal(limiter.charge(kStartUs, 60).granted, 60);
}

void test_gcra_charge_return_gives_back_at_most_what_was_taken(void**) {
    Limiter limiter("10r/s");
    assert_int_equal(limiter.charge(kStartUs, 1, 9).granted, 10);
    // 6 units of 100 ms come back at once: whole.
    limiter.charge(kStartUs, 0, 0, 6, 0);
    assert_int_equal(limiter.states[0].free, 6);
    // A return of 4 after 250 ms is worth 400 - 250 ms; 250 ms have refilled.
    limiter.charge(kStartUs + 250'000, 0, 0, 4, 250'000);
    assert_int_equal(limiter.states[0].full_us, 0);
    // Older than its worth: nothing, and never less than nothing.
    assert_int_equal(limiter.charge(kStartUs + 250'000, 5).granted, 5);
    limiter.charge(kStartUs + 250'000, 0, 0, 2, 900'000);
    assert_int_equal(limiter.states[0].free, 5);
    // More than a burst fills the window and no more.
    limiter.charge(kStartUs + 250'000, 0, 0, INT64_C(1'000'000'000'000), 0);
    assert_int_equal(limiter.states[0].free, 10);
    // A return counts even where the take with it is refused.
    assert_int_equal(limiter.charge(kStartUs + 250'000, 10).granted, 10);
    assert_int_equal(limiter.charge(kStartUs + 250'000, 5, 0, 4, 0).granted, 0);
    assert_int_equal(limiter.states[0].free, 4);
    assert_int_equal(limiter.charge(kStartUs + 250'000, 4).granted, 4);
}

// Several hosts hold leases for up to 100 ms, spend some of them at any moment and return the rest.
void test_gcra_charge_leases_of_hosts_stay_within_a_tenth_of_a_second(void**) {
    constexpr std::int64_t kLeaseUs = 100'000;
    struct Host {
        std::int64_t held = 0, taken_us = 0;
    };
    std::mt19937_64 random(31);
    for (const std::string_view plan : {"50r/s", "300r/s:20", "3000r/m", "1000r/s:1", "7777r/s:100"}) {
        Limiter limiter(plan);
        Host hosts[4];
        std::vector<Grant> spent;
        std::int64_t now_us = kStartUs;
        for (int step = 0; step < 3'000; ++step) {
            now_us += random_us(random, 30'000);
            Host& host = hosts[random() % 4];
            if (host.held > 0 && now_us - host.taken_us <= kLeaseUs && random() % 3 != 0) {
                const std::int64_t units = random() % 2 == 0 ? host.held : 1;
                host.held -= units;
                spent.push_back({now_us, units});
                continue;
            }
            const std::int64_t ret = host.held, age_us = now_us - host.taken_us;
            host.held = limiter.charge(now_us, 1, static_cast<std::int64_t>(random() % 30), ret, age_us).granted;
            host.taken_us = now_us;
        }
        assert_true(spent.size() > 300);
        assert_bounded(limiter.windows[0], spent, kLeaseUs);
    }
}

void test_ratelimit_headers(void**) {
    Limiter limiter("60r/m+1000r/h:50");
    limiter.charge(kStartUs, 1);
    std::string policy = "RateLimit-Policy: ", limit = "RateLimit: ";
    append_ratelimit_policy(policy, limiter.windows);
    char values[2 * kRatelimitWindowBytesMax];
    limit.append(values, write_ratelimit(values, limiter.windows, limiter.states));
    assert_string_equal(policy.c_str(), R"(RateLimit-Policy: "minute";q=60;w=60, "hour";q=1000;w=3600)");
    assert_string_equal(limit.c_str(), R"(RateLimit: "minute";r=59;t=1, "hour";r=49;t=4)");
    assert_int_equal(ceil_seconds(0), 0);
    assert_int_equal(ceil_seconds(1), 1);
    assert_int_equal(ceil_seconds(1'000'000), 1);
    assert_int_equal(ceil_seconds(1'000'001), 2);
}

void test_tightest_window_has_the_smallest_share_left(void**) {
    const auto windows = *parse_rate_plan("10r/s+100r/m+1000r/h");
    const auto tightest = [&windows](std::int64_t a, std::int64_t b, std::int64_t c) {
        const WindowState states[] = {{a, 0}, {b, 0}, {c, 0}};
        return tightest_window(windows, states);
    };
    assert_int_equal(tightest(10, 100, 1000), 0);
    assert_int_equal(tightest(10, 99, 1000), 1);
    assert_int_equal(tightest(9, 50, 499), 2);
    assert_int_equal(tightest(0, 50, 499), 0);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(test_gcra_charge_fresh_window_has_exactly_its_burst),
        cmocka_unit_test(test_gcra_charge_one_by_one_counts_down_to_zero),
        cmocka_unit_test(test_gcra_charge_no_span_admits_more_than_burst_and_rate),
        cmocka_unit_test(test_gcra_charge_greedy_client_reaches_the_rate),
        cmocka_unit_test(test_gcra_charge_all_windows_or_none),
        cmocka_unit_test(test_gcra_charge_need_above_burst_never),
        cmocka_unit_test(test_gcra_charge_clock_that_steps_back_or_a_wild_state_is_clamped),
        cmocka_unit_test(test_gcra_charge_return_gives_back_at_most_what_was_taken),
        cmocka_unit_test(test_gcra_charge_leases_of_hosts_stay_within_a_tenth_of_a_second),
        cmocka_unit_test(test_ratelimit_headers),
        cmocka_unit_test(test_tightest_window_has_the_smallest_share_left),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
