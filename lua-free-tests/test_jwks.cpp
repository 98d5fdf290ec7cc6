#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <memory>
#include <string>
#include <string_view>

#include "common/base64url.h"
#include "common/jwks.h"
#include "common/limits.h"
#include "lua-free-tests/cmocka_cpp.h"  // last

using namespace headgate;

namespace {

std::string refusal(std::string_view text, JwtAlgorithm algorithm = JwtAlgorithm::kHs256) {
    const auto set = key_set_from_secret(text, algorithm);
    return set ? "" : set.error().message;
}

struct KeyTexts {
    std::string public_der, private_der, public_pem, private_pem;
};

template <typename Write>
std::string written(Write write) {
    const std::unique_ptr<BIO, int (*)(BIO*)> bio(BIO_new(BIO_s_mem()), BIO_free);
    write(bio.get());
    char* bytes = nullptr;
    const long size = BIO_get_mem_data(bio.get(), &bytes);
    return {bytes, static_cast<std::size_t>(size)};
}

KeyTexts key_texts(EVP_PKEY* raw) {
    const std::unique_ptr<EVP_PKEY, void (*)(EVP_PKEY*)> key(raw, EVP_PKEY_free);
    return {
        written([&](BIO* bio) { i2d_PUBKEY_bio(bio, key.get()); }),
        written([&](BIO* bio) { i2d_PrivateKey_bio(bio, key.get()); }),
        written([&](BIO* bio) { PEM_write_bio_PUBKEY(bio, key.get()); }),
        written([&](BIO* bio) { PEM_write_bio_PrivateKey(bio, key.get(), nullptr, nullptr, 0, nullptr, nullptr); }),
    };
}

void test_key_set_from_secret_real_asymmetric_keys_refused_in_every_form(void**) {
    for (EVP_PKEY* raw : {EVP_RSA_gen(2048), EVP_EC_gen("P-256"), EVP_EC_gen("P-521"),
                          EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519")}) {
        const KeyTexts texts = key_texts(raw);
        for (const std::string_view space : {"", "\n", " \t\r\n\v\f"}) {
            for (const std::string& pem : {texts.public_pem, texts.private_pem}) {
                assert_true(refusal(std::string(space) + pem).find("PEM") != std::string::npos);
            }
            for (const std::string& der : {texts.public_der, texts.private_der}) {
                const std::string before = std::string(space) + der, base64 = base64_encode(der);
                assert_true(refusal(before).find("DER") != std::string::npos);
                assert_true(refusal(before + "\n").find("DER") != std::string::npos);
                assert_true(refusal(std::string(space) + base64 + "\n").find("DER") != std::string::npos);
                assert_true(refusal(base64.substr(0, 32) + "\n" + base64.substr(32)).find("DER") != std::string::npos);
            }
        }
    }
}

// What broke: the last bytes of a DER key may look like the white space that is trimmed.
void test_key_set_from_secret_der_that_ends_in_white_space_refused(void**) {
    std::string der = "\x30\x3e";
    der += std::string("\x02\x01\x00", 3);
    der.resize(62, 'k');
    der += "\n\n";
    assert_int_equal(der.size(), 64);
    assert_true(refusal(der).find("DER") != std::string::npos);
    assert_true(refusal(der + "\r\n").find("DER") != std::string::npos);
}

void test_key_set_from_secret_jwk_and_ssh_refused(void**) {
    const std::string jwk = R"({"kty":"RSA","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx","e":"AQAB"})";
    assert_true(refusal(jwk).find("JWK") != std::string::npos);
    assert_true(refusal(" \n{\"keys\":[" + jwk + "]}").find("JWK") != std::string::npos);
    assert_true(refusal("[" + jwk + "]").find("JWK") != std::string::npos);
    assert_true(refusal("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGm5 someone@host").find("SSH") != std::string::npos);
    assert_true(refusal("\necdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAA").find("SSH") != std::string::npos);
    assert_true(refusal("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----").find("PEM") !=
                std::string::npos);
}

void test_key_set_from_secret_length_bounds(void**) {
    assert_true(refusal(std::string(32, 'a')).empty());
    assert_true(refusal(std::string(31, 'a')).find("31 bytes") != std::string::npos);
    // White space at the end does not count.
    assert_true(refusal(std::string(31, 'a') + "\n\n\n").find("31 bytes") != std::string::npos);
    assert_false(refusal("").empty());
    assert_true(refusal(std::string(limits::kSecretFileBytesMax, 'a')).empty());
    assert_false(refusal(std::string(limits::kSecretFileBytesMax + 1, 'a')).empty());
    assert_true(refusal(std::string(48, 'a'), JwtAlgorithm::kHs384).empty());
    assert_true(refusal(std::string(47, 'a'), JwtAlgorithm::kHs384).find("at least 48") != std::string::npos);
    assert_true(refusal(std::string(64, 'a'), JwtAlgorithm::kHs512).empty());
    assert_true(refusal(std::string(63, 'a'), JwtAlgorithm::kHs512).find("at least 64") != std::string::npos);
}

void test_key_set_from_secret_random_secrets_accepted(void**) {
    // Hexadecimal often begins with '0' = 0x30, the tag of a SEQUENCE.
    for (char second = '!'; second <= '~'; ++second) {
        for (std::size_t bytes = 32; bytes < 140; ++bytes) {
            std::string text = "0";
            text += second;
            text.resize(bytes, '.');
            assert_true(refusal(text).empty());
        }
    }
}

void test_key_set_from_secret_other_algorithms_refused_by_name(void**) {
    for (int i = static_cast<int>(JwtAlgorithm::kRs256); i <= static_cast<int>(JwtAlgorithm::kEdDsa); ++i) {
        const auto algorithm = static_cast<JwtAlgorithm>(i);
        const std::string message = refusal(std::string(64, 'a'), algorithm);
        assert_true(message.find(jwt_algorithm_name(algorithm)) != std::string::npos);
        assert_true(message.find("HS256") != std::string::npos);
    }
}

void test_key_set_from_secret_kid_is_the_thumbprint(void**) {
    // Computed with node:crypto.
    const std::string secret(64, 'a');
    assert_true(thumbprint_of_secret(secret) == "IskLqAkE2wIbRK3t2IhhYXNNsxl8HDmdvItNHIdTEqc");
    const auto set = key_set_from_secret(secret + "\n", JwtAlgorithm::kHs256);
    assert_int_equal(set->keys.size(), 1);
    assert_true(set->keys[0].kid == thumbprint_of_secret(secret));
    const Sha256Digest mac = HmacSha256Key(secret).sign("x");
    assert_true(set->keys[0].material->mac(JwtAlgorithm::kHs256, "x") ==
                std::string_view(reinterpret_cast<const char*>(mac.data()), mac.size()));
}

void test_parse_jwt_algorithm_is_exact(void**) {
    for (int i = 0; i <= static_cast<int>(JwtAlgorithm::kEdDsa); ++i) {
        JwtAlgorithm parsed{};
        assert_true(parse_jwt_algorithm(jwt_algorithm_name(static_cast<JwtAlgorithm>(i)), parsed));
        assert_int_equal(static_cast<int>(parsed), i);
    }
    for (const std::string_view name : {"", "none", "None", "NONE", "hs256", "HS256 ", "HS25", "HS2566", "EDDSA"}) {
        JwtAlgorithm parsed{};
        assert_false(parse_jwt_algorithm(name, parsed));
    }
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(test_key_set_from_secret_real_asymmetric_keys_refused_in_every_form),
        cmocka_unit_test(test_key_set_from_secret_der_that_ends_in_white_space_refused),
        cmocka_unit_test(test_key_set_from_secret_jwk_and_ssh_refused),
        cmocka_unit_test(test_key_set_from_secret_length_bounds),
        cmocka_unit_test(test_key_set_from_secret_random_secrets_accepted),
        cmocka_unit_test(test_key_set_from_secret_other_algorithms_refused_by_name),
        cmocka_unit_test(test_key_set_from_secret_kid_is_the_thumbprint),
        cmocka_unit_test(test_parse_jwt_algorithm_is_exact),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
