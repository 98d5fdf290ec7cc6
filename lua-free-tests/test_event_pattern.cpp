// links: headgate_match
#include <string>
#include <string_view>
#include <vector>

#include "lua-free-tests/cmocka_cpp.h"  // last
#include "sidecar/match/event_pattern.h"

using namespace headgate;

namespace {

bool matches(std::string_view pattern, std::string_view type, bool is_operational = false) {
    return event_pattern_matches(parse_event_pattern(pattern).value(), type, is_operational);
}

void test_event_pattern_matches_table(void**) {
    struct Row {
        std::string_view pattern, type;
        bool wanted;
    };
    static constexpr Row kRows[] = {
        {"order.created", "order.created", true},
        {"order.created", "order.createdx", false},
        {"order.created", "order", false},
        {"order.created", "Order.created", false},
        {"order.*", "order.created", true},
        {"order.*", "order.item.added", true},
        {"order.*", "order", false},
        {"order.*", "order.", false},
        {"order.*", "orders.created", false},
        {"order.item.*", "order.item.added", true},
        {"order.item.*", "order.items", false},
        {"*", "order.created", true},
        {"*", "x", true},
        {"a:b-c_d", "a:b-c_d", true},
    };
    for (const Row& row : kRows) {
        const bool is_match = matches(row.pattern, row.type);
        if (is_match != row.wanted) {
            print_error("%s against %s\n", row.pattern.data(), row.type.data());
        }
        assert_int_equal(is_match, row.wanted);
    }
}

void test_event_pattern_operational_only_exact(void**) {
    assert_true(matches("webhook.disabled", "webhook.disabled", true));
    assert_false(matches("*", "webhook.disabled", true));
    assert_false(matches("webhook.delivery.*", "webhook.delivery.exhausted", true));
}

void test_parse_event_pattern_mistakes_refused(void**) {
    for (const std::string_view text :
         {"", ".*", "**", "order*", "*.created", "order.*.created", "order.* ", "or der", "order\r\nx", "webhook.*"}) {
        assert_false(parse_event_pattern(text).has_value());
    }
    assert_true(parse_event_pattern(std::string(128, 'a')).has_value());
    assert_false(parse_event_pattern(std::string(129, 'a')).has_value());
    assert_true(parse_event_pattern(std::string(128, 'a') + ".*").has_value());
}

void test_validate_event_patterns_bounds(void**) {
    assert_false(validate_event_patterns({}).has_value());
    assert_true(validate_event_patterns(std::vector<std::string>(64, "a.b")).has_value());
    assert_false(validate_event_patterns(std::vector<std::string>(65, "a.b")).has_value());
    assert_false(validate_event_patterns({"a.b", "a b"}).has_value());
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(test_event_pattern_matches_table),
        cmocka_unit_test(test_event_pattern_operational_only_exact),
        cmocka_unit_test(test_parse_event_pattern_mistakes_refused),
        cmocka_unit_test(test_validate_event_patterns_bounds),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
