#include <array>
#include <string>
#include <string_view>

#include "common/api_key.h"
#include "lua-free-tests/cmocka_cpp.h"  // last

using namespace headgate;

namespace {

std::array<unsigned char, 40> ascending_bytes() {
    std::array<unsigned char, 40> bytes;
    for (std::size_t i = 0; i < bytes.size(); ++i) {
        bytes[i] = static_cast<unsigned char>(i);
    }
    return bytes;
}

void test_make_api_key_known_bytes_known_text(void**) {
    const NewApiKey key = make_api_key(ascending_bytes());
    // Computed independently: base62 of 0x0001020304050607 mod 62^8, base64url, CRC-32 in base62.
    assert_string_equal(key.text.c_str(), "hg_IYT0XLWR_CAkKCwwNDg8QERITFBUWFxgZGhscHR4fICEiIyQlJic1qITMZ");
    assert_true(key.prefix == key.text.substr(0, kApiKeyPrefixBytes));
    assert_int_equal(key.text.size(), kApiKeyBytes);
    assert_true(api_key_is_well_formed(key.text));
}

void test_make_api_key_extreme_bytes_keep_the_width(void**) {
    std::array<unsigned char, 40> bytes;
    for (const int value : {0x00, 0xff}) {
        bytes.fill(static_cast<unsigned char>(value));
        const NewApiKey key = make_api_key(bytes);
        assert_int_equal(key.text.size(), kApiKeyBytes);
        assert_true(api_key_is_well_formed(key.text));
    }
}

void test_make_api_key_random_keys_differ(void**) {
    const NewApiKey first = make_api_key(), second = make_api_key();
    assert_true(first.text != second.text);
    assert_true(first.prefix != second.prefix);
    assert_true(api_key_is_well_formed(first.text) && api_key_is_well_formed(second.text));
}

void test_api_key_is_well_formed_any_single_change_refused(void**) {
    const std::string text = make_api_key(ascending_bytes()).text;
    for (std::size_t i = 0; i < text.size(); ++i) {
        for (const char replacement : {'0', 'A', 'z', '-', '_', ' ', '\0', '\x80'}) {
            std::string changed = text;
            changed[i] = replacement;
            assert_true(api_key_is_well_formed(changed) == (changed == text));
        }
    }
    assert_false(api_key_is_well_formed(""));
    assert_false(api_key_is_well_formed(text.substr(1)));
    assert_false(api_key_is_well_formed(text + "0"));
    assert_false(api_key_is_well_formed(std::string(kApiKeyBytes, 'z')));
}

void test_api_key_hash_depends_on_pepper_and_text(void**) {
    const HmacSha256Key pepper("Jefe"), other("another pepper");
    assert_true(api_key_hash(pepper, "what do ya want for nothing?") ==
                "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    assert_true(api_key_hash(pepper, "a") != api_key_hash(other, "a"));
}

void test_pepper_fingerprint_is_the_macs_beginning(void**) {
    std::string pepper;
    for (int i = 0; i < 8; ++i) {
        pepper += "pepper";
    }
    assert_true(pepper_fingerprint(HmacSha256Key(pepper)) == "f910ffc5d0a05820");
}

void test_secret_file_value_trims_the_end_only(void**) {
    assert_true(secret_file_value("secret\n") == "secret");
    assert_true(secret_file_value("secret \t\r\n\n") == "secret");
    assert_true(secret_file_value(" secret") == " secret");
    assert_true(secret_file_value("a b") == "a b");
    assert_true(secret_file_value("\n \n").empty());
    assert_true(secret_file_value("").empty());
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(test_make_api_key_known_bytes_known_text),
        cmocka_unit_test(test_make_api_key_extreme_bytes_keep_the_width),
        cmocka_unit_test(test_make_api_key_random_keys_differ),
        cmocka_unit_test(test_api_key_is_well_formed_any_single_change_refused),
        cmocka_unit_test(test_api_key_hash_depends_on_pepper_and_text),
        cmocka_unit_test(test_pepper_fingerprint_is_the_macs_beginning),
        cmocka_unit_test(test_secret_file_value_trims_the_end_only),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
