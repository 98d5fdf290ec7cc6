#include <string>
#include <string_view>
#include <vector>

#include "common/base64url.h"
#include "common/claim_text.h"
#include "lua-free-tests/cmocka_cpp.h"  // last

using namespace headgate;

namespace {

// "-" when it is absent.
std::string text_at(std::string_view payload, const std::vector<std::string_view>& path) {
    return claim_text(payload, path).value_or("-");
}
std::string text_of_value(std::string_view value) {
    return text_at(R"({"a":0,"c" : )" + std::string(value) + R"( ,"z":1})", {"c"});
}

void test_claim_text_values_table(void**) {
    const struct {
        std::string_view json, text;
    } table[] = {
        {R"("")", ""},
        {R"("plain")", "plain"},
        {R"("é € 😀")", "é € 😀"},
        {R"("a\"b\\c\/d")", "a\"b\\c/d"},
        {R"("\u00e9\ud83d\ude00")", "é😀"},
        {R"("[1,2]")", "[1,2]"},
        {R"("a\r\nX-Admin: 1")", "-"},
        {R"("a\tb")", "-"},
        {R"("\u007f")", "-"},
        {"true", "1"},
        {"false", "0"},
        {"null", "-"},
        {"0", "0"},
        {"-0", "0"},
        {"-0.0", "0"},
        {"0e5", "0"},
        {"1", "1"},
        {"-17", "-17"},
        {"1700000000.0", "1700000000"},
        {"1e3", "1000"},
        {"1.5", "1.5"},
        {"0.10", "0.10"},
        {"1E-2", "1E-2"},
        {"9007199254740991", "9007199254740991"},
        {"9007199254740992", "9007199254740992"},
        {"9007199254740993", "9007199254740993"},
        {"-9007199254740993", "-9007199254740993"},
        {"9223372036854775808", "9223372036854775808"},
        {"123456789012345678901234567890", "123456789012345678901234567890"},
        {"1e30", "1e30"},
        {"1e300", "1e300"},
        {"{}", "-"},
        {R"({"a":1})", "-"},
        {"[]", ""},
        {"[ ]", ""},
        {R"(["a"])", "a"},
        {R"([ "a" , 1, true,false , 2.50,"x,y" ])", "a,1,1,0,2.50,x,y"},
        {R"(["",""])", ","},
        {R"(["a",null])", "-"},
        {R"(["a",["b"]])", "-"},
        {R"(["a",{}])", "-"},
        {R"(["a","b\n"])", "-"},
    };
    for (const auto& row : table) {
        const std::string actual = text_of_value(row.json), expected(row.text);
        assert_string_equal(actual.c_str(), expected.c_str());
    }
}

void test_claim_text_paths_table(void**) {
    constexpr std::string_view kPayload =
        R"({ "sub":"u1", "realm_access" : {"roles":["a","b"],"x":{"y":{"z":7}}}, "a.b":"dotted", "":"empty",)"
        R"( "text":"\"sub\":\"evil\"", "\u0065sc\"aped":"yes", "nested":"{\"sub\":\"evil\"}", "list":[{"k":1}],"last":"l"})";
    const struct {
        std::vector<std::string_view> path;
        std::string_view text;
    } table[] = {
        {{"sub"}, "u1"},
        {{"realm_access", "roles"}, "a,b"},
        {{"realm_access", "x", "y", "z"}, "7"},
        {{"realm_access"}, "-"},
        {{"realm_access", "nothing"}, "-"},
        {{"realm_access", "roles", "a"}, "-"},
        {{"sub", "x"}, "-"},
        {{"a.b"}, "dotted"},
        {{"a", "b"}, "-"},
        {{""}, "empty"},
        {{"esc\"aped"}, "yes"},
        {{"nested", "sub"}, "-"},
        {{"list"}, "-"},
        {{"list", "k"}, "-"},
        {{"Sub"}, "-"},
        {{"su"}, "-"},
        {{"last"}, "l"},
        {{}, "-"},
    };
    for (const auto& row : table) {
        const std::string actual = text_at(kPayload, row.path), expected(row.text);
        assert_string_equal(actual.c_str(), expected.c_str());
    }
}

// No promise but to stay within the text.
void test_claim_text_of_other_text_is_safe(void**) {
    const std::string payload = R"({"a":{"b":["x\n",1,{"c":"\ud83d"}]},"d":-1.5e3})";
    for (std::size_t bytes = 0; bytes <= payload.size(); ++bytes) {
        for (std::size_t from = 0; from <= bytes; ++from) {
            const std::string part = payload.substr(from, bytes - from);
            (void)text_at(part, {"a", "b"});
            (void)text_at(part, {"d"});
        }
    }
    for (const std::string_view text :
         {"", " ", "\"", "\"\\", "{", "[", "]", "}", "{\"a\"", "{\"a\":", "{\"a\":}", "{,}", "[,]"}) {
        assert_true(text_at(text, {"a"}) == "-");
    }
    assert_true(text_at(std::string(100'000, '['), {"a"}) == "-");
}

void test_jwt_payload_is_the_second_segment(void**) {
    const std::string payload = R"({"sub":"u1"})";
    const std::string token = "eyJhbGciOiJIUzI1NiJ9." + base64url_encode(payload) + ".AAAA";
    assert_true(jwt_payload(token) == payload);
    for (const std::string_view other : {"", "x", "a.b", "a.b.c.d", "a.=.c", "a.b.c", "a. .c"}) {
        assert_false(jwt_payload(other).has_value());
    }
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(test_claim_text_values_table),
        cmocka_unit_test(test_claim_text_paths_table),
        cmocka_unit_test(test_claim_text_of_other_text_is_safe),
        cmocka_unit_test(test_jwt_payload_is_the_second_segment),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
