#include <string>
#include <string_view>

#include "common/base64url.h"
#include "common/limits.h"
#include "common/webhook_signature.h"
#include "lua-free-tests/cmocka_cpp.h"  // last

using namespace headgate;

namespace {

// Computed with the reference library for JavaScript, `standardwebhooks`, and node:crypto.
constexpr struct {
    std::string_view secret, id;
    std::int64_t timestamp_seconds;
    std::string_view body, v1, sha256_hex;
} kVectors[] = {
    {"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, R"({"test": 2432232314})",
     "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
     "sha256=e2cb4f5251572539d458bfb8a7adb533b08801e6a794467e06f771debbb0818b"},
    {"whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", "0190d2b0-0000-7000-8000-000000000000", 1700000000,
     "{\"type\":\"order.created\",\"payload\":{\"name\":\"Gr\xc3\xbc\xc3\x9f"
     "e \xe2\x82\xac\"}}",
     "v1,NS1aqN5gP7bEH2gfzH43isaWyvpU1VCJqdrb4RhKlwM=",
     "sha256=a35a1e474c25e3e96bd1d216b68cab2803d6588a039bc18ea4f1fe8f87b67527"},
};

HmacSha256Key key_of(std::string_view secret) { return HmacSha256Key(*webhook_secret_bytes(secret)); }

void test_sign_reference_vectors(void**) {
    for (const auto& vector : kVectors) {
        const HmacSha256Key key = key_of(vector.secret);
        assert_true(sign_standard_v1(key, vector.id, vector.timestamp_seconds, vector.body) == vector.v1);
        assert_true(sign_sha256_hex(key, vector.body) == vector.sha256_hex);
        const std::string timestamp = std::to_string(vector.timestamp_seconds);
        assert_true(verify_standard(key, vector.id, timestamp, vector.v1, vector.body, vector.timestamp_seconds, 300));
        assert_true(verify_sha256_hex(key, vector.sha256_hex, vector.body));
        assert_true(webhook_secret_text(*webhook_secret_bytes(vector.secret)) == vector.secret);
    }
}

void test_verify_standard_any_change_refused(void**) {
    const auto& v = kVectors[0];
    const HmacSha256Key key = key_of(v.secret);
    const auto verify = [&](std::string_view id, std::string_view timestamp, std::string_view signature,
                            std::string_view body) {
        return verify_standard(key, id, timestamp, signature, body, v.timestamp_seconds, 300);
    };
    assert_true(verify(v.id, "1614265330", v.v1, v.body));
    assert_false(verify("msg_other", "1614265330", v.v1, v.body));
    assert_false(verify(v.id, "1614265331", v.v1, v.body));
    assert_false(verify(v.id, "1614265330", v.v1, "{}"));
    assert_false(verify(v.id, "1614265330", "", v.body));
    assert_false(verify(v.id, "1614265330", v.v1.substr(3), v.body));
    assert_false(verify(v.id, "1614265330", "v2" + std::string(v.v1.substr(2)), v.body));
    assert_false(verify(v.id, "1614265330", std::string(v.v1) + "x", v.body));
    for (const std::string_view timestamp : {"", "01614265330", "+1614265330", "-1614265330", "1614265330 ",
                                             "1614265330.0", "99999999999999999999", "x"}) {
        assert_false(verify(v.id, timestamp, v.v1, v.body));
    }
    // An id that ends with a dot cannot lend its tail to the timestamp: the timestamp is checked as a number of its
    // own.
    assert_false(verify("msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330", "", v.v1, v.body));
}

void test_verify_standard_one_of_several_signatures_suffices(void**) {
    const auto& v = kVectors[0];
    const HmacSha256Key key = key_of(v.secret);
    const std::string other = sign_standard_v1(key_of(kVectors[1].secret), v.id, v.timestamp_seconds, v.body);
    for (const std::string& header :
         {other + " " + std::string(v.v1), std::string(v.v1) + " " + other, "v1a,abc  " + std::string(v.v1)}) {
        assert_true(verify_standard(key, v.id, "1614265330", header, v.body, v.timestamp_seconds, 300));
    }
    assert_false(verify_standard(key, v.id, "1614265330", other + " v1a,abc", v.body, v.timestamp_seconds, 300));
}

void test_verify_standard_tolerance_both_ways(void**) {
    const auto& v = kVectors[0];
    const HmacSha256Key key = key_of(v.secret);
    const auto at = [&](std::int64_t now) { return verify_standard(key, v.id, "1614265330", v.v1, v.body, now, 300); };
    assert_true(at(v.timestamp_seconds + 300) && at(v.timestamp_seconds - 300));
    assert_false(at(v.timestamp_seconds + 301) || at(v.timestamp_seconds - 301));
    assert_false(at(INT64_MAX) || at(INT64_MIN) || at(-1));
}

void test_verify_sha256_hex_other_forms_refused(void**) {
    const auto& v = kVectors[0];
    const HmacSha256Key key = key_of(v.secret);
    assert_false(verify_sha256_hex(key, v.sha256_hex, "{}"));
    assert_false(verify_sha256_hex(key, v.sha256_hex.substr(7), v.body));
    assert_false(verify_sha256_hex(key, "", v.body));
    assert_false(verify_sha256_hex(key, std::string(v.sha256_hex) + "0", v.body));
}

void test_webhook_secret_bytes_forms_and_bounds(void**) {
    assert_true(webhook_secret_bytes("a caller's own string") == "a caller's own string");
    assert_true(webhook_secret_bytes(std::string(limits::kWebhookSecretBytesMin, 'x')).has_value());
    assert_false(webhook_secret_bytes(std::string(limits::kWebhookSecretBytesMin - 1, 'x')).has_value());
    assert_true(webhook_secret_bytes(std::string(limits::kWebhookSecretBytesMax, 'x')).has_value());
    assert_false(webhook_secret_bytes(std::string(limits::kWebhookSecretBytesMax + 1, 'x')).has_value());
    assert_false(webhook_secret_bytes("whsec_not base64 at all!").has_value());
    assert_false(webhook_secret_bytes("whsec_").has_value());
    assert_false(webhook_secret_bytes("whsec_AAECAwQFBgc=").has_value());  // 8 bytes
    assert_false(webhook_secret_bytes("").has_value());
}

void test_make_webhook_secret_is_32_random_bytes(void**) {
    const std::string first = make_webhook_secret(), second = make_webhook_secret();
    assert_true(first != second);
    assert_int_equal(webhook_secret_bytes(first)->size(), 32);
}

std::string bytes_of_hex(std::string_view hex) {
    const auto digit = [](char c) { return c <= '9' ? c - '0' : c - 'a' + 10; };
    std::string bytes;
    for (std::size_t i = 0; i + 1 < hex.size(); i += 2) {
        bytes += static_cast<char>(digit(hex[i]) * 16 + digit(hex[i + 1]));
    }
    return bytes;
}

// RFC 8032, section 7.1, tests 1 to 3.
void test_ed25519_rfc_8032_vectors(void**) {
    struct Vector {
        std::string_view seed, public_key, message, signature;
    };
    for (const Vector& vector :
         {Vector{
              "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
              "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "",
              "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0"
              "595bbe24655141438e7a100b"},
          Vector{
              "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
              "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", "72",
              "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eae"
              "b4302aeeb00d291612bb0c00"},
          Vector{
              "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
              "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025", "af82",
              "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9"
              "716ed28dc027beceea1ec40a"}}) {
        const auto key = Ed25519Key::from_seed(bytes_of_hex(vector.seed));
        assert_true(key.has_value());
        assert_true(key->public_key() == bytes_of_hex(vector.public_key));
        assert_true(key->sign(bytes_of_hex(vector.message)) == bytes_of_hex(vector.signature));
    }
    assert_false(Ed25519Key::from_seed(std::string(31, 'x')).has_value());
    assert_false(Ed25519Key::from_seed(std::string(33, 'x')).has_value());
}

// What is signed for v1a is what is signed for v1.
void test_sign_standard_v1a(void**) {
    const auto key = Ed25519Key::from_seed(std::string(32, '\x07'));
    const std::string signature = key->sign("msg_1.1614265330.{}");
    assert_true(sign_standard_v1a(*key, "msg_1", 1614265330, "{}") == "v1a," + base64_encode(signature));
    assert_true(webhook_public_key_text(*key) == "whpk_" + base64_encode(key->public_key()));
    assert_int_equal(make_ed25519_seed().size(), 32);
    assert_true(make_ed25519_seed() != make_ed25519_seed());
}

KeySet set_of(const Ed25519Key& key) {
    auto material = KeyMaterial::from_ed25519(key.public_key());
    KeySet set;
    set.keys.push_back({"k", (*material)->algorithms(), *material});
    return set;
}

void test_verify_standard_v1a_any_change_refused(void**) {
    const auto key = Ed25519Key::from_seed(std::string(32, '\x07'));
    KeySet keys = set_of(*key);
    const std::string honest = sign_standard_v1a(*key, "msg_1", 1614265330, "{}");
    const std::string other =
        sign_standard_v1a(*Ed25519Key::from_seed(std::string(32, 'x')), "msg_1", 1614265330, "{}");
    const auto verify = [&](std::string_view id, std::string_view timestamp, std::string_view signature,
                            std::string_view body, std::int64_t now = 1614265330) {
        return verify_standard_v1a(keys, id, timestamp, signature, body, now, 300);
    };
    assert_true(verify("msg_1", "1614265330", honest, "{}"));
    assert_true(verify("msg_1", "1614265330", "v1,abc " + other + " v1a, v1a,! " + honest, "{}"));
    assert_true(verify("msg_1", "1614265330", honest, "{}", 1614265630));
    assert_false(verify("msg_1", "1614265330", honest, "{}", 1614265631));
    assert_false(verify("msg_2", "1614265330", honest, "{}"));
    assert_false(verify("msg_1", "1614265331", honest, "{}"));
    assert_false(verify("msg_1", "01614265330", honest, "{}"));
    assert_false(verify("msg_1", "1614265330", honest, "{ }"));
    assert_false(verify("msg_1", "1614265330", other, "{}"));
    assert_false(verify("msg_1", "1614265330", "v1," + honest.substr(4), "{}"));
    assert_false(verify("msg_1", "1614265330", "", "{}"));
    // The id may not reach into the time.
    const std::string longer = sign_standard_v1a(*key, "msg_1", 1614265330, "1614265330.rest");
    assert_false(verify("msg_1.1614265330", "1614265330", longer, "rest"));
    // After a rotation a set may have both.
    keys.keys.push_back(set_of(*Ed25519Key::from_seed(std::string(32, 'x'))).keys[0]);
    assert_true(verify("msg_1", "1614265330", other, "{}"));
}

void test_webhook_public_key_bytes(void**) {
    const auto key = Ed25519Key::from_seed(std::string(32, '\x07'));
    assert_true(webhook_public_key_bytes(webhook_public_key_text(*key)) == key->public_key());
    for (const std::string& text :
         {std::string("whpk_"), std::string("whpk_!"), base64_encode(key->public_key()),
          "whsk_" + base64_encode(key->public_key()), "whpk_" + base64_encode(key->public_key() + "x")}) {
        assert_false(webhook_public_key_bytes(text).has_value());
    }
}

void test_webhook_private_key_seed_forms(void**) {
    const std::string seed(32, '\x07');
    const std::string public_key = Ed25519Key::from_seed(seed)->public_key();
    assert_true(webhook_private_key_seed("whsk_" + base64_encode(seed)) == seed);
    assert_true(webhook_private_key_seed("whsk_" + base64_encode(seed + public_key)) == seed);
    for (const std::string& text :
         {base64_encode(seed), "whsec_" + base64_encode(seed), "whpk_" + base64_encode(public_key),
          std::string("whsk_"), std::string("whsk_!"), "whsk_" + base64_encode(std::string(31, 'x')),
          "whsk_" + base64_encode(seed + std::string(32, 'x')), "whsk_" + base64_encode(seed + public_key + "x")}) {
        assert_false(webhook_private_key_seed(text).has_value());
    }
}

// (id, time, "<time>.rest") and (id.time, time, "rest") are signed as the same text: one of them must not exist.
void test_id_with_a_dot_is_neither_signed_nor_verified(void**) {
    const HmacSha256Key key = key_of(kVectors[0].secret);
    const std::string honest = sign_standard_v1(key, "msg", 1614265330, "1614265999.rest");
    assert_true(verify_standard(key, "msg", "1614265330", honest, "1614265999.rest", 1614265330, 300));
    assert_false(verify_standard(key, "msg.1614265330", "1614265999", honest, "rest", 1614265999, 300));
    assert_true(sign_standard_v1(key, "msg.1", 1614265330, "{}").empty());
    assert_true(sign_standard_v1a(*Ed25519Key::from_seed(std::string(32, 'x')), "msg.1", 1614265330, "{}").empty());
}

void test_webhook_secret_as_text(void**) {
    assert_true(webhook_secret_as_text("an own string, gr\xc3\xbc\xc3\x9f") == "an own string, gr\xc3\xbc\xc3\x9f");
    for (const std::string& bytes :
         {std::string("\xff random bytes.."), std::string("a line\nand another"),
          std::string("with\0zero bytes in", 17), std::string("cut short here \xc3"),
          std::string("overlong \xc0\xaf here"), std::string("surrogate \xed\xa0\x80 here")}) {
        assert_true(webhook_secret_as_text(bytes) == webhook_secret_text(bytes));
    }
    const std::string generated = make_webhook_secret();
    assert_true(webhook_secret_as_text(*webhook_secret_bytes(generated)) == generated);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(test_sign_reference_vectors),
        cmocka_unit_test(test_verify_standard_any_change_refused),
        cmocka_unit_test(test_verify_standard_one_of_several_signatures_suffices),
        cmocka_unit_test(test_verify_standard_tolerance_both_ways),
        cmocka_unit_test(test_verify_sha256_hex_other_forms_refused),
        cmocka_unit_test(test_webhook_secret_bytes_forms_and_bounds),
        cmocka_unit_test(test_make_webhook_secret_is_32_random_bytes),
        cmocka_unit_test(test_ed25519_rfc_8032_vectors),
        cmocka_unit_test(test_sign_standard_v1a),
        cmocka_unit_test(test_verify_standard_v1a_any_change_refused),
        cmocka_unit_test(test_webhook_public_key_bytes),
        cmocka_unit_test(test_webhook_private_key_seed_forms),
        cmocka_unit_test(test_id_with_a_dot_is_neither_signed_nor_verified),
        cmocka_unit_test(test_webhook_secret_as_text),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
