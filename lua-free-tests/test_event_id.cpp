#include <set>
#include <string>

#include "common/event_id.h"
#include "lua-free-tests/cmocka_cpp.h"  // last

using namespace headgate;

namespace {

void test_uuid7_format_rfc9562_example(void**) {
    // RFC 9562, appendix A.6: 2022-02-22T19:22:22Z, rand_a 0xCC3, rand_b 0x18C4DC0C0C07398F.
    char text[kEventIdBytes];
    uuid7_format(0x017F22E279B0, {0xfC, 0xC3, 0xd8, 0xC4, 0xDC, 0x0C, 0x0C, 0x07, 0x39, 0x8F}, text);
    assert_memory_equal(text, "017f22e2-79b0-7cc3-98c4-dc0c0c07398f", kEventIdBytes);
}

void test_uuid7_epoch_ms_is_what_went_in(void**) {
    for (const std::int64_t at_ms : {std::int64_t{0}, std::int64_t{0x017F22E279B0}, std::int64_t{1'700'000'000'123},
                                     (std::int64_t{1} << 48) - 1}) {
        assert_int_equal(uuid7_epoch_ms(uuid7(at_ms)), at_ms);
    }
}

void test_uuid7_ids_are_distinct_and_valid_and_sort_by_time(void**) {
    std::set<std::string> ids;
    for (int i = 0; i < 1'000; ++i) {
        const std::string id = uuid7(1'700'000'000'000);
        assert_true(uuid_is_valid(id));
        ids.insert(id);
    }
    assert_int_equal(ids.size(), 1'000);
    assert_true(*ids.rbegin() < uuid7(1'700'000'000'001));
}

void test_uuid_is_valid_other_forms_refused(void**) {
    assert_true(uuid_is_valid("017f22e2-79b0-7cc3-98c4-dc0c0c07398f"));
    for (const char* text : {"", "017F22E2-79B0-7CC3-98C4-DC0C0C07398F", "017f22e279b07cc398c4dc0c0c07398f",
                             "017f22e2-79b0-7cc3-98c4-dc0c0c07398", "017f22e2-79b0-7cc3-98c4-dc0c0c07398f0",
                             "017f22e2-79b0-7cc3-98c4xdc0c0c07398f", "017f22e-279b0-7cc3-98c4-dc0c0c07398f",
                             "g17f22e2-79b0-7cc3-98c4-dc0c0c07398f", "017f22e2-79b0-7cc3-98c4-dc0c0c07398\n"}) {
        assert_false(uuid_is_valid(text));
    }
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(test_uuid7_format_rfc9562_example),
        cmocka_unit_test(test_uuid7_epoch_ms_is_what_went_in),
        cmocka_unit_test(test_uuid7_ids_are_distinct_and_valid_and_sort_by_time),
        cmocka_unit_test(test_uuid_is_valid_other_forms_refused),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
