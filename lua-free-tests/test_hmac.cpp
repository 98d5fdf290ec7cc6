#include <openssl/err.h>

#include <atomic>
#include <random>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "common/hmac.h"
#include "lua-free-tests/cmocka_cpp.h"  // last

using namespace headgate;

namespace {

void test_sha256_published_vectors(void**) {
    assert_true(hex_encode(sha256("")) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    assert_true(hex_encode(sha256("abc")) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_true(sha256("a", "bc") == sha256("abc"));
    assert_true(sha256("", "abc") == sha256("abc"));
}

// FIPS 180-4 examples, and one in any pieces.
void test_sha256_published_vectors_in_any_pieces(void**) {
    const std::string text = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
    Sha256 digest;
    assert_string_equal(hex_encode(digest.finish()).c_str(),
                        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    for (std::size_t cut = 0; cut <= text.size(); ++cut) {
        digest.update(std::string_view(text).substr(0, cut));
        digest.update({});
        digest.update(std::string_view(text).substr(cut));
        assert_string_equal(hex_encode(digest.finish()).c_str(),
                            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    }
}

// RFC 4231.
void test_hmac_rfc4231_vectors(void**) {
    const struct {
        std::string key, data;
        std::string_view mac;
    } vectors[] = {
        {std::string(20, '\x0b'), "Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"},
        {"Jefe", "what do ya want for nothing?", "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"},
        {std::string(20, '\xaa'), std::string(50, '\xdd'),
         "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"},
        {std::string(131, '\xaa'), "Test Using Larger Than Block-Size Key - Hash Key First",
         "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"},
        {std::string(131, '\xaa'),
         "This is a test using a larger than block-size key and a larger than block-size data. The key needs to be "
         "hashed before being used by the HMAC algorithm.",
         "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2"},
    };
    for (const auto& vector : vectors) {
        const HmacSha256Key key(vector.key);
        assert_true(hex_encode(key.sign(vector.data)) == vector.mac);
        assert_true(hex_encode(key.sign(vector.data)) == vector.mac);  // the states are not used up
    }
    // An empty secret and an empty message are legal input.
    assert_true(hex_encode(HmacSha256Key("").sign("")) ==
                "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad");
}

// RFC 4231, test cases 1, 2 and 6 (a key longer than either block).
void test_hmac_sha384_and_sha512_vectors(void**) {
    const struct {
        std::string key, text;
        std::string_view sha384, sha512;
    } table[] = {
        {std::string(20, '\x0b'), "Hi There",
         "afd03944d84895626b0825f4ab46907f15f9dadbe4101ec682aa034c7cebc59cfaea9ea9076ede7f4af152e8b2fa9cb6",
         "87aa7cdea5ef619d4ff0b4241a1d6cb02379f4e2ce4ec2787ad0b30545e17cdedaa833b7d6b8a702038b274eaea3f4e4be9d914eeb61f"
         "17"
         "02e696c203a126854"},
        {"Jefe", "what do ya want for nothing?",
         "af45d2e376484031617f78d2b58a6b1b9c7ef464f5a01b47e42ec3736322445e8e2240ca5e69e2c78b3239ecfab21649",
         "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea2505549758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6"
         "b4"
         "b636e070a38bce737"},
        {std::string(131, '\xaa'), "Test Using Larger Than Block-Size Key - Hash Key First",
         "4ece084485813e9088d2c63a041bc5b44f9ef1012a2b588f3cd11f05033ac4c60c2ef6ab4030fe8296248df163f44952",
         "80b24263c7c1a3ebb71493c1dd7be8b49b46d1f41b4aeec1121b013783f8f3526b56d037e05f2598bd0fd2215d6a1e5295e64f73f63f0"
         "ae"
         "c8b915a985d786598"},
    };
    for (const auto& row : table) {
        unsigned char mac[64];
        const HmacKey sha384(Sha2::k384, row.key), sha512(Sha2::k512, row.key);
        sha384.sign_into(row.text, mac);
        assert_true(hex_encode({reinterpret_cast<const char*>(mac), sha384.mac_bytes()}) == row.sha384);
        sha512.sign_into(row.text, mac);
        assert_true(hex_encode({reinterpret_cast<const char*>(mac), sha512.mac_bytes()}) == row.sha512);
        HmacKey(Sha2::k256, row.key).sign_into(row.text, mac);
        const Sha256Digest expected = HmacSha256Key(row.key).sign(row.text);
        assert_memory_equal(mac, expected.data(), expected.size());
    }
}

void test_hmac_parts_equal_their_concatenation(void**) {
    const HmacSha256Key key("0123456789abcdef0123456789abcdef");
    const std::string text = "id.1700000000.body";
    assert_true(key.sign("id", ".1700000000", ".", "body") == key.sign(text));
    assert_true(key.sign("", text) == key.sign(text));
}

void test_hmac_moved_key_still_signs(void**) {
    HmacSha256Key first("first secret");
    const Sha256Digest expected = first.sign("x");
    HmacSha256Key second("second secret");
    second = std::move(first);
    assert_true(second.sign("x") == expected);
}

void test_hmac_shared_by_threads_always_right(void**) {
    const HmacSha256Key key("shared");
    const HmacSha256Key other("other");
    const Sha256Digest expected = key.sign("message"), other_expected = other.sign("message");
    std::atomic<int> wrong{0};
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i) {
        threads.emplace_back([&] {
            for (int n = 0; n < 5'000; ++n) {
                wrong += key.sign("message") != expected || other.sign("mess", "age") != other_expected;
            }
        });
    }
    for (auto& thread : threads) {
        thread.join();
    }
    assert_int_equal(wrong.load(), 0);
    assert_int_equal(ERR_peek_error(), 0);
}

void test_hex_encode_is_lowercase(void**) { assert_true(hex_encode(std::string_view("\x00\xab\xff", 3)) == "00abff"); }

void test_equal_constant_time_compares_length_and_bytes(void**) {
    assert_true(equal_constant_time("", ""));
    assert_true(equal_constant_time("abc", "abc"));
    assert_false(equal_constant_time("abc", "abd"));
    assert_false(equal_constant_time("abc", "ab"));
    assert_false(equal_constant_time("", "a"));
}

// RFC 3720, appendix B.4.
void test_crc32c_rfc3720_vectors(void**) {
    std::string ascending, descending;
    for (int i = 0; i < 32; ++i) {
        ascending += static_cast<char>(i);
        descending += static_cast<char>(31 - i);
    }
    const struct {
        std::string bytes;
        std::uint32_t crc;
    } vectors[] = {
        {std::string(32, '\0'), 0x8A9136AAu},
        {std::string(32, '\xff'), 0x62A8AB43u},
        {ascending, 0x46DD794Eu},
        {descending, 0x113FDB5Cu},
        {"123456789", 0xE3069283u},
        {"", 0u},
    };
    for (const auto& vector : vectors) {
        assert_int_equal(crc32c(vector.bytes), vector.crc);
        assert_int_equal(crc32c_portable(vector.bytes), vector.crc);
    }
}

void test_crc32c_instruction_and_table_agree_at_every_length_and_split(void**) {
    std::mt19937 random(7);
    std::string bytes;
    for (int i = 0; i < 200; ++i) {
        bytes += static_cast<char>(random());
    }
    for (std::size_t length = 0; length <= bytes.size(); ++length) {
        const std::string_view text = std::string_view(bytes).substr(0, length);
        const std::uint32_t whole = crc32c(text);
        assert_int_equal(whole, crc32c_portable(text));
        const std::size_t cut = length / 3;
        assert_int_equal(whole, crc32c(text.substr(cut), crc32c(text.substr(0, cut))));
        assert_int_equal(whole, crc32c_portable(text.substr(cut), crc32c_portable(text.substr(0, cut))));
    }
}

void test_crc32_check_value(void**) {
    assert_int_equal(crc32("123456789"), 0xCBF43926u);
    assert_int_equal(crc32(""), 0u);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(test_sha256_published_vectors),
        cmocka_unit_test(test_sha256_published_vectors_in_any_pieces),
        cmocka_unit_test(test_hmac_rfc4231_vectors),
        cmocka_unit_test(test_hmac_sha384_and_sha512_vectors),
        cmocka_unit_test(test_hmac_parts_equal_their_concatenation),
        cmocka_unit_test(test_hmac_moved_key_still_signs),
        cmocka_unit_test(test_hmac_shared_by_threads_always_right),
        cmocka_unit_test(test_hex_encode_is_lowercase),
        cmocka_unit_test(test_equal_constant_time_compares_length_and_bytes),
        cmocka_unit_test(test_crc32c_rfc3720_vectors),
        cmocka_unit_test(test_crc32c_instruction_and_table_agree_at_every_length_and_split),
        cmocka_unit_test(test_crc32_check_value),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
