#include <string>
#include <string_view>

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
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
