#include <jansson.h>

#include <string>
#include <string_view>

#include "common/problem.h"
#include "common/result.h"
#include "lua-free-tests/cmocka_cpp.h"  // last

using namespace headgate;

namespace {

std::string quoted(std::string_view text) {
    std::string out;
    append_json_string(out, text);
    return out;
}

void test_append_json_string_escapes(void**) {
    assert_true(quoted("plain") == R"("plain")");
    assert_true(quoted("") == R"("")");
    assert_true(quoted("a\"b\\c/d") == R"("a\"b\\c/d")");
    assert_true(quoted("\n\r\t\b\x1f\x7f") == R"("\n\r\t\u0008\u001f\u007f")");
    assert_true(quoted(std::string_view("a\0b", 3)) == R"("a\u0000b")");
    assert_true(quoted("Gr\xc3\xbc\xc3\x9f"
                       "e \xe2\x82\xac \xf0\x9f\x98\x80") ==
                "\"Gr\xc3\xbc\xc3\x9f"
                "e \xe2\x82\xac \xf0\x9f\x98\x80\"");
}

// The Unicode Standard, section 3.9: one U+FFFD for each longest beginning of a valid sequence.
void test_append_json_string_invalid_utf8_replaced(void**) {
    const std::string r = "\xEF\xBF\xBD";
    assert_true(quoted("a\x80"
                       "b") == "\"a" + r + "b\"");
    assert_true(quoted("\xc0\xaf") == "\"" + r + r + "\"");                  // overlong
    assert_true(quoted("\xed\xa0\x80") == "\"" + r + r + r + "\"");          // a surrogate
    assert_true(quoted("\xf4\x90\x80\x80") == "\"" + r + r + r + r + "\"");  // above U+10FFFF
    assert_true(quoted("\xe2\x82") == "\"" + r + "\"");                      // cut off
    assert_true(quoted("\xf0\x9f\x98"
                       "A") == "\"" + r + "A\"");
    assert_true(quoted("\xe2\x82\xc3\xbc") == "\"" + r + "\xc3\xbc\"");
    assert_true(quoted("\xff\"") == "\"" + r + "\\\"\"");
}

void test_append_json_string_every_two_bytes_are_valid_json(void**) {
    for (int pair = 0; pair < 0x10000; ++pair) {
        const char bytes[] = {static_cast<char>(pair >> 8), static_cast<char>(pair)};
        const std::string text = quoted({bytes, 2});
        json_error_t error;
        json_t* value = json_loadb(text.data(), text.size(), JSON_DECODE_ANY | JSON_ALLOW_NUL, &error);
        const bool parsed = json_is_string(value);
        json_decref(value);
        assert_true(parsed);
    }
}

void test_problem_json_members(void**) {
    assert_true(problem_json(429, kQuotaExceededType, "Too \"many\"", R"("errors":[])") ==
                R"({"type":"https://iana.org/assignments/http-problem-types#quota-exceeded",)"
                R"("title":"Too Many Requests","status":429,"detail":"Too \"many\"","success":false,)"
                R"("error":"Too \"many\"","errors":[]})");
    assert_true(problem_json(401, "", "Token expired") ==
                R"({"type":"about:blank","title":"Unauthorized","status":401,"detail":"Token expired",)"
                R"("success":false,"error":"Token expired"})");
}

void test_status_title_of_every_error_code(void**) {
    for (int code = 0; code <= static_cast<int>(ErrorCode::kInternal); ++code) {
        const auto title = status_title(error_traits(static_cast<ErrorCode>(code)).http_status);
        assert_false(title.empty());
        assert_true(title != "Client Error" && title != "Server Error");
    }
    assert_true(status_title(413) == "Content Too Large");
    assert_true(status_title(415) == "Unsupported Media Type");
    assert_true(status_title(422) == "Unprocessable Content");
    assert_true(status_title(418) == "Client Error");
    assert_true(status_title(599) == "Server Error");
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(test_append_json_string_escapes),
        cmocka_unit_test(test_append_json_string_invalid_utf8_replaced),
        cmocka_unit_test(test_append_json_string_every_two_bytes_are_valid_json),
        cmocka_unit_test(test_problem_json_members),
        cmocka_unit_test(test_status_title_of_every_error_code),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
