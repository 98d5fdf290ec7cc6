// Every algorithm: published vectors, keys made here, and what is nearly a signature.
#include <openssl/err.h>

#include <atomic>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "common/limits.h"
#include "lua-free-tests/jwt_fixture.h"  // last
#include "lua-free-tests/jwt_keys.h"
#include "lua-free-tests/jwt_vectors.h"

using namespace headgate;
using namespace headgate::jwt_fixture;
using namespace headgate::jwt_keys;

namespace {

std::vector<JwtAlgorithm> all_algorithms() {
    std::vector<JwtAlgorithm> algorithms;
    for (std::size_t i = 0; i < kJwtAlgorithmCount; ++i) {
        algorithms.push_back(static_cast<JwtAlgorithm>(i));
    }
    return algorithms;
}

std::string header_of(JwtAlgorithm algorithm, std::string_view more = {}) {
    return R"({"alg":")" + std::string(jwt_algorithm_name(algorithm)) + "\"" + std::string(more) + "}";
}
std::string good_token(JwtAlgorithm algorithm) {
    return signed_token(algorithm, header_of(algorithm), payload_with(""), kSecret);
}
bool is_hmac(JwtAlgorithm algorithm) { return algorithm <= JwtAlgorithm::kHs512; }

// One key of each kind, none with an alg of its own.
const JwtSource& everything() {
    static const JwtSource source = [] {
        std::string jwks = R"({"keys":[)" + oct_jwk(kSecret);
        for (const JwtAlgorithm algorithm : {JwtAlgorithm::kRs256, JwtAlgorithm::kEs256, JwtAlgorithm::kEs384,
                                             JwtAlgorithm::kEs512, JwtAlgorithm::kEdDsa}) {
            jwks += "," + jwk(key_for(algorithm));
        }
        JwtSource made;
        made.keys = *key_set_from_jwks(jwks + "]}", SymmetricKeys::kAccept);
        return made;
    }();
    return source;
}
JwtStatus status_of(std::string_view token, const JwtSource& source = everything()) {
    return verify_jwt(token, {&source}, {}, kNow).status;
}

JwtSource source_of_jwk(std::string_view text) {
    JwtSource source;
    source.keys = *key_set_from_jwks(text, SymmetricKeys::kAccept);
    return source;
}

void test_verify_jwt_published_vectors(void**) {
    for (const auto& vector : jwt_vectors::kVectors) {
        JwtSource source = source_of_jwk(vector.jwk);
        source.issuer = "joe";
        const std::string text = std::string(vector.header) + "." + std::string(vector.payload);
        // The signature is right: what is refused is the payload, for its age or for being no JSON.
        const bool is_joe = vector.payload == jwt_vectors::kJoe;
        const auto expected = is_joe ? JwtStatus::kExpired : JwtStatus::kMalformed;
        assert_status(status_of(text + "." + std::string(vector.signature), source), expected);
        std::string changed = *base64url_decode(vector.signature);
        for (const std::size_t at : {std::size_t{0}, changed.size() / 2, changed.size() - 1}) {
            changed[at] = static_cast<char>(changed[at] ^ 1);
            assert_status(status_of(text + "." + base64url_encode(changed), source), JwtStatus::kBadSignature);
            changed[at] = static_cast<char>(changed[at] ^ 1);
        }
    }
}

void test_verify_jwt_every_algorithm_by_its_key_only(void**) {
    for (const JwtAlgorithm algorithm : all_algorithms()) {
        const std::string token = good_token(algorithm);
        assert_status(status_of(token), JwtStatus::kOk);
        for (const VerificationKey& key : everything().keys.keys) {
            JwtSource one;
            one.keys.keys.push_back(key);
            assert_status(status_of(token, one),
                          key.algorithms.contains(algorithm) ? JwtStatus::kOk : JwtStatus::kAlgorithm);
        }
        // A key that is bound to one algorithm serves no other, though it could.
        for (const JwtAlgorithm bound : all_algorithms()) {
            const std::string alg = R"("alg":")" + std::string(jwt_algorithm_name(bound)) + "\"";
            const JwtSource source = source_of_jwk(is_hmac(bound) ? oct_jwk(kSecret, alg) : jwk(key_for(bound), alg));
            assert_status(status_of(token, source), bound == algorithm ? JwtStatus::kOk : JwtStatus::kAlgorithm);
        }
    }
}

// The header says another algorithm than the one that the signature was made with; both fit the key.
void test_verify_jwt_signature_of_another_algorithm_refused(void**) {
    for (const JwtAlgorithm said : all_algorithms()) {
        for (const JwtAlgorithm done : all_algorithms()) {
            const std::string token = signed_token(done, header_of(said), payload_with(""), kSecret);
            assert_status(status_of(token), said == done ? JwtStatus::kOk : JwtStatus::kBadSignature);
        }
    }
}

// RFC 8725, section 2.1: the public key as the secret of an HMAC.
void test_verify_jwt_public_key_as_hmac_secret_refused(void**) {
    for (const JwtAlgorithm algorithm : {JwtAlgorithm::kRs256, JwtAlgorithm::kEs256, JwtAlgorithm::kEdDsa}) {
        EVP_PKEY* const key = key_for(algorithm);
        const std::string pem = public_pem(key);
        JwtSource source;
        source.keys = *key_set_from_file(pem);
        for (const std::string& secret : {pem, pem.substr(0, pem.size() - 1), public_der(key), jwk(key)}) {
            for (const JwtAlgorithm hmac : {JwtAlgorithm::kHs256, JwtAlgorithm::kHs384, JwtAlgorithm::kHs512}) {
                if (secret.size() < 64) {
                    continue;  // Ed25519 in DER has 44 bytes
                }
                const std::string token = signed_token(hmac, header_of(hmac), payload_with(""), secret);
                assert_status(status_of(token, source), JwtStatus::kAlgorithm);
                assert_status(status_of(token), JwtStatus::kBadSignature);
            }
        }
    }
}

void test_verify_jwt_policy_restricts_every_algorithm(void**) {
    for (const JwtAlgorithm allowed : all_algorithms()) {
        JwtPolicy policy;
        policy.algorithms = {allowed};
        for (const JwtAlgorithm algorithm : {JwtAlgorithm::kHs256, JwtAlgorithm::kRs256, JwtAlgorithm::kPs512,
                                             JwtAlgorithm::kEs384, JwtAlgorithm::kEdDsa}) {
            assert_status(verify_jwt(good_token(algorithm), {&everything()}, policy, kNow).status,
                          algorithm == allowed ? JwtStatus::kOk : JwtStatus::kAlgorithm);
        }
    }
}

void test_verify_jwt_ecdsa_near_misses_refused(void**) {
    for (const JwtAlgorithm algorithm : {JwtAlgorithm::kEs256, JwtAlgorithm::kEs384, JwtAlgorithm::kEs512}) {
        EVP_PKEY* const key = key_for(algorithm);
        const std::size_t half = coordinate_bytes(key);
        const std::string text = base64url_encode(header_of(algorithm)) + "." + base64url_encode(payload_with(""));
        const std::string der = openssl_signature(key, algorithm, text), raw = raw_ecdsa(der, half);
        const std::string zero(half, '\0'), one = zero.substr(1) + '\1', ones(half, '\xff');
        const auto status = [&](const std::string& signature) {
            return status_of(text + "." + base64url_encode(signature));
        };
        assert_status(status(raw), JwtStatus::kOk);
        for (const std::string& signature :
             {der, zero + zero, zero + raw.substr(half), raw.substr(0, half) + zero, one + one, one + zero, ones + ones,
              raw.substr(half) + raw.substr(0, half), raw.substr(1), raw + '\0', '\0' + raw,
              raw.substr(0, half - 1) + raw.substr(half, half - 1),
              '\0' + raw.substr(0, half) + '\0' + raw.substr(half), raw + raw, raw.substr(0, half),
              std::string(4'000, '\x30')}) {
            assert_status(status(signature), JwtStatus::kBadSignature);
        }
        // The order of the curve added: the same signature to somebody who reduces.
        const std::unique_ptr<EC_GROUP, OpensslDeleter<EC_GROUP_free>> group(
            EC_GROUP_new_by_curve_name(half == 32   ? NID_X9_62_prime256v1
                                       : half == 48 ? NID_secp384r1
                                                    : NID_secp521r1));
        const BigNumber r(
            BN_bin2bn(reinterpret_cast<const unsigned char*>(raw.data()), static_cast<int>(half), nullptr));
        BN_add(r.get(), r.get(), EC_GROUP_get0_order(group.get()));
        std::string added(half, '\0');
        if (BN_bn2binpad(r.get(), reinterpret_cast<unsigned char*>(added.data()), static_cast<int>(half)) > 0) {
            assert_status(status(added + raw.substr(half)), JwtStatus::kBadSignature);
        }
    }
    const std::string text = base64url_encode(header_of(JwtAlgorithm::kEs256)) + "." + base64url_encode("{}");
    assert_status(status_of(text + "." + std::string(21'830, 'A')), JwtStatus::kTooLarge);
}

// A P-384 key never sees an ES256 token, and the other way round.
void test_verify_jwt_wrong_curve_refused(void**) {
    EVP_PKEY* const key = key_for(JwtAlgorithm::kEs384);
    const std::string text =
        base64url_encode(header_of(JwtAlgorithm::kEs256)) + "." + base64url_encode(payload_with(""));
    const std::string raw = raw_ecdsa(openssl_signature(key, JwtAlgorithm::kEs256, text), 48);
    const JwtSource source = source_of_jwk(jwk(key));
    assert_status(status_of(text + "." + base64url_encode(raw), source), JwtStatus::kAlgorithm);
    assert_false(key_set_from_jwks(jwk(key, R"("alg":"ES256")")).has_value());
}

void test_verify_jwt_pss_salt_has_the_length_of_the_hash(void**) {
    EVP_PKEY* const key = key_for(JwtAlgorithm::kPs256);
    for (const JwtAlgorithm algorithm : {JwtAlgorithm::kPs256, JwtAlgorithm::kPs384, JwtAlgorithm::kPs512}) {
        const int right = EVP_MD_get_size(hash_for(algorithm));
        const std::string text = base64url_encode(header_of(algorithm)) + "." + base64url_encode(payload_with(""));
        for (const int salt_bytes : {0, 20, right - 1, right, right + 1, RSA_PSS_SALTLEN_MAX}) {
            const std::string signature = openssl_signature(key, algorithm, text, salt_bytes);
            assert_status(status_of(text + "." + base64url_encode(signature)),
                          salt_bytes == right ? JwtStatus::kOk : JwtStatus::kBadSignature);
        }
    }
}

void test_verify_jwt_signature_of_another_length_refused(void**) {
    for (const JwtAlgorithm algorithm : all_algorithms()) {
        const std::string token = good_token(algorithm);
        const std::size_t last = token.rfind('.');
        const std::string signature = *base64url_decode(std::string_view(token).substr(last + 1));
        for (const std::string& other :
             {signature.substr(1), signature.substr(0, signature.size() - 1), signature + 'x', '\0' + signature,
              signature + '\0', signature + signature, std::string(1, 'x'), std::string(signature.size(), '\0'),
              std::string(signature.size(), '\xff')}) {
            assert_status(status_of(token.substr(0, last + 1) + base64url_encode(other)), JwtStatus::kBadSignature);
        }
    }
}

void test_verify_jwt_any_truncation_or_changed_bit_refused(void**) {
    for (const JwtAlgorithm algorithm : {JwtAlgorithm::kHs512, JwtAlgorithm::kRs256, JwtAlgorithm::kPs256,
                                         JwtAlgorithm::kEs256, JwtAlgorithm::kEdDsa}) {
        const std::string token = good_token(algorithm);
        for (std::size_t bytes = 0; bytes < token.size(); ++bytes) {
            assert_true(status_of(token.substr(0, bytes)) != JwtStatus::kOk);
        }
        for (std::size_t bit = 0; bit < token.size() * 8; ++bit) {
            std::string changed = token;
            changed[bit / 8] = static_cast<char>(changed[bit / 8] ^ (1 << bit % 8));
            assert_true(status_of(changed) != JwtStatus::kOk);
        }
    }
    assert_int_equal(ERR_peek_error(), 0);
}

// What a bad signature leaves on OpenSSL's queue would fail the next TLS read of the worker.
void test_verify_jwt_bad_signatures_leave_no_openssl_errors(void**) {
    for (const JwtAlgorithm algorithm : all_algorithms()) {
        std::string token = good_token(algorithm);
        const std::size_t last = token.rfind('.');
        std::string signature = *base64url_decode(std::string_view(token).substr(last + 1));
        const bool is_slow = algorithm == JwtAlgorithm::kEs384 || algorithm == JwtAlgorithm::kEs512;
        for (unsigned i = 1; i <= (is_slow ? 1'000u : 10'000u); ++i) {
            std::string changed = signature;
            changed[i % changed.size()] = static_cast<char>(changed[i % changed.size()] ^ (1 + i % 255));
            assert_status(status_of(token.substr(0, last + 1) + base64url_encode(changed)), JwtStatus::kBadSignature);
        }
        assert_int_equal(ERR_peek_error(), 0);
    }
    // Somebody else's error stays, alone.
    ERR_raise(ERR_LIB_USER, 7);
    std::string token = good_token(JwtAlgorithm::kRs256);
    token[token.rfind('.') + 5] = token[token.rfind('.') + 5] == 'A' ? 'B' : 'A';
    assert_status(status_of(token), JwtStatus::kBadSignature);
    assert_false(key_set_from_file("-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----\n").has_value());
    assert_int_equal(ERR_GET_REASON(ERR_get_error()), 7);
    assert_int_equal(ERR_peek_error(), 0);
}

void test_verify_jwt_kids_that_repeat_are_all_tried(void**) {
    const EvpKey other(EVP_RSA_gen(2048));
    const JwtSource source = source_of_jwk(R"({"keys":[)" + jwk(other.get(), R"("kid":"k")") + "," +
                                           jwk(key_for(JwtAlgorithm::kEs256), R"("kid":"k")") + "," +
                                           jwk(key_for(JwtAlgorithm::kRs256), R"("kid":"k")") + "]}");
    for (const JwtAlgorithm algorithm : {JwtAlgorithm::kRs256, JwtAlgorithm::kPs256, JwtAlgorithm::kEs256}) {
        const std::string header = header_of(algorithm, R"(,"kid":"k")");
        assert_status(status_of(signed_token(algorithm, header, payload_with("")), source), JwtStatus::kOk);
    }
    const std::string header = header_of(JwtAlgorithm::kEs384, R"(,"kid":"k")");
    assert_status(status_of(signed_token(JwtAlgorithm::kEs384, header, payload_with("")), source),
                  JwtStatus::kAlgorithm);
}

void test_verify_jwt_by_threads_at_once(void**) {
    std::vector<std::string> tokens;
    for (const JwtAlgorithm algorithm : {JwtAlgorithm::kHs256, JwtAlgorithm::kRs256, JwtAlgorithm::kPs256,
                                         JwtAlgorithm::kEs256, JwtAlgorithm::kEdDsa}) {
        tokens.push_back(good_token(algorithm));
        tokens.push_back(tokens.back());
        tokens.back()[tokens.back().rfind('.') + 3] ^= 1;
    }
    std::atomic<unsigned> wrong = 0;
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i) {
        threads.emplace_back([&] {
            for (std::size_t n = 0; n < 2'000; ++n) {
                const bool is_good = n % 2 == 0;
                wrong += (status_of(tokens[n % tokens.size()]) == JwtStatus::kOk) == is_good ? 0 : 1;
            }
        });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    assert_int_equal(wrong.load(), 0);
}

void test_verify_jwt_says_which_source(void**) {
    JwtSource other = everything();
    other.issuer = "other";
    const std::string token = good_token(JwtAlgorithm::kEs256);
    assert_ptr_equal(verify_jwt(token, {&other, &everything()}, {}, kNow).source, &everything());
    assert_null(verify_jwt(token, {&other}, {}, kNow).source);
    assert_null(verify_jwt(token, {&everything()}, {}, kNow + 3'600).source);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(test_verify_jwt_published_vectors),
        cmocka_unit_test(test_verify_jwt_every_algorithm_by_its_key_only),
        cmocka_unit_test(test_verify_jwt_signature_of_another_algorithm_refused),
        cmocka_unit_test(test_verify_jwt_public_key_as_hmac_secret_refused),
        cmocka_unit_test(test_verify_jwt_policy_restricts_every_algorithm),
        cmocka_unit_test(test_verify_jwt_ecdsa_near_misses_refused),
        cmocka_unit_test(test_verify_jwt_wrong_curve_refused),
        cmocka_unit_test(test_verify_jwt_pss_salt_has_the_length_of_the_hash),
        cmocka_unit_test(test_verify_jwt_signature_of_another_length_refused),
        cmocka_unit_test(test_verify_jwt_any_truncation_or_changed_bit_refused),
        cmocka_unit_test(test_verify_jwt_bad_signatures_leave_no_openssl_errors),
        cmocka_unit_test(test_verify_jwt_kids_that_repeat_are_all_tried),
        cmocka_unit_test(test_verify_jwt_by_threads_at_once),
        cmocka_unit_test(test_verify_jwt_says_which_source),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
