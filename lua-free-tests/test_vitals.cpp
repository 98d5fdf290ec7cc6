// links: headgate_app
#include <string>

#include "lua-free-tests/cmocka_cpp.h"  // last
#include "sidecar/vitals.h"

using namespace headgate;

namespace {

Vitals well() {
    Vitals vitals;
    vitals.is_projected = true;
    vitals.redis_silent_ms = vitals.store_silent_ms = kSilenceMsMax - 1;
    vitals.oldest_undrained_ms = vitals.oldest_due_ms = kBacklogAgeMsMax;
    return vitals;
}

void test_health_report_at_the_bounds_is_healthy(void**) {
    assert_true(health_report(well()).is_healthy);
    assert_string_equal(health_report(well()).reasons.c_str(), "[]");
}

void test_health_report_each_reason_with_its_number(void**) {
    const struct {
        void (*spoil)(Vitals&);
        const char* reasons;
    } cases[] = {
        {[](Vitals& v) { v.redis_silent_ms = 5000; }, R"(["Redis has been silent for 5000 ms; the limit is 5000 ms"])"},
        {[](Vitals& v) { v.store_silent_ms = 6001; },
         R"(["the store could not be read and written for 6001 ms; the limit is 5000 ms"])"},
        {[](Vitals& v) { v.store_refusing_ms = 5000; },
         R"(["the store has refused to be written for 5000 ms; the limit is 5000 ms"])"},
        {[](Vitals& v) { v.is_projected = false; }, R"(["keys and revocations have not been projected to Redis yet"])"},
        {[](Vitals& v) { v.oldest_undrained_ms = 60001; },
         R"(["the oldest event not yet drained has waited for 60001 ms; the limit is 60000 ms"])"},
        {[](Vitals& v) { v.oldest_due_ms = 60001; },
         R"(["the oldest delivery that is free to start has been due for 60001 ms; the limit is 60000 ms"])"},
    };
    for (const auto& each : cases) {
        Vitals vitals = well();
        each.spoil(vitals);
        assert_false(health_report(vitals).is_healthy);
        assert_string_equal(health_report(vitals).reasons.c_str(), each.reasons);
    }
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(test_health_report_at_the_bounds_is_healthy),
        cmocka_unit_test(test_health_report_each_reason_with_its_number),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
