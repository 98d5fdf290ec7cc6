#include <string_view>

#include "common/scopes.h"
#include "lua-free-tests/cmocka_cpp.h"  // last

using namespace headgate;

namespace {

void test_scope_satisfies_table(void**) {
    const struct {
        std::string_view granted, required;
        bool satisfied;
    } table[] = {
        {"events:write", "events:write", true},
        {"events:write", "events:read", false},
        {"events:write", "events:writer", false},
        {"events:write", "events:writ", false},
        {"admin", "events:write", true},
        {"admin", "admin", true},
        {"admin", "*:read", true},
        {"administrator", "events:write", false},
        {"events:write", "admin", false},
        {"events:*", "events:write", true},
        {"events:*", "events:*", true},
        {"events:*", "events:", false},
        {"events:*", "events", false},
        {"events:*", "events_old:read", false},
        {"events:*", "admin", false},
        {"*:read", "events:read", true},
        {"*:read", "inbox:read", true},
        {"*:read", "events:write", false},
        {"*:read", ":read", false},
        {"*:read", "events:*", false},
        {"*:read", "events:spread", false},
        {"events:read", "*:read", false},
        {"events:read", "events:*", false},
        {"*", "events:read", false},
        {":*", "events:read", false},
        {"*:", "events:", false},
        {"", "events:read", false},
        {"admin", "", false},
        {"", "", false},
    };
    for (const auto& row : table) {
        assert_int_equal(scope_satisfies(row.granted, row.required), row.satisfied);
    }
}

void test_scopes_allow_lists(void**) {
    assert_true(scopes_allow("events:read events:write", "events:write"));
    assert_true(scopes_allow("  events:read   events:write ", "events:write"));
    assert_false(scopes_allow("events:read inbox:read", "events:write"));
    assert_false(scopes_allow("", "events:write"));
    assert_false(scopes_allow("events:read\tadmin", "events:write"));  // only spaces separate
    assert_true(scopes_allow_all("events:* *:read", "events:write inbox:read"));
    assert_false(scopes_allow_all("events:* *:read", "events:write inbox:ack"));
    assert_true(scopes_allow_all("", ""));
    assert_true(scopes_allow_all("events:read", " "));
    assert_false(scopes_allow_all("", "events:read"));
}

void test_scopes_under_ceiling_is_never_more_than_either(void**) {
    const struct {
        std::string_view granted, ceiling, left;
    } table[] = {
        {"events:write events:read", "admin", "events:write events:read"},
        {"admin", "admin", "admin"},
        {"admin", "events:*", "events:*"},
        {"admin", "events:read inbox:read", "events:read inbox:read"},
        {"events:write keys:write", "events:*", "events:write"},
        {"events:*", "events:read", "events:read"},
        {"*:read", "events:*", "events:read"},
        {"events:*", "*:read", "events:read"},
        {"events:* *:read", "*:read events:*", "events:read events:* *:read"},
        {"events:read events:read", "*:read events:read", "events:read"},
        {"events:write", "inbox:*", ""},
        {"events:write", "", ""},
        {"", "admin", ""},
    };
    for (const auto& row : table) {
        const bool equal = scopes_under_ceiling(row.granted, row.ceiling) == row.left;
        assert_true(equal);
        assert_true(scopes_allow_all(row.granted, row.left) && scopes_allow_all(row.ceiling, row.left));
    }
}

void test_scope_is_valid_table(void**) {
    for (const std::string_view scope : {"admin", "events:read", "my_app:do_it", "events:*", "*:read", "a:b*"}) {
        assert_true(scope_is_valid(scope));
    }
    for (const std::string_view scope : {"", "events", "events:", ":read", "*", "*:*", "Events:read", "events:read2",
                                         "events:read:all", "events read", "ev*:read", "events:read ", "admin "}) {
        assert_false(scope_is_valid(scope));
    }
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(test_scope_satisfies_table),
        cmocka_unit_test(test_scopes_allow_lists),
        cmocka_unit_test(test_scopes_under_ceiling_is_never_more_than_either),
        cmocka_unit_test(test_scope_is_valid_table),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
