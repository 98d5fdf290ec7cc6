// links: headgate_deliver
#include <string>

#include "lua-free-tests/cmocka_cpp.h"  // last
#include "sidecar/deliver/trace_context.h"

using namespace headgate;

namespace {

const std::string kTrace = "0af7651916cd43dd8448eb211c80319c";
const std::string kParent = "b7ad6b7169203331";

std::string child(const std::string& received) { return child_traceparent(received, 0x0123456789abcdef); }

void test_child_traceparent_keeps_trace_and_sampled(void**) {
    assert_string_equal(child("00-" + kTrace + "-" + kParent + "-01").c_str(),
                        ("00-" + kTrace + "-0123456789abcdef-01").c_str());
    assert_string_equal(child("00-" + kTrace + "-" + kParent + "-00").c_str(),
                        ("00-" + kTrace + "-0123456789abcdef-00").c_str());
    // Flags that version 00 does not have are not passed on.
    assert_string_equal(child("00-" + kTrace + "-" + kParent + "-ff").c_str(),
                        ("00-" + kTrace + "-0123456789abcdef-01").c_str());
    assert_string_equal(child_traceparent("00-" + kTrace + "-" + kParent + "-01", 0).c_str(),
                        ("00-" + kTrace + "-0000000000000001-01").c_str());
}

void test_child_traceparent_newer_versions_are_read_as_00(void**) {
    const std::string expected = "00-" + kTrace + "-0123456789abcdef-01";
    assert_string_equal(child("cc-" + kTrace + "-" + kParent + "-01").c_str(), expected.c_str());
    assert_string_equal(child("01-" + kTrace + "-" + kParent + "-01-what-comes").c_str(), expected.c_str());
    assert_string_equal(child("01-" + kTrace + "-" + kParent + "-01x").c_str(), "");
    assert_string_equal(child("00-" + kTrace + "-" + kParent + "-01-more").c_str(), "");
    assert_string_equal(child("ff-" + kTrace + "-" + kParent + "-01").c_str(), "");
}

void test_child_traceparent_invalid_is_none(void**) {
    const std::string good = "00-" + kTrace + "-" + kParent + "-01";
    for (std::size_t length = 0; length < good.size(); ++length) assert_true(child(good.substr(0, length)).empty());
    for (std::size_t place = 0; place < good.size(); ++place) {
        for (char wrong : {'g', 'A', ' ', '\n', '\0'}) {
            std::string bad = good;
            bad[place] = wrong;
            assert_true(child(bad).empty());
            assert_true(trace_id(bad).empty());
        }
    }
    assert_true(child("00-" + std::string(32, '0') + "-" + kParent + "-01").empty());
    assert_true(child("00-" + kTrace + "-" + std::string(16, '0') + "-01").empty());
    assert_true(trace_id(good) == kTrace);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(test_child_traceparent_keeps_trace_and_sampled),
        cmocka_unit_test(test_child_traceparent_newer_versions_are_read_as_00),
        cmocka_unit_test(test_child_traceparent_invalid_is_none),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
