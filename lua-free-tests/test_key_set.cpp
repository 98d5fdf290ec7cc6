// Key files and JWKS: what is read from them, what is left out and why, what refuses the whole.
#include <openssl/err.h>

#include <string>
#include <string_view>
#include <vector>

#include "common/limits.h"
#include "lua-free-tests/cmocka_cpp.h"  // last
#include "lua-free-tests/jwt_keys.h"
#include "lua-free-tests/jwt_vectors.h"

using namespace headgate;
using namespace headgate::jwt_keys;

namespace {

const std::string kSecret(64, 's');

bool contains(std::string_view text, std::string_view part) { return text.find(part) != std::string_view::npos; }

std::string message_of(const Result<KeySet>& set) { return set ? "" : set.error().message; }

// The algorithms of every key, or why there is none.
std::string served(const Result<KeySet>& set) {
    std::string text = message_of(set);
    if (set) {
        for (const VerificationKey& key : set->keys) {
            text.append(text.empty() ? "" : ", ").append(key.algorithms.names());
        }
    }
    return text;
}
void assert_served(const Result<KeySet>& set, std::string_view expected) {
    const std::string actual = served(set), wanted(expected);
    assert_string_equal(actual.c_str(), wanted.c_str());
}
void assert_refused(const Result<KeySet>& set, std::string_view part) {
    const std::string message = message_of(set);
    if (!contains(message, part)) {
        assert_string_equal(message.c_str(), std::string(part).c_str());
    }
    assert_int_equal(ERR_peek_error(), 0);
}

std::string jwks_of(const std::vector<std::string>& keys) {
    std::string text = R"({"keys":[)";
    for (const std::string& key : keys) {
        text.append(&key == keys.data() ? "" : ",").append(key);
    }
    return text + "]}";
}

EVP_PKEY* rsa() { return key_for(JwtAlgorithm::kRs256); }
EVP_PKEY* p256() { return key_for(JwtAlgorithm::kEs256); }
EVP_PKEY* ed25519() { return key_for(JwtAlgorithm::kEdDsa); }
constexpr std::string_view kRsaServes = "RS256 RS384 RS512 PS256 PS384 PS512";

std::string rsa_jwk_of(std::string_view n, std::string_view e) {
    return R"({"kty":"RSA","n":")" + base64url_encode(n) + R"(","e":")" + base64url_encode(e) + "\"}";
}
std::string ec_jwk_of(std::string_view crv, std::string_view x, std::string_view y) {
    return R"({"kty":"EC","crv":")" + std::string(crv) + R"(","x":")" + base64url_encode(x) + R"(","y":")" +
           base64url_encode(y) + "\"}";
}
std::string okp_jwk_of(std::string_view x) {
    return R"({"kty":"OKP","crv":"Ed25519","x":")" + base64url_encode(x) + "\"}";
}
std::string from_hex(std::string_view hex) {
    std::string bytes;
    for (std::size_t i = 0; i < hex.size(); i += 2) {
        bytes += static_cast<char>(std::stoi(std::string(hex.substr(i, 2)), nullptr, 16));
    }
    return bytes;
}

void test_thumbprints_of_the_rfcs(void**) {
    assert_true(key_set_from_jwks(jwt_vectors::kThumbprintRsaJwk)->keys[0].kid == jwt_vectors::kThumbprintRsa);
    for (const auto& vector : jwt_vectors::kVectors) {
        const auto set = key_set_from_jwks(vector.jwk, SymmetricKeys::kAccept);
        assert_true(set.has_value());
        if (vector.name == "RFC 8037 A.4 EdDSA") {
            assert_true(set->keys[0].kid == jwt_vectors::kThumbprintEd25519);
        }
    }
    // Computed with Python's hashlib over {"crv":"P-256","kty":"EC","x":…,"y":…} of RFC 7515, appendix A.3.
    const auto ec = key_set_from_jwks(jwt_vectors::kVectors[2].jwk);
    assert_true(ec->keys[0].kid == "oKIywvGUpTVTyxMQ3bwIIeQUudfr_CkLMjCE19ECD-U");
}

void test_key_set_from_file_every_form_of_a_key_is_the_same_key(void**) {
    for (const JwtAlgorithm algorithm : {JwtAlgorithm::kRs256, JwtAlgorithm::kEs256, JwtAlgorithm::kEs384,
                                         JwtAlgorithm::kEs512, JwtAlgorithm::kEdDsa}) {
        EVP_PKEY* const key = key_for(algorithm);
        const auto expected = key_set_from_file(jwk(key));
        std::vector<std::string> forms = {jwks_of({jwk(key)}),       public_pem(key),
                                          certificate_pem(key),      " \n\t" + public_pem(key),
                                          "\xef\xbb\xbf" + jwk(key), "a comment\r\n" + public_pem(key) + "more"};
        if (algorithm == JwtAlgorithm::kRs256) {
            forms.push_back(rsa_public_pem(key));
        }
        for (const std::string& form : forms) {
            const auto set = key_set_from_file(form);
            assert_int_equal(set->keys.size(), 1);
            assert_true(set->keys[0].kid == expected->keys[0].kid && set->keys[0].kid.size() == 43);
            assert_true(set->keys[0].algorithms == expected->keys[0].algorithms);
            assert_true(key_set_digest(*set) == key_set_digest(*expected));
            assert_true(set->skipped.empty());
        }
        const auto named = key_set_from_file(jwk(key, R"("kid":"my key","use":"sig","key_ops":["verify"],"x5t":"x")"));
        assert_true(named->keys[0].kid == "my key");
    }
    assert_int_equal(ERR_peek_error(), 0);
}

void test_key_set_from_file_algorithms_of_each_type(void**) {
    assert_served(key_set_from_file(public_pem(rsa())), kRsaServes);
    assert_served(key_set_from_file(public_pem(p256())), "ES256");
    assert_served(key_set_from_file(public_pem(key_for(JwtAlgorithm::kEs384))), "ES384");
    assert_served(key_set_from_file(public_pem(key_for(JwtAlgorithm::kEs512))), "ES512");
    assert_served(key_set_from_file(public_pem(ed25519())), "EdDSA");
    assert_served(key_set_from_file(oct_jwk(std::string(32, 'k'))), "HS256");
    assert_served(key_set_from_file(oct_jwk(std::string(48, 'k'))), "HS256 HS384");
    assert_served(key_set_from_file(oct_jwk(std::string(64, 'k'))), "HS256 HS384 HS512");
    // An algorithm restricts, and what it does not fit is left out.
    const std::string both = public_pem(rsa()) + public_pem(p256());
    assert_served(key_set_from_file(both), std::string(kRsaServes) + ", ES256");
    assert_served(key_set_from_file(both, JwtAlgorithm::kPs384), "PS384");
    assert_served(key_set_from_file(both, JwtAlgorithm::kEs256), "ES256");
    assert_int_equal(key_set_from_file(both, JwtAlgorithm::kEs256)->skipped.size(), 1);
    assert_refused(key_set_from_file(both, JwtAlgorithm::kEs384), "not ES384");
    assert_refused(key_set_from_file(both, JwtAlgorithm::kHs256), "PEM");
    assert_served(key_set_from_file(jwks_of({oct_jwk(kSecret), jwk(rsa())}), JwtAlgorithm::kHs512), "HS512");
    assert_refused(key_set_from_file(jwk(rsa()), JwtAlgorithm::kHs256), "not HS256");
}

void test_key_set_from_file_raw_secret_needs_an_algorithm(void**) {
    assert_served(key_set_from_file(kSecret + "\n", JwtAlgorithm::kHs256), "HS256");
    assert_served(key_set_from_file(kSecret, JwtAlgorithm::kHs512), "HS512");
    assert_true(key_set_from_file(kSecret, JwtAlgorithm::kHs256)->keys[0].kid == thumbprint_of_secret(kSecret));
    assert_refused(key_set_from_file(kSecret), "alg=HS256");
    assert_refused(key_set_from_file(""), "alg=HS256");
    assert_refused(key_set_from_file(kSecret, JwtAlgorithm::kRs256), "alg=HS256");
    assert_refused(key_set_from_file(std::string(63, 's'), JwtAlgorithm::kHs512), "at least 64");
}

void test_key_set_from_file_no_asymmetric_key_becomes_a_secret(void**) {
    for (EVP_PKEY* const key : {rsa(), p256(), ed25519()}) {
        for (const std::string_view before : {"", "\n", " \t\r\n", "\xef\xbb\xbf", "# my key\n"}) {
            const std::string pem = std::string(before) + public_pem(key);
            for (const auto algorithm : {JwtAlgorithm::kHs256, JwtAlgorithm::kHs384, JwtAlgorithm::kHs512}) {
                assert_refused(key_set_from_file(pem, algorithm), "PEM");
                if (!before.starts_with('#')) {
                    assert_refused(key_set_from_file(std::string(before) + public_der(key), algorithm), "DER");
                    const auto json = key_set_from_file(std::string(before) + jwk(key), algorithm);
                    assert_false(json.has_value());
                }
            }
            assert_refused(key_set_from_file(oct_jwk(pem)), "looks like a PEM file");
        }
        assert_refused(key_set_from_file(public_der(key)), "as PEM");
        assert_refused(key_set_from_file(oct_jwk(public_der(key))), "looks like a DER file");
        assert_refused(key_set_from_file(oct_jwk(jwk(key))), "looks like a JWK");
    }
}

void test_key_set_from_file_private_keys_refused(void**) {
    for (EVP_PKEY* const key : {rsa(), p256(), ed25519()}) {
        assert_refused(key_set_from_file(private_pem(key)), "public half");
        assert_refused(key_set_from_file(public_pem(key) + private_pem(key)), "PEM block 2 is a private key");
    }
    for (const std::string_view name :
         {"RSA PRIVATE KEY", "EC PRIVATE KEY", "ENCRYPTED PRIVATE KEY", "OPENSSH PRIVATE KEY"}) {
        const std::string pem =
            "-----BEGIN " + std::string(name) + "-----\nMAAA\n-----END " + std::string(name) + "-----\n";
        assert_refused(key_set_from_file(pem), "public half");
    }
    for (const std::string_view member : {"d", "p", "q", "dp", "dq", "qi", "oth"}) {
        const std::string more = "\"" + std::string(member) + R"(":"AQAB")";
        for (EVP_PKEY* const key : {rsa(), p256(), ed25519()}) {
            assert_refused(key_set_from_file(jwk(key, more)), "private key");
            assert_served(key_set_from_jwks(jwks_of({jwk(key, more), jwk(p256())})), "ES256");
        }
    }
}

void test_keys_from_pem_blocks_that_are_left_out(void**) {
    const std::string broken = "-----BEGIN PUBLIC KEY-----\nMAAA\n-----END PUBLIC KEY-----\n";
    const std::string parameters = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n";
    const auto set = key_set_from_file(parameters + broken + public_pem(p256()));
    assert_served(set, "ES256");
    assert_int_equal(set->skipped.size(), 2);
    assert_true(contains(set->skipped[0], "PEM block 1") && contains(set->skipped[1], "PEM block 2"));
    assert_refused(key_set_from_file(broken), "cannot read");
    assert_refused(key_set_from_file("-----BEGIN PUBLIC KEY-----\nMAAA\n"), "PEM block 1 cannot be read");
    assert_refused(key_set_from_file("-----BEGIN PUBLIC KEY-----\n"), "PEM block 1 cannot be read");
    assert_refused(key_set_from_file("-----BEGIN"), "no key in it");
    // A byte more than the key.
    std::string der = public_der(p256()) + "x";
    const std::string longer = "-----BEGIN PUBLIC KEY-----\n" + base64_encode(der) + "\n-----END PUBLIC KEY-----\n";
    assert_refused(key_set_from_file(longer), "cannot read");
    const EvpKey small(EVP_RSA_gen(1024)), other_curve(EVP_EC_gen("secp256k1")),
        ed448(EVP_PKEY_Q_keygen(nullptr, nullptr, "ED448"));
    assert_refused(key_set_from_file(public_pem(small.get())), "this one has 1024");
    assert_refused(key_set_from_file(public_pem(other_curve.get())), "P-256, P-384 and P-521");
    assert_refused(key_set_from_file(public_pem(ed448.get())), "not supported");
    std::string many;
    for (std::size_t i = 0; i < limits::kKeySetKeysMax; ++i) {
        many += public_pem(ed25519());
    }
    assert_int_equal(key_set_from_file(many)->keys.size(), limits::kKeySetKeysMax);
    assert_refused(key_set_from_file(many + public_pem(ed25519())), "more than 100");
}

void test_key_set_from_jwks_use_and_alg_table(void**) {
    const struct {
        std::string_view members;
        std::string_view expected;  // the algorithms, or a part of the reason
    } table[] = {
        {R"("use":"sig")", kRsaServes},
        {R"("use":"enc")", "\"use\" is not \"sig\""},
        {R"("use":"")", "\"use\" is not"},
        {R"("use":1)", "\"use\" is not"},
        {R"("use":null)", "\"use\" is not"},
        {R"("key_ops":["verify"])", kRsaServes},
        {R"("key_ops":["sign","verify"])", kRsaServes},
        {R"("key_ops":["encrypt","wrapKey"])", "lacks \"verify\""},
        {R"("key_ops":[])", "lacks \"verify\""},
        {R"("key_ops":"verify")", "lacks \"verify\""},
        {R"("use":"sig","key_ops":["sign"])", "lacks \"verify\""},
        {R"("alg":"RS256")", "RS256"},
        {R"("alg":"PS512")", "PS512"},
        {R"("alg":"ES256")", "does not fit"},
        {R"("alg":"HS256")", "does not fit"},
        {R"("alg":"EdDSA")", "does not fit"},
        {R"("alg":"RSA-OAEP")", "no signature algorithm"},
        {R"("alg":"none")", "no signature algorithm"},
        {R"("alg":"rs256")", "no signature algorithm"},
        {R"("alg":1)", "no signature algorithm"},
        {R"("alg":null)", "no signature algorithm"},
        {R"("kid":"")", "\"kid\" is not"},
        {R"("kid":7)", "\"kid\" is not"},
        {R"("kid":null)", "\"kid\" is not"},
        {R"("unknown":{"a":[1]},"x5c":["MIIB"],"x5u":"http://127.0.0.1/","exp":1)", kRsaServes},
    };
    for (const auto& row : table) {
        const std::string key = jwk(rsa(), row.members);
        const auto alone = key_set_from_jwks(key);
        if (alone) {
            assert_served(alone, row.expected);
        } else {
            assert_refused(alone, row.expected);
            // In a set it takes nothing down, and is named.
            const auto set = key_set_from_jwks(jwks_of({jwk(ed25519()), key}));
            assert_served(set, "EdDSA");
            assert_int_equal(set->skipped.size(), 1);
            assert_true(contains(set->skipped[0], "key 2") && contains(set->skipped[0], row.expected));
        }
    }
    const std::string kid_128(128, 'k');
    assert_served(key_set_from_jwks(jwk(p256(), R"("kid":")" + kid_128 + "\"")), "ES256");
    assert_refused(key_set_from_jwks(jwk(p256(), R"("kid":")" + kid_128 + "k\"")), "\"kid\" is not");
    // Somebody else's text does not get into a log as it is.
    const auto odd = key_set_from_jwks(jwk(p256(), R"("use":"enc","kid":"a\nb\u001b[1m")"));
    assert_false(contains(message_of(odd), "\n"));
    assert_true(
        contains(message_of(key_set_from_jwks(jwk(p256(), R"("use":"enc","kid":"plain")"))), "(kid \"plain\")"));
}

void test_key_set_from_jwks_numbers_table(void**) {
    const std::string n = number(rsa(), OSSL_PKEY_PARAM_RSA_N), e("\1\0\1", 3), odd_small(255, '\xff');
    std::string even = n;
    even.back() = static_cast<char>(even.back() & ~1);
    const std::string x = number(p256(), OSSL_PKEY_PARAM_EC_PUB_X, 32),
                      y = number(p256(), OSSL_PKEY_PARAM_EC_PUB_Y, 32);
    std::string off = y;
    off.back() = static_cast<char>(off.back() ^ 1);
    const std::string prime_256 = from_hex("ffffffff00000001000000000000000000000000ffffffffffffffffffffffff");
    const struct {
        std::string jwk;
        std::string_view reason;  // empty: accepted
    } table[] = {
        {rsa_jwk_of(n, e), ""},
        {rsa_jwk_of('\0' + n, '\0' + e), ""},
        {rsa_jwk_of(n, "\3"), ""},
        {rsa_jwk_of(n, "\xff\xff\xff\xff"), ""},
        {rsa_jwk_of(n, std::string("\1\0\0\0\1", 5)), "exponent"},
        {rsa_jwk_of(n, "\1"), "exponent"},
        {rsa_jwk_of(n, "\2"), "exponent"},
        {rsa_jwk_of(n, std::string("\1\0\0", 3)), "exponent"},
        {rsa_jwk_of(n, std::string(1, '\0')), "exponent"},
        {rsa_jwk_of(n, ""), "base64url"},
        {rsa_jwk_of("", e), "base64url"},
        {rsa_jwk_of(even, e), "even"},
        {rsa_jwk_of(odd_small, e), "this one has 2040"},
        {rsa_jwk_of("\x7f" + odd_small, e), "this one has 2047"},
        {rsa_jwk_of("\x80" + odd_small, e), ""},
        {rsa_jwk_of(std::string(2048, '\xff'), e), ""},
        {rsa_jwk_of("\1" + std::string(2048, '\xff'), e), "has more"},
        {R"({"kty":"RSA","n":"AQAB=","e":"AQAB"})", "base64url"},
        {R"({"kty":"RSA","n":"a+/b","e":"AQAB"})", "base64url"},
        {R"({"kty":"RSA","n":1,"e":"AQAB"})", "base64url"},
        {R"({"kty":"RSA","e":"AQAB"})", "base64url"},
        {ec_jwk_of("P-256", x, y), ""},
        {ec_jwk_of("P-256", x, off), "not on P-256"},
        {ec_jwk_of("P-256", y, x), "not on P-256"},
        {ec_jwk_of("P-256", std::string(32, '\0'), std::string(32, '\0')), "not on P-256"},
        {ec_jwk_of("P-256", prime_256, y), "not on P-256"},
        {ec_jwk_of("P-256", std::string(32, '\xff'), std::string(32, '\xff')), "not on P-256"},
        {ec_jwk_of("P-256", x.substr(1), y), "has 32 bytes"},
        {ec_jwk_of("P-256", '\0' + x, y), "has 32 bytes"},
        {ec_jwk_of("P-256", x, '\0' + y), "has 32 bytes"},
        {ec_jwk_of("P-384", x, y), "has 48 bytes"},
        {ec_jwk_of("P-521", x, y), "has 66 bytes"},
        {ec_jwk_of("secp256k1", x, y), "\"crv\""},
        {ec_jwk_of("P-256K", x, y), "\"crv\""},
        {ec_jwk_of("p-256", x, y), "\"crv\""},
        {R"({"kty":"EC","x":"AA","y":"AA"})", "\"crv\""},
        {okp_jwk_of(std::string(31, 'x')), "has 32 bytes"},
        {okp_jwk_of(std::string(33, 'x')), "has 32 bytes"},
        {R"({"kty":"OKP","crv":"X25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"})", "\"crv\""},
        {R"({"kty":"OKP","crv":"Ed448","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"})", "\"crv\""},
        {R"({"kty":"AKP","alg":"ML-DSA-44","pub":"AA"})", "no signature algorithm"},
        {R"({"kty":"AKP","pub":"AA"})", "\"kty\""},
        {R"({"kty":1})", "\"kty\""},
        {R"({"kty":"rsa","n":"AQAB","e":"AQAB"})", "\"kty\""},
    };
    for (const auto& row : table) {
        const auto set = key_set_from_jwks(row.jwk);
        if (row.reason.empty()) {
            assert_string_equal(message_of(set).c_str(), "");
        } else {
            assert_refused(set, row.reason);
        }
    }
}

// The encodings of small order and the ones that are no points; listed in "Taming the many EdDSAs" (Chalkias and
// others).
void test_key_set_from_jwks_ed25519_points_of_small_order_refused(void**) {
    for (const std::string_view hex : {"0100000000000000000000000000000000000000000000000000000000000000",
                                       "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
                                       "0000000000000000000000000000000000000000000000000000000000000080",
                                       "0000000000000000000000000000000000000000000000000000000000000000",
                                       "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
                                       "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
                                       "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
                                       "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
                                       "0100000000000000000000000000000000000000000000000000000000000080",
                                       "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
                                       "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
                                       "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
                                       // y = 2: (y² - 1) / (d·y² + 1) is no square
                                       "0200000000000000000000000000000000000000000000000000000000000000"}) {
        assert_refused(key_set_from_jwks(okp_jwk_of(from_hex(hex))), "no usable point");
    }
    for (int i = 0; i < 50; ++i) {
        const EvpKey key(EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519"));
        assert_served(key_set_from_jwks(jwk(key.get())), "EdDSA");
    }
}

void test_key_set_from_jwks_symmetric_keys_from_files_only(void**) {
    assert_refused(key_set_from_jwks(oct_jwk(kSecret)), "from a file only");
    assert_served(key_set_from_jwks(jwks_of({oct_jwk(kSecret), jwk(p256())})), "ES256");
    assert_served(key_set_from_jwks(oct_jwk(kSecret, R"("alg":"HS384")"), SymmetricKeys::kAccept), "HS384");
    assert_refused(key_set_from_file(oct_jwk(std::string(31, 'k'))), "31 bytes");
    assert_refused(key_set_from_file(oct_jwk(std::string(47, 'k'), R"("alg":"HS384")")), "does not fit");
    assert_refused(key_set_from_file(oct_jwk(kSecret, R"("alg":"RS256")")), "does not fit");
    assert_refused(key_set_from_file(R"({"kty":"oct"})"), "base64url");
    assert_true(key_set_from_file(oct_jwk(kSecret))->keys[0].kid == thumbprint_of_secret(kSecret));
}

void test_key_set_from_jwks_json_table(void**) {
    const std::string key = jwk(p256());
    const std::string eight(8, '['), closed(8, ']');
    assert_served(key_set_from_jwks(R"({"x":1e5,"keys":[)" + key + "]}"), "ES256");
    assert_served(key_set_from_jwks("\n " + key + "\n"), "ES256");
    assert_served(key_set_from_jwks(R"({"x":[)" + eight + closed + R"(],"keys":[)" + key + "]}"), "ES256");
    for (const std::string& text :
         {std::string(), std::string("{"), std::string("null"), "[" + key + "]", key + "x", key + key,
          R"({"keys":[)" + key + R"(],"keys":[]})", R"({"x":[[)" + eight + closed + R"(]],"keys":[)" + key + "]}",
          R"({"x":")" + std::string("\xff") + R"(","keys":[)" + key + "]}", R"({"x":"\u0000","keys":[)" + key + "]}",
          R"({"x":"\ud800","keys":[)" + key + "]}", "\xef\xbb\xbf" + key, key + std::string(1, '\0'),
          jwk(p256(), R"("kid":"a","kid":"b")"), std::string(60'000, '[')}) {
        assert_refused(key_set_from_jwks(text), "no JSON object");
    }
    for (const std::string_view text : {"{}", R"({"keys":{}})", R"({"keys":null})", R"({"keys":"x","kty":"RSA"})"}) {
        assert_refused(key_set_from_jwks(text), "neither a \"keys\" array");
    }
    assert_refused(key_set_from_jwks(R"({"keys":[]})"), "no key in it");
    assert_refused(key_set_from_jwks(R"({"keys":[1,null,"x",[]]})"), "key 1: it is no object");
    assert_served(key_set_from_jwks(jwks_of({"null", key, "{}"})), "ES256");
}

void test_key_set_from_jwks_at_and_over_the_limits(void**) {
    const std::vector<std::string> hundred(limits::kKeySetKeysMax, jwk(ed25519()));
    assert_int_equal(key_set_from_jwks(jwks_of(hundred))->keys.size(), limits::kKeySetKeysMax);
    assert_refused(key_set_from_jwks(jwks_of(std::vector<std::string>(limits::kKeySetKeysMax + 1, jwk(ed25519())))),
                   "has 101 keys");
    std::string text = jwk(ed25519());
    text.resize(limits::kKeySetBytesMax, ' ');
    assert_served(key_set_from_jwks(text), "EdDSA");
    assert_served(key_set_from_file(text), "EdDSA");
    assert_refused(key_set_from_jwks(text + " "), "larger than 64 KiB");
    assert_refused(key_set_from_file(text + " "), "larger than 64 KiB");
    // The reasons that are shown are bounded too.
    const std::vector<std::string> bad(limits::kKeySetKeysMax, jwk(ed25519(), R"("use":"enc")"));
    assert_true(message_of(key_set_from_jwks(jwks_of(bad))).size() < 1'000);
    assert_refused(key_set_from_jwks(jwks_of(bad)), "and 95 more");
}

void test_key_set_digest_says_whether_the_content_is_the_same(void**) {
    const auto digest = [](const std::vector<std::string>& keys) {
        return key_set_digest(*key_set_from_jwks(jwks_of(keys), SymmetricKeys::kAccept));
    };
    const std::string a = jwk(rsa()), b = jwk(p256()), c = oct_jwk(kSecret);
    const auto expected = digest({a, b, c});
    assert_true(digest({a, b, c}) == expected && digest({c, a, b}) == expected);
    assert_true(digest({jwk(rsa(), R"("use":"sig","x":1)"), b, c}) == expected);
    for (const auto& other :
         {std::vector{a, b}, std::vector{a, b, c, c}, std::vector{a, b, oct_jwk(kSecret + "x")},
          std::vector{jwk(rsa(), R"("kid":"k")"), b, c}, std::vector{jwk(rsa(), R"("alg":"RS256")"), b, c}}) {
        assert_false(digest(other) == expected);
    }
    // kid and thumbprint cannot run into each other.
    assert_false(digest({jwk(rsa(), R"("kid":"1")"), jwk(p256(), R"("kid":"2")")}) ==
                 digest({jwk(rsa(), R"("kid":"2")"), jwk(p256(), R"("kid":"1")")}));
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(test_thumbprints_of_the_rfcs),
        cmocka_unit_test(test_key_set_from_file_every_form_of_a_key_is_the_same_key),
        cmocka_unit_test(test_key_set_from_file_algorithms_of_each_type),
        cmocka_unit_test(test_key_set_from_file_raw_secret_needs_an_algorithm),
        cmocka_unit_test(test_key_set_from_file_no_asymmetric_key_becomes_a_secret),
        cmocka_unit_test(test_key_set_from_file_private_keys_refused),
        cmocka_unit_test(test_keys_from_pem_blocks_that_are_left_out),
        cmocka_unit_test(test_key_set_from_jwks_use_and_alg_table),
        cmocka_unit_test(test_key_set_from_jwks_numbers_table),
        cmocka_unit_test(test_key_set_from_jwks_ed25519_points_of_small_order_refused),
        cmocka_unit_test(test_key_set_from_jwks_symmetric_keys_from_files_only),
        cmocka_unit_test(test_key_set_from_jwks_json_table),
        cmocka_unit_test(test_key_set_from_jwks_at_and_over_the_limits),
        cmocka_unit_test(test_key_set_digest_says_whether_the_content_is_the_same),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
