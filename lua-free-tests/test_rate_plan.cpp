#include <string>
#include <string_view>

#include "common/rate_plan.h"
#include "lua-free-tests/cmocka_cpp.h"  // last

using namespace headgate;

namespace {

void test_parse_rate_window_every_unit(void**) {
    assert_true(*parse_rate_window("5r/s") == (RateWindow{5, 1'000'000, 5}));
    assert_true(*parse_rate_window("60r/m") == (RateWindow{60, 60'000'000, 60}));
    assert_true(*parse_rate_window("1000r/h:50") == (RateWindow{1000, 3'600'000'000, 50}));
    assert_true(*parse_rate_window("1r/d:1") == (RateWindow{1, 86'400'000'000, 1}));
    assert_true(parse_rate_window("1000000000r/d")->burst == 1'000'000'000);
}

void test_parse_rate_window_mistakes_refused_and_quoted(void**) {
    for (const std::string_view text : {"",
                                        "60",
                                        "60r",
                                        "60r/",
                                        "r/m",
                                        "60/m",
                                        "0r/m",
                                        "-1r/m",
                                        "+1r/m",
                                        "1.5r/s",
                                        "60r/w",
                                        "60r/min",
                                        "60r/m:",
                                        "60r/m:0",
                                        "60r/m:-1",
                                        "60r/m:1:2",
                                        "60r/m:x",
                                        "60r/m50",
                                        "60 r/m",
                                        " 60r/m",
                                        "60r/m ",
                                        "1000000001r/s",
                                        "99999999999999999999r/s",
                                        "60r/m:1000000001",
                                        "60r/m:99999999999999999999",
                                        "60R/m",
                                        "60r/M",
                                        "1r/d:3654"}) {
        const auto window = parse_rate_window(text);
        assert_false(window.has_value());
        assert_true(window.error().code == ErrorCode::kInvalidArgument);
        assert_true(window.error().message.find('"' + std::string(text) + '"') != std::string::npos);
    }
    assert_true(parse_rate_window("1r/d:3653").has_value());
    // What is quoted is bounded.
    assert_true(parse_rate_window(std::string(10'000, 'x')).error().message.size() < 300);
}

void test_parse_rate_plan_separators(void**) {
    for (const std::string_view text :
         {"60r/m+1000r/h:50", "60r/m 1000r/h:50", " 60r/m  +  1000r/h:50 ", "60r/m\t1000r/h:50\n"}) {
        const auto plan = parse_rate_plan(text);
        assert_true(plan.has_value());
        assert_int_equal(plan->size(), 2);
        assert_true((*plan)[1] == (RateWindow{1000, 3'600'000'000, 50}));
    }
    assert_int_equal(parse_rate_plan("1r/s+1r/m+1r/h+1r/d")->size(), 4);
}

void test_parse_rate_plan_mistakes_refused(void**) {
    const struct {
        std::string_view text, reason;
    } table[] = {
        {"", "no rate"},
        {" ", "no rate"},
        {"+", "missing"},
        {"60r/m+", "missing"},
        {"+60r/m", "missing"},
        {"60r/m++1r/s", "missing"},
        {"60r/m+5r/m", "one unit"},
        {"60r/m 60r/m", "one unit"},
        {"1r/s 1r/m 1r/h 1r/d 2r/s", "at most 4"},
        {"60r/m,1r/s", "unit"},
        {"60r/m x", "\"x\""},
    };
    for (const auto& row : table) {
        const auto plan = parse_rate_plan(row.text);
        assert_false(plan.has_value());
        assert_true(plan.error().message.find(row.reason) != std::string::npos);
    }
    assert_true(parse_rate_plan("60r/m+5r/m").error().message.find("60r/m+5r/m") != std::string::npos);
}

void test_format_rate_plan_parses_again(void**) {
    for (const std::string_view text : {"60r/m", "60r/m+1000r/h:50", "1r/s:5+2r/m+3r/h:1+4r/d"}) {
        assert_true(format_rate_plan(*parse_rate_plan(text)) == text);
    }
    assert_true(format_rate_plan(*parse_rate_plan("60r/m:60")) == "60r/m");
    assert_true(format_rate_plan({}).empty());
}

void test_window_names(void**) {
    const auto plan = *parse_rate_plan("1r/s+1r/m+1r/h+1r/d");
    std::string names, units;
    for (const auto& window : plan) {
        names.append(window_policy_name(window)).append(" ");
        units += window_unit(window);
    }
    assert_string_equal(names.c_str(), "second minute hour day ");
    assert_string_equal(units.c_str(), "smhd");
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(test_parse_rate_window_every_unit),
        cmocka_unit_test(test_parse_rate_window_mistakes_refused_and_quoted),
        cmocka_unit_test(test_parse_rate_plan_separators),
        cmocka_unit_test(test_parse_rate_plan_mistakes_refused),
        cmocka_unit_test(test_format_rate_plan_parses_again),
        cmocka_unit_test(test_window_names),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
