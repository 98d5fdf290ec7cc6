#include <openssl/err.h>

#include <string>
#include <string_view>

#include "common/limits.h"
#include "lua-free-tests/jwt_fixture.h"  // last

using namespace headgate;
using namespace headgate::jwt_fixture;

namespace {

void test_sign_jwt_hs256_equals_nodes(void**) {
    const auto set = key_set_from_secret(kSecret, JwtAlgorithm::kHs256);
    assert_true(sign_jwt_hs256(set->keys[0], R"({"iss":"headgate"})") ==
                "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCIsImtpZCI6Iklza0xxQWtFMndJYlJLM3QySWhoWVhOTnN4bDhIRG1kdkl0TkhJZFRF"
                "cWMifQ.eyJpc3MiOiJoZWFkZ2F0ZSJ9._US4K3MuKbikHQCfWE9-Ee8pSmTcObHjmG3_UmqKhLs");
    assert_status(verify(sign_jwt_hs256(set->keys[0], payload_with(""))).status, JwtStatus::kOk);
}

// RFC 7515, appendix A.1: the signature is right, and what follows is refused for its age.
void test_verify_jwt_rfc7515_example(void**) {
    const std::string secret =
        *base64url_decode("AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow");
    VerificationKey key{"", {JwtAlgorithm::kHs256}, *KeyMaterial::from_secret(secret)};
    JwtSource source;
    source.keys.keys.push_back(key);
    source.issuer = "joe";
    const auto result = verify_jwt(
        "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxl"
        "LmNvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
        {&source}, {}, kNow);
    assert_status(result.status, JwtStatus::kExpired);
}

void test_verify_jwt_structure_table(void**) {
    const std::string good = token_of(kHeader, payload_with(""));
    assert_status(verify(good).status, JwtStatus::kOk);
    const std::size_t first = good.find('.'), last = good.rfind('.');
    const std::string header = good.substr(0, first), payload = good.substr(first + 1, last - first - 1),
                      mac = good.substr(last + 1);
    for (const std::string& token : {std::string(),
                                     std::string("."),
                                     std::string(".."),
                                     std::string("..."),
                                     header,
                                     header + "." + payload,
                                     good + ".",
                                     good + "." + mac,
                                     good + "." + mac + "." + mac,
                                     "." + payload + "." + mac,
                                     header + ".." + mac,
                                     header + "." + payload + ".",
                                     good + "=",
                                     header + "=." + payload + "." + mac,
                                     " " + good,
                                     good + " ",
                                     good + "\n",
                                     header + ". " + payload + "." + mac,
                                     header + "." + payload + "." + mac.substr(0, 41) + "+/",
                                     header + "." + payload + "." + mac.substr(0, 42) + "\x80",
                                     std::string(R"({"protected":")") + header + R"(","payload":")" + payload +
                                         R"(","signature":")" + mac + "\"}"}) {
        assert_status(verify(token).status, JwtStatus::kMalformed);
    }
    assert_status(verify(good + std::string(1, '\0')).status, JwtStatus::kMalformed);
    // The last character of a MAC carries two bits that mean nothing: they must be zero.
    const std::string alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    for (std::size_t bits = 1; bits < 4; ++bits) {
        std::string changed = good;
        changed.back() = alphabet[alphabet.find(changed.back()) + bits];
        assert_status(verify(changed).status, JwtStatus::kMalformed);
    }
}

void test_verify_jwt_size_at_and_over_the_limit(void**) {
    std::string token;
    for (std::size_t padding = 5'900; token.size() < limits::kTokenBytesMax; ++padding) {
        const std::string next = token_of(kHeader, payload_with(R"("x":")" + std::string(padding, 'x') + "\""));
        if (next.size() > limits::kTokenBytesMax) {
            break;
        }
        token = next;
    }
    assert_in_range(token.size(), limits::kTokenBytesMax - 1, limits::kTokenBytesMax);
    assert_status(verify(token).status, JwtStatus::kOk);
    assert_status(verify(std::string(limits::kTokenBytesMax, 'A')).status, JwtStatus::kMalformed);
    assert_status(verify(std::string(limits::kTokenBytesMax + 1, 'A')).status, JwtStatus::kTooLarge);
}

void test_verify_jwt_header_table(void**) {
    const struct {
        std::string header;
        JwtStatus status;
    } table[] = {
        {R"({"alg":"HS256"})", JwtStatus::kOk},
        {R"({"alg":"HS256","typ":"at+jwt","cty":"x"})", JwtStatus::kOk},
        {R"({"\u0061lg":"HS256"})", JwtStatus::kOk},
        {R"({"alg":"none"})", JwtStatus::kAlgorithm},
        {R"({"alg":"None"})", JwtStatus::kAlgorithm},
        {R"({"alg":"NONE"})", JwtStatus::kAlgorithm},
        {R"({"alg":"hs256"})", JwtStatus::kAlgorithm},
        {R"({"alg":"HS256 "})", JwtStatus::kAlgorithm},
        {R"({"alg":""})", JwtStatus::kAlgorithm},
        {R"({"alg":null})", JwtStatus::kAlgorithm},
        {R"({"alg":256})", JwtStatus::kAlgorithm},
        {R"({"alg":["HS256"]})", JwtStatus::kAlgorithm},
        {R"({"typ":"JWT"})", JwtStatus::kAlgorithm},
        {"{}", JwtStatus::kAlgorithm},
        {R"({"alg":"HS384"})", JwtStatus::kAlgorithm},
        {R"({"alg":"RS256"})", JwtStatus::kAlgorithm},
        {R"({"alg":"ES256"})", JwtStatus::kAlgorithm},
        {R"({"alg":"EdDSA"})", JwtStatus::kAlgorithm},
        {R"({"alg":"HS256","typ":1})", JwtStatus::kMalformed},
        {R"({"alg":"HS256","typ":null})", JwtStatus::kMalformed},
        {R"({"alg":"HS256","crit":[]})", JwtStatus::kMalformed},
        {R"({"alg":"HS256","crit":["exp"],"exp":1})", JwtStatus::kMalformed},
        {R"({"alg":"HS256","b64":false,"crit":["b64"]})", JwtStatus::kMalformed},
        {R"({"alg":"HS256","b64":true})", JwtStatus::kMalformed},
        {R"({"alg":"HS256","enc":"A256GCM"})", JwtStatus::kMalformed},
        {R"({"alg":"HS256","zip":"DEF"})", JwtStatus::kMalformed},
        {R"({"alg":"HS256","kid":")" + kKid + "\"}", JwtStatus::kOk},
        {R"({"alg":"HS256","kid":""})", JwtStatus::kMalformed},
        {R"({"alg":"HS256","kid":null})", JwtStatus::kMalformed},
        {R"({"alg":"HS256","kid":1})", JwtStatus::kMalformed},
        {R"({"alg":"HS256","kid":["x"]})", JwtStatus::kMalformed},
        {R"({"alg":"HS256","kid":"x\u0000"})", JwtStatus::kMalformed},
        {R"({"alg":"HS256","kid":")" + std::string(128, 'k') + "\"}", JwtStatus::kUnknownKid},
        {R"({"alg":"HS256","kid":")" + std::string(129, 'k') + "\"}", JwtStatus::kMalformed},
        {R"({"alg":"HS256","kid":")" + std::string(5'000, 'k') + "\"}", JwtStatus::kMalformed},
        {R"({"alg":"HS256","kid":"../../dev/null"})", JwtStatus::kUnknownKid},
        {R"({"alg":"HS256","kid":")" + kKid.substr(1) + "\"}", JwtStatus::kUnknownKid},
        {R"({"alg":"HS384","kid":")" + kKid + "\"}", JwtStatus::kAlgorithm},
    };
    for (const auto& row : table) {
        assert_status(status_of_header(row.header), row.status);
    }
}

// Keys and addresses of keys in the header change nothing: neither is the token refused for them nor are they used.
void test_verify_jwt_keys_in_the_header_are_never_used(void**) {
    const std::string attacker(64, 'x');
    const std::string header = R"({"alg":"HS256","jwk":{"kty":"oct","k":")" + base64url_encode(attacker) +
                               R"("},"jku":"http://127.0.0.1:1/","x5u":"http://127.0.0.1:1/","x5c":["MIIB"]})";
    assert_status(status_of_header(header), JwtStatus::kOk);
    assert_status(verify(token_of(header, payload_with(""), attacker)).status, JwtStatus::kBadSignature);
}

void test_verify_jwt_json_table(void**) {
    const std::string nested_9(9, '['), closed_9(9, ']');
    assert_status(status_of_payload(payload_with("\"x\":" + nested_9 + closed_9)), JwtStatus::kOk);  // depth 10
    assert_status(status_of_payload(payload_with(R"("x":"[[[[[[[[[[[[\"[[[[[[[[[[[[")")), JwtStatus::kOk);
    assert_status(status_of_payload(payload_with(R"("X":1,"x":2,"Exp":3)")), JwtStatus::kOk);
    const std::string deep(2'500, '[');
    for (const std::string& payload : {std::string(""),
                                       std::string("[]"),
                                       std::string("null"),
                                       std::string("\"x\""),
                                       std::string("1"),
                                       std::string("{"),
                                       payload_with("") + "x",
                                       payload_with("") + "{}",
                                       payload_with(R"("exp":1700003600)"),
                                       payload_with(R"("\u0065xp":1700003600)"),
                                       payload_with(R"("x":{"a":1,"a":2})"),
                                       payload_with("\"x\":[" + nested_9 + closed_9 + "]"),
                                       deep,
                                       payload_with("\"x\":" + deep),
                                       payload_with("\"x\":\"\xff\""),
                                       payload_with("\"x\":\"\xc0\xaf\""),
                                       payload_with("\"x\":\"\xed\xa0\x80\""),
                                       payload_with(R"("x":"\ud800")"),
                                       payload_with(R"("x":"a\u0000b")"),
                                       payload_with(R"("a\u0000":1)"),
                                       payload_with("\"x\":\"\n\""),
                                       payload_with(R"("x":01)"),
                                       payload_with(R"("x":NaN)"),
                                       payload_with(R"("x":1e999)"),
                                       payload_with("") + ",",
                                       "\xef\xbb\xbf" + payload_with(""),
                                       payload_with("") + std::string(1, '\0'),
                                       std::string(1, '\0') + payload_with("")}) {
        assert_status(status_of_payload(payload), JwtStatus::kMalformed);
    }
    for (const std::string& header :
         {std::string("[]"), std::string("\"HS256\""), std::string(R"({"alg":"HS256","alg":"HS256"})"),
          std::string(R"({"alg":"none","alg":"HS256"})"), std::string(R"({"alg":"HS256"}x)"),
          R"({"alg":"HS256","x":[)" + nested_9 + closed_9 + "]}", std::string("{\"alg\":\"HS256\",\"x\":\"\xff\"}"),
          std::string(R"({"alg":"HS256\u0000"})")}) {
        assert_status(status_of_header(header), JwtStatus::kMalformed);
    }
}

void test_verify_jwt_kid_chooses_the_key(void**) {
    const std::string other_secret(64, 'b');
    JwtSource source = source_of(kSecret);
    source.keys.keys.push_back(source_of(other_secret).keys.keys[0]);
    const auto verify_with = [&source](std::string_view kid, std::string_view secret) {
        const std::string header =
            kid.empty() ? std::string(kHeader) : R"({"alg":"HS256","kid":")" + std::string(kid) + "\"}";
        return verify_jwt(token_of(header, payload_with(""), secret), {&source}, {}, kNow);
    };
    assert_status(verify_with(thumbprint_of_secret(other_secret), other_secret).status, JwtStatus::kOk);
    assert_status(verify_with(kKid, other_secret).status, JwtStatus::kBadSignature);
    const auto without = verify_with("", other_secret);
    assert_status(without.status, JwtStatus::kOk);
    assert_true(without.claims.kid == thumbprint_of_secret(other_secret));
}

// At the bound and beyond it, within a source and across sources. A kid, or another alg, takes keys out of the count.
void test_verify_jwt_tries_a_bounded_number_of_keys(void**) {
    constexpr std::size_t kMax = limits::kTokenKeysTriedMax;
    const auto secret_of = [](std::size_t i) { return std::string(63, 'b') + static_cast<char>('0' + i); };
    JwtSource one, front, back;
    front.keys = source_of(std::string(64, 'y')).keys;
    front.keys.keys[0].algorithms = {JwtAlgorithm::kHs384};  // does not count
    for (std::size_t i = 0; i <= kMax; ++i) {
        const VerificationKey key = source_of(secret_of(i)).keys.keys[0];
        one.keys.keys.push_back(key);
        (i < kMax / 2 ? front : back).keys.keys.push_back(key);
    }
    for (const std::vector<const JwtSource*>& sources : {std::vector<const JwtSource*>{&one}, {&front, &back}}) {
        const auto verify_with = [&sources](std::string_view secret, std::string_view header = kHeader) {
            return verify_jwt(token_of(header, payload_with(""), secret), sources, {}, kNow).status;
        };
        assert_status(verify_with(secret_of(kMax - 1)), JwtStatus::kOk);
        assert_status(verify_with(secret_of(kMax)), JwtStatus::kTooManyKeys);
        assert_status(verify_with("nobody's"), JwtStatus::kTooManyKeys);
        const std::string named = R"({"alg":"HS256","kid":")" + thumbprint_of_secret(secret_of(kMax)) + "\"}";
        assert_status(verify_with(secret_of(kMax), named), JwtStatus::kOk);
        assert_status(verify_with("nobody's", named), JwtStatus::kBadSignature);
    }
    one.keys.keys.pop_back();
    assert_status(verify_jwt(token_of(kHeader, payload_with(""), "nobody's"), {&one}, {}, kNow).status,
                  JwtStatus::kBadSignature);
}

void test_verify_jwt_policy_algorithms(void**) {
    JwtPolicy policy;
    policy.algorithms = {JwtAlgorithm::kRs256};
    assert_status(status_of_payload(payload_with(""), policy), JwtStatus::kAlgorithm);
    policy.algorithms.push_back(JwtAlgorithm::kHs256);
    assert_status(status_of_payload(payload_with(""), policy), JwtStatus::kOk);
}

void test_verify_jwt_signature_any_changed_bit_refused(void**) {
    const std::string good = token_of(kHeader, payload_with(""));
    const std::size_t last = good.rfind('.');
    const std::string mac = *base64url_decode(std::string_view(good).substr(last + 1));
    for (std::size_t bit = 0; bit < mac.size() * 8; ++bit) {
        std::string changed = mac;
        changed[bit / 8] = static_cast<char>(changed[bit / 8] ^ (1 << bit % 8));
        assert_status(verify(good.substr(0, last + 1) + base64url_encode(changed)).status, JwtStatus::kBadSignature);
    }
    for (const std::string& forged : {mac.substr(0, 31), mac + "x", std::string(1, '\0'), std::string(32, '\0')}) {
        assert_status(verify(good.substr(0, last + 1) + base64url_encode(forged)).status, JwtStatus::kBadSignature);
    }
    assert_status(verify(token_of(kHeader, payload_with(""), "wrong")).status, JwtStatus::kBadSignature);
    // The signature is checked before the payload is even parsed.
    assert_status(verify(token_of(kHeader, "rubbish", "wrong")).status, JwtStatus::kBadSignature);
    assert_int_equal(ERR_peek_error(), 0);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(test_sign_jwt_hs256_equals_nodes),
        cmocka_unit_test(test_verify_jwt_rfc7515_example),
        cmocka_unit_test(test_verify_jwt_structure_table),
        cmocka_unit_test(test_verify_jwt_size_at_and_over_the_limit),
        cmocka_unit_test(test_verify_jwt_header_table),
        cmocka_unit_test(test_verify_jwt_keys_in_the_header_are_never_used),
        cmocka_unit_test(test_verify_jwt_json_table),
        cmocka_unit_test(test_verify_jwt_kid_chooses_the_key),
        cmocka_unit_test(test_verify_jwt_tries_a_bounded_number_of_keys),
        cmocka_unit_test(test_verify_jwt_policy_algorithms),
        cmocka_unit_test(test_verify_jwt_signature_any_changed_bit_refused),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
