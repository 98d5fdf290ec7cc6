// links: headgate_match Boost::json
#include <boost/json.hpp>
#include <string>
#include <string_view>

#include "lua-free-tests/cmocka_cpp.h"  // last
#include "sidecar/base/json_read.h"
#include "sidecar/match/filter.h"

using namespace headgate;

namespace {

struct Row {
    std::string_view filter, payload;
    bool wanted;
};

void check(const Row& row) {
    boost::system::error_code error;
    const auto filter = Filter::compile(row.filter);
    const bool is_match = filter.has_value() && filter->matches(read_json(row.payload, 64, error));
    if (!filter || is_match != row.wanted) {
        print_error("%.*s against %.*s: %s\n", static_cast<int>(row.filter.size()), row.filter.data(),
                    static_cast<int>(row.payload.size()), row.payload.data(),
                    filter ? "wrong verdict" : filter.error().message.c_str());
    }
    assert_true(filter.has_value());
    assert_int_equal(is_match, row.wanted);
}

void test_filter_simple_form(void**) {
    constexpr std::string_view kDocumented = R"({"order_status":["paid","shipped"],"min_amount":100})";
    static constexpr Row kRows[] = {
        {kDocumented, R"({"order_status":"paid","amount":100})", true},
        {kDocumented, R"({"order_status":"paid","amount":99.99})", false},
        {kDocumented, R"({"order_status":"open","amount":100})", false},
        {kDocumented, R"({"order_status":"paid"})", false},
        {kDocumented, R"({"order_status":"paid","amount":"100"})", false},
        {R"({"a":1})", R"({"a":1})", true},
        {R"({"a":1})", R"({"a":1.0})", true},
        {R"({"a":1})", R"({"a":true})", false},
        {R"({"a":"1"})", R"({"a":1})", false},
        {R"({"a":null})", R"({"a":null})", true},
        {R"({"a":null})", R"({})", false},
        {R"({"a":[1,"x",null]})", R"({"a":null})", true},
        {R"({"max_attendees":10})", R"({"attendees":10})", true},
        {R"({"max_attendees":10})", R"({"attendees":11})", false},
        {R"({"min_at":"2024-01-01"})", R"({"at":"2024-06-01"})", true},
        {R"({"min_at":"2024-01-01"})", R"({"at":"2023-06-01"})", false},
        {R"({"min_amount":{"$eq":5}})", R"({"min_amount":5})", true},
        {R"({"customer.country":"DE"})", R"({"customer":{"country":"DE"}})", true},
        {R"({"customer":{"country":"DE","min_age":18}})", R"({"customer":{"country":"DE","age":17}})", false},
        {R"({"customer":{"country":"DE","min_age":18}})", R"({"customer":{"country":"DE","age":18}})", true},
        {R"({"customer.country":"DE"})", R"({"customer":"DE"})", false},
        {R"({"tags":"x"})", R"({"tags":["x"]})", false},
        {R"({})", R"({"anything":1})", true},
        {"", R"([])", true},
        {R"({"a":1})", R"([1])", false},
    };
    for (const Row& row : kRows) {
        check(row);
    }
}

void test_filter_operators(void**) {
    static constexpr Row kRows[] = {
        {R"({"a":{"$gt":1,"$lt":3}})", R"({"a":2})", true},
        {R"({"a":{"$gt":1,"$lt":3}})", R"({"a":3})", false},
        {R"({"a":{"$gte":3}})", R"({"a":3})", true},
        {R"({"a":{"$lte":"b"}})", R"({"a":"a"})", true},
        {R"({"a":{"$ne":1}})", R"({"a":2})", true},
        {R"({"a":{"$ne":1}})", R"({})", false},
        {R"({"a":{"$in":[1,2]}})", R"({"a":2})", true},
        {R"({"a":{"$nin":[1,2]}})", R"({"a":2})", false},
        {R"({"a":{"$nin":[1,2]}})", R"({"a":3})", true},
        {R"({"a":{"$nin":[1,2]}})", R"({})", false},
        {R"({"a":{"$startsWith":"or"}})", R"({"a":"order"})", true},
        {R"({"a":{"$endsWith":"er"}})", R"({"a":"order"})", true},
        {R"({"a":{"$endsWith":"er"}})", R"({"a":5})", false},
        {R"({"a":{"$exists":true}})", R"({"a":null})", true},
        {R"({"a":{"$exists":false}})", R"({"b":1})", true},
        {R"({"a":{"$exists":false}})", R"({"a":1})", false},
        {R"({"a":{"$not":{"$eq":1}}})", R"({"a":2})", true},
        {R"({"a":{"$not":{"$eq":1}}})", R"({})", false},
        {R"({"$not":{"a":1}})", R"({"a":1})", false},
        {R"({"$not":{"a":1}})", R"({})", true},
        {R"({"$or":[{"a":1},{"b":1}]})", R"({"b":1})", true},
        {R"({"$or":[{"a":1},{"b":1}]})", R"({"b":2})", false},
        {R"({"$and":[{"a":1},{"b":1}]})", R"({"a":1,"b":1})", true},
        {R"({"$and":[{"a":1},{"b":1}]})", R"({"a":1})", false},
        {R"({"o":{"$or":[{"x":1},{"y":1}]}})", R"({"o":{"y":1}})", true},
        {R"({"a":{"$or":[{"$gt":5},{"$lt":1}]}})", R"({"a":0})", true},
        {R"({"a":{"$or":[{"$gt":5},{"$lt":1}]}})", R"({"a":3})", false},
        {R"({"o":{"$not":{"x":1}}})", R"({"o":{"x":2}})", true},
        {R"({"o":{"$not":{"x":1}}})", R"({})", false},
    };
    for (const Row& row : kRows) {
        check(row);
    }
}

void test_filter_numbers_exact_or_unreadable(void**) {
    static constexpr Row kRows[] = {
        {R"({"a":9007199254740993})", R"({"a":9007199254740993})", true},
        {R"({"a":9007199254740993})", R"({"a":9007199254740992})", false},
        {R"({"a":18446744073709551615})", R"({"a":18446744073709551615})", true},
        {R"({"a":{"$gt":-1}})", R"({"a":18446744073709551615})", true},
        {R"({"a":{"$lt":9223372036854775807}})", R"({"a":9223372036854775806})", true},
        {R"({"a":{"$lt":0.5}})", R"({"a":-9223372036854775808})", true},
        {R"({"min_a":100})", R"({"a":1e20})", true},
        // Beyond 64 bits the digits are lost: neither equal nor different, and $not makes no match of it.
        {R"({"a":100000000000000000001})", R"({"a":100000000000000000002})", false},
        {R"({"a":{"$ne":100000000000000000001}})", R"({"a":100000000000000000002})", false},
        {R"({"$not":{"a":100000000000000000001}})", R"({"a":100000000000000000002})", false},
        {R"({"$or":[{"a":100000000000000000001},{"b":1}]})", R"({"a":100000000000000000002,"b":1})", true},
        // They were taken for equal when it came to an order: 3 matched a maximum of 2.
        {R"({"max_a":100000000000000000002})", R"({"a":100000000000000000003})", false},
        {R"({"$not":{"a":{"$gt":100000000000000000001}}})", R"({"a":100000000000000000002})", false},
        {R"({"max_a":9007199254740992})", R"({"a":9007199254740993.0})", false},
        {R"({"max_a":100000000000000000002})", R"({"a":100000000000000100000})", false},
        {R"({"min_a":100000000000000000002})", R"({"a":100000000000000100000})", true},
        // Fractions of many digits were read a bit beside the nearest double.
        {R"({"a":9007199254740991})", R"({"a":9007199254740991.0})", true},
        {R"({"a":3.0000000000000004e-1})", R"({"a":0.30000000000000004})", true},
        {R"({"a":{"$gt":0.3}})", R"({"a":0.30000000000000004})", true},
    };
    for (const Row& row : kRows) {
        check(row);
    }
}

void test_filter_compile_mistakes_refused(void**) {
    for (const std::string_view text : {"[]",
                                        "1",
                                        "{",
                                        R"({"a":{}})",
                                        R"({"a":[]})",
                                        R"({"a":[[1]]})",
                                        R"({"a":{"$gt":true}})",
                                        R"({"a":{"$regex":"x"}})",
                                        R"({"$gt":1})",
                                        R"({"a":{"$gt":1,"b":2}})",
                                        R"({"a":{"$in":1}})",
                                        R"({"a":{"$exists":1}})",
                                        R"({"a":{"$startsWith":1}})",
                                        R"({"$or":{}})",
                                        R"({"$or":[]})",
                                        R"({"$or":[1]})",
                                        R"({"$not":[]})",
                                        R"({"$not":{}})",
                                        R"({"a..b":1})",
                                        R"({"":1})",
                                        R"({".a":1})",
                                        R"({"min_a":true})"}) {
        const auto filter = Filter::compile(text);
        if (filter) {
            print_error("%.*s was accepted\n", static_cast<int>(text.size()), text.data());
        }
        assert_false(filter.has_value());
        assert_true(filter.error().code == ErrorCode::kUnprocessable);
    }
}

void test_filter_compile_bounds(void**) {
    const auto nested = [](int depth) {
        std::string text;
        for (int i = 0; i < depth; ++i) {
            text += R"({"a":)";
        }
        return text + "1" + std::string(static_cast<std::size_t>(depth), '}');
    };
    assert_true(Filter::compile(nested(kFilterDepthMax)).has_value());
    assert_false(Filter::compile(nested(kFilterDepthMax + 1)).has_value());
    assert_false(Filter::compile(nested(5000)).has_value());

    const auto wide = [](std::size_t members) {
        std::string text = "{";
        for (std::size_t i = 0; i < members; ++i) {
            text += (i == 0 ? "\"f" : ",\"f") + std::to_string(i) + "\":1";
        }
        return text + "}";
    };
    assert_true(Filter::compile(wide(kFilterConditionsMax)).has_value());
    assert_false(Filter::compile(wide(kFilterConditionsMax + 1)).has_value());
    assert_false(Filter::compile(R"({"a":")" + std::string(kFilterBytesMax, 'x') + "\"}").has_value());
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(test_filter_simple_form),
        cmocka_unit_test(test_filter_operators),
        cmocka_unit_test(test_filter_numbers_exact_or_unreadable),
        cmocka_unit_test(test_filter_compile_mistakes_refused),
        cmocka_unit_test(test_filter_compile_bounds),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
