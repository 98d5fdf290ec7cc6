// links: headgate_base
#include <string>

#include "lua-free-tests/cmocka_cpp.h"  // last
#include "sidecar/base/log.h"
#include "sidecar/base/trouble.h"

using namespace headgate;
using std::chrono::seconds;

namespace {

void test_log_members_json_quantities_are_numbers_and_ids_are_text(void**) {
    const std::string line =
        "delivery.attempt delivery=018f-1 org=123 attempt=2 status=500 duration_ms=12 trace=" + std::string(32, '7') +
        " error=" + log_value("a \"b\"\n=c");
    assert_string_equal(log_members_json(line).c_str(),
                        ("\"event\":\"delivery.attempt\",\"delivery\":\"018f-1\",\"org\":\"123\",\"attempt\":2,"
                         "\"status\":500,\"duration_ms\":12,\"trace\":\"" +
                         std::string(32, '7') + "\",\"error\":\"a \\\"b\\\"\\n=c\"")
                            .c_str());
    assert_string_equal(log_members_json("stopped").c_str(), "\"event\":\"stopped\"");
    assert_string_equal(log_members_json("x entries=007").c_str(), "\"event\":\"x\",\"entries\":\"007\"");
}

// A raw quote within a value would end the JSON string early.
void test_log_members_json_what_is_no_pairs_is_a_message(void**) {
    assert_string_equal(log_members_json("x a=1 some words").c_str(), "\"event\":\"x\",\"message\":\"a=1 some words\"");
    assert_string_equal(log_members_json("x error=\"a \" b\"").c_str(),
                        "\"event\":\"x\",\"message\":\"error=\\\"a \\\" b\\\"\"");
    assert_string_equal(log_members_json("x error=\"open").c_str(), "\"event\":\"x\",\"message\":\"error=\\\"open\"");
    assert_string_equal(log_members_json("").c_str(), "\"event\":\"\"");
}

void test_log_limit_holds_back_and_tells_how_many(void**) {
    LogLimit limit;
    const auto start = std::chrono::steady_clock::time_point() + seconds(100);
    for (std::size_t i = 0; i < LogLimit::kLinesMax; ++i) assert_true(limit.judge("a", start).is_let_through);
    for (int i = 0; i < 3; ++i) assert_false(limit.judge("a", start + seconds(1)).is_let_through);
    assert_true(limit.judge("b", start + seconds(1)).is_let_through);
    const LogLimit::Verdict later = limit.judge("a", start + LogLimit::kSpan);
    assert_true(later.is_let_through && later.held_back == 3);
    assert_int_equal(limit.judge("a", start + LogLimit::kSpan).held_back, 0);
}

void test_trouble_is_told_when_it_begins_changes_and_ends(void**) {
    Trouble trouble;
    const auto start = std::chrono::steady_clock::time_point() + seconds(100);
    assert_int_equal(trouble.end(), 0);
    assert_true(trouble.is_news("full", start));
    assert_false(trouble.is_news("full", start + seconds(1)));
    assert_true(trouble.is_news("locked", start + seconds(2)));
    assert_false(trouble.is_news("locked", start + seconds(2) + Trouble::kReminder - seconds(1)));
    assert_true(trouble.is_news("locked", start + seconds(2) + Trouble::kReminder));
    assert_int_equal(trouble.end(), 5);
    assert_int_equal(trouble.end(), 0);
    assert_true(trouble.is_news("locked", start + seconds(70)));
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(test_log_members_json_quantities_are_numbers_and_ids_are_text),
        cmocka_unit_test(test_log_members_json_what_is_no_pairs_is_a_message),
        cmocka_unit_test(test_log_limit_holds_back_and_tells_how_many),
        cmocka_unit_test(test_trouble_is_told_when_it_begins_changes_and_ends),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
