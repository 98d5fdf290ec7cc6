#include <string>
#include <string_view>

#include "common/base64url.h"
#include "lua-free-tests/cmocka_cpp.h"  // last

using namespace headgate;

namespace {

// RFC 4648, section 10.
constexpr struct {
    std::string_view bytes, padded, unpadded;
} kVectors[] = {
    {"", "", ""},
    {"f", "Zg==", "Zg"},
    {"fo", "Zm8=", "Zm8"},
    {"foo", "Zm9v", "Zm9v"},
    {"foob", "Zm9vYg==", "Zm9vYg"},
    {"fooba", "Zm9vYmE=", "Zm9vYmE"},
    {"foobar", "Zm9vYmFy", "Zm9vYmFy"},
};

void test_base64_rfc4648_vectors_both_ways(void**) {
    for (const auto& vector : kVectors) {
        assert_true(base64_encode(vector.bytes) == vector.padded);
        assert_true(base64url_encode(vector.bytes) == vector.unpadded);
        assert_true(base64_decode(vector.padded) == std::string(vector.bytes));
        assert_true(base64url_decode(vector.unpadded) == std::string(vector.bytes));
    }
}

void test_base64_every_byte_value_returns_unchanged(void**) {
    for (std::size_t bytes = 0; bytes < 300; ++bytes) {
        std::string input;
        for (std::size_t i = 0; i < bytes; ++i) {
            input += static_cast<char>(i * 7 + bytes);
        }
        assert_true(base64_decode(base64_encode(input)) == input);
        assert_true(base64url_decode(base64url_encode(input)) == input);
    }
    assert_true(base64url_encode("\xfb\xff\xbf") == "-_-_");
    assert_true(base64_encode("\xfb\xff\xbf") == "+/+/");
}

void test_base64url_decode_not_canonical_refused(void**) {
    for (const std::string_view text : {
             "Zg==",     "Zm8=",    "=",
             "====",               // padding
             "Z",        "Zm9vY",  // six bits too many
             "Zh",       "Zm9",     "Zm9vYh",
             "Zm9vYmF",  "_-",    // trailing bits
             "Zm9v+w",   "Zm/v",  // the other alphabet
             " Zm9v",    "Zm9v ",   "Zm\n9v",
             "Zm9v\r\n",  // white space
             "Zm.v",     "Zm9\x80", "\xc3\xa9\xc3\xa9",
         }) {
        assert_false(base64url_decode(text).has_value());
    }
    assert_false(base64url_decode(std::string_view("Zm9\0", 4)).has_value());
}

void test_base64_decode_not_canonical_refused(void**) {
    for (const std::string_view text : {"Zg", "Zg=", "Zh==", "Zm9=", "Z===", "====", "Zm9vZg", "Zg==Zg==", "Zm-v",
                                        "Zm_v", "Zm9v\n", " m9v", "=Zg=", "Zg=\n"}) {
        assert_false(base64_decode(text).has_value());
    }
}

void test_base64url_decode_into_at_and_over_capacity(void**) {
    char out[4] = {'.', '.', '.', '.'};
    assert_true(base64url_decode_into("Zm9v", out, 3) == std::size_t{3});
    assert_memory_equal(out, "foo.", 4);
    assert_false(base64url_decode_into("Zm9v", out, 2).has_value());
    assert_false(base64url_decode_into("Zm9vYg", out, 3).has_value());
    assert_true(base64url_decode_into("", out, 0) == std::size_t{0});
    // A single character is refused without a byte written.
    assert_false(base64url_decode_into("Z", out, 0).has_value());
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(test_base64_rfc4648_vectors_both_ways),
        cmocka_unit_test(test_base64_every_byte_value_returns_unchanged),
        cmocka_unit_test(test_base64url_decode_not_canonical_refused),
        cmocka_unit_test(test_base64_decode_not_canonical_refused),
        cmocka_unit_test(test_base64url_decode_into_at_and_over_capacity),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
