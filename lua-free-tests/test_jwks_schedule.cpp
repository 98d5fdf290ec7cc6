// links: headgate_edge_pure
// When a remote key set is fetched again, and how long an old one is good.
#include "lua-free-tests/cmocka_cpp.h"  // last
#include "ngx_module/jwks_schedule.h"

using namespace headgate::edge;

namespace {

constexpr std::int64_t kNow = 7'000'000;
constexpr std::int64_t kCacheMs = 600'000;

KeySchedule fetched_at(std::int64_t at_ms) {
    KeySchedule schedule;
    schedule.begin(at_ms, false);
    schedule.succeed(at_ms);
    return schedule;
}

void test_nothing_is_there_yet(void**) {
    const KeySchedule schedule;
    assert_false(schedule.usable(kNow));
    assert_false(schedule.in_flight(kNow));
    assert_true(schedule.wants_fetch(kNow, kCacheMs));
}

void test_one_fetch_at_a_time_until_its_deadline(void**) {
    KeySchedule schedule;
    schedule.begin(kNow, false);
    assert_true(schedule.in_flight(kNow + kFetchDeadlineMs - 1));
    assert_false(schedule.wants_fetch(kNow + kFetchDeadlineMs - 1, kCacheMs));
    assert_false(schedule.wants_fetch_for_kid(kNow + kFetchDeadlineMs - 1));
    assert_false(schedule.in_flight(kNow + kFetchDeadlineMs));  // its worker is dead
    assert_true(schedule.wants_fetch(kNow + kFetchDeadlineMs, kCacheMs));
}

void test_a_set_is_current_for_its_lifetime(void**) {
    const KeySchedule schedule = fetched_at(kNow);
    assert_false(schedule.wants_fetch(kNow + kCacheMs - 1, kCacheMs));
    assert_true(schedule.wants_fetch(kNow + kCacheMs, kCacheMs));
}

void test_a_set_is_usable_for_24_hours(void**) {
    const KeySchedule schedule = fetched_at(kNow);
    assert_true(schedule.usable(kNow + kKeysStaleMsMax - 1));
    assert_false(schedule.usable(kNow + kKeysStaleMsMax));
    assert_int_equal(kKeysStaleMsMax, 86'400'000);
}

void test_failures_are_not_repeated_at_once(void**) {
    KeySchedule never;
    never.begin(kNow, false);
    never.fail();
    assert_false(never.wants_fetch(kNow + kRetryMs - 1, kCacheMs));
    assert_true(never.wants_fetch(kNow + kRetryMs, kCacheMs));

    KeySchedule stale = fetched_at(kNow);
    const std::int64_t expired = kNow + kCacheMs;
    stale.begin(expired, false);
    stale.fail();
    assert_true(stale.usable(expired));
    assert_false(stale.wants_fetch(expired + kRetryStaleMs - 1, kCacheMs));
    assert_true(stale.wants_fetch(expired + kRetryStaleMs, kCacheMs));
}

void test_unknown_kids_have_a_cooldown_of_their_own(void**) {
    KeySchedule schedule = fetched_at(kNow);
    assert_true(schedule.wants_fetch_for_kid(kNow + 1));  // a rotation right after the first fetch is found
    schedule.begin(kNow + 1, true);
    schedule.succeed(kNow + 1);
    assert_false(schedule.wants_fetch_for_kid(kNow + kKidCooldownMs));
    assert_true(schedule.wants_fetch_for_kid(kNow + 1 + kKidCooldownMs));
}

void test_force_is_met_by_the_next_fetch(void**) {
    KeySchedule schedule = fetched_at(kNow);
    schedule.forced = true;
    assert_true(schedule.usable(kNow));
    assert_true(schedule.wants_fetch(kNow, kCacheMs));
    schedule.begin(kNow, false);
    schedule.succeed(kNow);
    assert_false(schedule.wants_fetch(kNow, kCacheMs));
}

// An operator takes a key back: a fetch that fails does not settle that, nor one that began before the wish.
void test_force_lasts_until_a_fetch_succeeds(void**) {
    KeySchedule schedule = fetched_at(kNow - 1);
    schedule.forced = true;
    schedule.begin(kNow, false);
    schedule.fail();
    assert_false(schedule.wants_fetch(kNow + kRetryStaleMs - 1, kCacheMs));
    assert_true(schedule.wants_fetch(kNow + kRetryStaleMs, kCacheMs));
    schedule.begin(kNow + kRetryStaleMs, true);
    schedule.abandon(kNow + kRetryStaleMs);
    assert_true(schedule.wants_fetch(kNow + kRetryStaleMs + kRetryMs, kCacheMs));
    schedule.begin(kNow + 2 * kRetryStaleMs, false);  // its worker dies
    assert_true(schedule.wants_fetch(kNow + 2 * kRetryStaleMs + kFetchDeadlineMs, kCacheMs));
    schedule.begin(kNow + 4 * kRetryStaleMs, false);
    schedule.forced = true;  // another wish meanwhile
    schedule.succeed(kNow + 4 * kRetryStaleMs);
    assert_true(schedule.wants_fetch(kNow + 4 * kRetryStaleMs, kCacheMs));
    schedule.begin(kNow + 4 * kRetryStaleMs, false);
    schedule.succeed(kNow + 4 * kRetryStaleMs);
    assert_false(schedule.wants_fetch(kNow + 4 * kRetryStaleMs, kCacheMs));
}

void test_an_abandoned_fetch_is_repeated_soon_but_not_at_once(void**) {
    KeySchedule schedule = fetched_at(kNow);
    const std::int64_t expired = kNow + kCacheMs;
    schedule.begin(expired, true);
    schedule.abandon(expired);
    assert_false(schedule.in_flight(expired));
    assert_false(schedule.wants_fetch(expired + kRetryMs - 1, kCacheMs));
    assert_true(schedule.wants_fetch(expired + kRetryMs, kCacheMs));
    assert_false(schedule.wants_fetch_for_kid(expired + kRetryMs - 1));
    assert_true(schedule.wants_fetch_for_kid(expired + kRetryMs));
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_is_there_yet),
        cmocka_unit_test(test_one_fetch_at_a_time_until_its_deadline),
        cmocka_unit_test(test_a_set_is_current_for_its_lifetime),
        cmocka_unit_test(test_a_set_is_usable_for_24_hours),
        cmocka_unit_test(test_failures_are_not_repeated_at_once),
        cmocka_unit_test(test_unknown_kids_have_a_cooldown_of_their_own),
        cmocka_unit_test(test_force_is_met_by_the_next_fetch),
        cmocka_unit_test(test_force_lasts_until_a_fetch_succeeds),
        cmocka_unit_test(test_an_abandoned_fetch_is_repeated_soon_but_not_at_once),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
