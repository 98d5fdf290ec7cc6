#include <string>
#include <string_view>

#include "common/rfc3339.h"
#include "lua-free-tests/cmocka_cpp.h"  // last

using namespace headgate;

namespace {

void test_rfc3339_format_known_times(void**) {
    assert_true(rfc3339_format(0) == "1970-01-01T00:00:00.000Z");
    assert_true(rfc3339_format(951'782'400'001) == "2000-02-29T00:00:00.001Z");
    assert_true(rfc3339_format(1'700'000'000'123) == "2023-11-14T22:13:20.123Z");
    assert_true(rfc3339_format(4'107'542'399'999) == "2100-02-28T23:59:59.999Z");
    assert_true(rfc3339_format(4'107'542'400'000) == "2100-03-01T00:00:00.000Z");  // 2100 is no leap year
    assert_true(rfc3339_format(253'402'300'799'999) == "9999-12-31T23:59:59.999Z");
}

void test_rfc3339_format_outside_is_clamped(void**) {
    assert_true(rfc3339_format(-1) == "1970-01-01T00:00:00.000Z");
    assert_true(rfc3339_format(INT64_MIN) == "1970-01-01T00:00:00.000Z");
    assert_true(rfc3339_format(INT64_MAX) == "9999-12-31T23:59:59.999Z");
}

void test_rfc3339_every_day_of_800_years_returns_unchanged(void**) {
    for (std::int64_t ms = 0; ms < 800LL * 366 * 86'400'000; ms += 86'400'000 - 1) {
        assert_true(rfc3339_parse(rfc3339_format(ms)) == ms);
    }
}

void test_rfc3339_parse_rfc_examples(void**) {
    const struct {
        std::string_view text;
        std::int64_t epoch_ms;
    } examples[] = {
        {"1985-04-12T23:20:50.52Z", 482'196'050'520},
        {"1996-12-19T16:39:57-08:00", 851'042'397'000},
        {"1990-12-31T23:59:60Z", 662'688'000'000},  // a leap second
        {"1990-12-31T15:59:60-08:00", 662'688'000'000},
        {"1937-01-01T12:00:27.87+00:20", -1'041'337'172'130},
        {"2023-11-14t22:13:20z", 1'700'000'000'000},
        {"2023-11-14T22:13:20-00:00", 1'700'000'000'000},
        {"2023-11-14T22:13:20.1Z", 1'700'000'000'100},
        {"2023-11-14T22:13:20.123999999Z", 1'700'000'000'123},  // rounded down
        {"2023-11-14T22:13:20.000999999Z", 1'700'000'000'000},
        {"2023-11-15T22:12:20+23:59", 1'700'000'000'000},
    };
    for (const auto& example : examples) {
        assert_true(rfc3339_parse(example.text) == example.epoch_ms);
    }
}

void test_rfc3339_parse_anything_else_refused(void**) {
    for (const std::string_view text : {
             "",
             "2023",
             "2023-11-14",
             "2023-11-14T22:13:20",
             "2023-11-14 22:13:20Z",
             "2023-11-14T22:13Z",
             "2023-13-14T22:13:20Z",
             "2023-00-14T22:13:20Z",
             "2023-11-31T22:13:20Z",
             "2023-02-29T22:13:20Z",
             "1900-02-29T00:00:00Z",
             "2023-11-00T22:13:20Z",
             "2023-11-14T24:00:00Z",
             "2023-11-14T22:60:20Z",
             "2023-11-14T22:13:61Z",
             "2023-11-14T22:13:20.Z",
             "2023-11-14T22:13:20.1234567890Z",
             "2023-11-14T22:13:20+24:00",
             "2023-11-14T22:13:20+01:60",
             "2023-11-14T22:13:20+0100",
             "2023-11-14T22:13:20+01",
             "2023-11-14T22:13:20ZZ",
             "2023-11-14T22:13:20Z ",
             " 2023-11-14T22:13:20Z",
             "+023-11-14T22:13:20Z",
             "2023-11-14T22:13:2/Z",
             "20231114T221320Z",
         }) {
        assert_false(rfc3339_parse(text).has_value());
    }
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(test_rfc3339_format_known_times),
        cmocka_unit_test(test_rfc3339_format_outside_is_clamped),
        cmocka_unit_test(test_rfc3339_every_day_of_800_years_returns_unchanged),
        cmocka_unit_test(test_rfc3339_parse_rfc_examples),
        cmocka_unit_test(test_rfc3339_parse_anything_else_refused),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
