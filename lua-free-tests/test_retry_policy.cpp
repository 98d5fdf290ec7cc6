// links: headgate_deliver
#include <cmath>
#include <limits>
#include <string_view>

#include "common/limits.h"
#include "lua-free-tests/cmocka_cpp.h"  // last
#include "sidecar/deliver/retry_policy.h"

using namespace headgate;

namespace {

constexpr TimeMs kNow = 784'111'777'000;  // Sun, 06 Nov 1994 08:49:37 GMT, the date of RFC 9110
constexpr double kMiddle = 0.5;           // no jitter

RetryDecision decide(const RetryConfig& config, int number, int status, std::string_view retry_after = {}) {
    return decide_retry(config, {number, status, false, retry_after}, kNow, kMiddle);
}

void test_retry_delay_default_schedule(void**) {
    constexpr std::int64_t kSeconds[] = {5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400};
    const RetryConfig config;
    assert_int_equal(config.max_retries, 9);
    for (int i = 0; i < 9; ++i) {
        assert_int_equal(retry_delay_ms(config, i + 1), kSeconds[i] * 1000);
    }
    assert_int_equal(retry_delay_ms(config, 10), 86'400'000);
    assert_int_equal(retry_delay_ms(config, 0), 5'000);
}

void test_retry_delay_own_schedule_and_backoff(void**) {
    RetryConfig config;
    config.retry_delay_ms = 5000;
    config.backoff_multiplier = 2;
    assert_int_equal(retry_delay_ms(config, 1), 5000);
    assert_int_equal(retry_delay_ms(config, 2), 10'000);
    assert_int_equal(retry_delay_ms(config, 3), 20'000);
    config.schedule_ms = {1, 2};
    assert_int_equal(retry_delay_ms(config, 2), 2);
    assert_int_equal(retry_delay_ms(config, 3), 2);
}

void test_retry_delay_extremes_are_bounded(void**) {
    RetryConfig config;
    config.retry_delay_ms = std::numeric_limits<std::int64_t>::max();
    for (const double multiplier : {0.0, 1.0, 1e308, HUGE_VAL, -HUGE_VAL, std::nan("")}) {
        config.backoff_multiplier = multiplier;
        for (const int number : {-5, 1, 30, std::numeric_limits<int>::max()}) {
            assert_int_equal(retry_delay_ms(config, number), limits::kRetryDelayMsMax);
        }
    }
    config.schedule_ms = {-7, std::numeric_limits<std::int64_t>::max()};
    assert_int_equal(retry_delay_ms(config, 1), 0);
    assert_int_equal(retry_delay_ms(config, 2), limits::kRetryDelayMsMax);
}

void test_with_jitter_twenty_percent(void**) {
    assert_int_equal(with_jitter_ms(1000, 0.0), 800);
    assert_int_equal(with_jitter_ms(1000, 0.5), 1000);
    assert_int_equal(with_jitter_ms(1000, 1.0), 1200);
    assert_int_equal(with_jitter_ms(1000, 7.0), 1200);
    assert_int_equal(with_jitter_ms(0, 1.0), 0);
}

void test_parse_retry_after_forms(void**) {
    assert_int_equal(parse_retry_after_ms("120", kNow).value(), 120'000);
    assert_int_equal(parse_retry_after_ms(" 0 ", kNow).value(), 0);
    assert_int_equal(parse_retry_after_ms("86401", kNow).value(), 86'400'000);
    assert_int_equal(parse_retry_after_ms("99999999999999999999999999", kNow).value(), 86'400'000);
    // The three forms of RFC 9110, 5.6.7, one minute from now.
    assert_int_equal(parse_retry_after_ms("Sun, 06 Nov 1994 08:50:37 GMT", kNow).value(), 60'000);
    assert_int_equal(parse_retry_after_ms("Sunday, 06-Nov-94 08:50:37 GMT", kNow).value(), 60'000);
    assert_int_equal(parse_retry_after_ms("Sun Nov  6 08:50:37 1994", kNow).value(), 60'000);
    assert_int_equal(parse_retry_after_ms("Sun, 06 Nov 1994 08:00:00 GMT", kNow).value(), 0);
    assert_int_equal(parse_retry_after_ms("Fri, 31 Dec 2100 23:59:59 GMT", kNow).value(), 86'400'000);
    for (const std::string_view text : {"", "  ", "-1", "1.5", "soon", "12 s", "1e3", "::::", "12:00"}) {
        const auto parsed = parse_retry_after_ms(text, kNow);
        // curl_getdate reads a bare time of day as today's; whatever it gives is within the bound.
        assert_true(!parsed || (*parsed >= 0 && *parsed <= limits::kRetryAfterMsMax));
    }
    assert_false(parse_retry_after_ms("-1", kNow).has_value());
    assert_false(parse_retry_after_ms("soon", kNow).has_value());
}

void test_decide_retry_by_status(void**) {
    const RetryConfig config;
    for (const int status : {200, 201, 204, 299}) {
        assert_int_equal(decide(config, 1, status).outcome, AttemptOutcome::kSuccess);
    }
    for (const int status : {0, 101, 199, 300, 301, 302, 307, 308, 400, 401, 404, 409, 411, 429, 500, 503, 599}) {
        const RetryDecision decision = decide(config, 1, status);
        assert_int_equal(decision.outcome, AttemptOutcome::kRetry);
        assert_int_equal(decision.delay_ms, 5000);
    }
    const RetryDecision gone = decide(config, 1, 410);
    assert_int_equal(gone.outcome, AttemptOutcome::kDead);
    assert_false(gone.disable_webhook_reason.empty());
    // A 200 whose body was cut short is no success, and no 410 disables by half a response.
    assert_int_equal(decide_retry(config, {1, 200, true, {}}, kNow, kMiddle).outcome, AttemptOutcome::kRetry);
    assert_true(decide_retry(config, {1, 410, true, {}}, kNow, kMiddle).disable_webhook_reason.empty());
}

void test_decide_retry_n_retries_are_n_plus_one_attempts(void**) {
    RetryConfig config;
    config.max_retries = 2;
    assert_int_equal(decide(config, 2, 500).outcome, AttemptOutcome::kRetry);
    assert_int_equal(decide(config, 3, 500).outcome, AttemptOutcome::kDead);
    config.max_retries = 0;
    assert_int_equal(decide(config, 1, 500).outcome, AttemptOutcome::kDead);
}

void test_decide_retry_after_is_a_minimum(void**) {
    const RetryConfig config;
    assert_int_equal(decide(config, 1, 429, "60").delay_ms, 60'000);
    assert_int_equal(decide(config, 1, 503, "1").delay_ms, 5000);
    assert_int_equal(decide(config, 1, 503, "999999").delay_ms, 86'400'000);
    assert_int_equal(decide(config, 1, 503, "nonsense").delay_ms, 5000);
}

void test_validate_retry_config_bounds(void**) {
    RetryConfig config;
    assert_true(validate_retry_config(config).has_value());
    config.max_retries = 30;
    assert_true(validate_retry_config(config).has_value());
    for (const int retries : {-1, 31}) {
        config.max_retries = retries;
        assert_false(validate_retry_config(config).has_value());
    }
    config = {};
    for (const std::int64_t delay : {std::int64_t{-1}, limits::kRetryDelayMsMax + 1}) {
        config.retry_delay_ms = delay;
        assert_false(validate_retry_config(config).has_value());
        RetryConfig scheduled;
        scheduled.schedule_ms = {1, delay};
        assert_false(validate_retry_config(scheduled).has_value());
    }
    for (const double multiplier : {0.5, 100.5, std::nan(""), HUGE_VAL}) {
        config = {};
        config.backoff_multiplier = multiplier;
        assert_false(validate_retry_config(config).has_value());
    }
    config = {};
    config.schedule_ms.assign(31, 1);
    assert_false(validate_retry_config(config).has_value());
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(test_retry_delay_default_schedule),
        cmocka_unit_test(test_retry_delay_own_schedule_and_backoff),
        cmocka_unit_test(test_retry_delay_extremes_are_bounded),
        cmocka_unit_test(test_with_jitter_twenty_percent),
        cmocka_unit_test(test_parse_retry_after_forms),
        cmocka_unit_test(test_decide_retry_by_status),
        cmocka_unit_test(test_decide_retry_n_retries_are_n_plus_one_attempts),
        cmocka_unit_test(test_decide_retry_after_is_a_minimum),
        cmocka_unit_test(test_validate_retry_config_bounds),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
