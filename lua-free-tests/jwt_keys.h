// Keys that tests make themselves, in every form that a key source may have, and signatures with them.
#pragma once

#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include <memory>
#include <string>
#include <string_view>

#include "common/base64url.h"
#include "common/jwks.h"

namespace headgate::jwt_keys {

template <typename Write>
std::string written(Write write) {
    const std::unique_ptr<BIO, OpensslDeleter<BIO_free>> bio(BIO_new(BIO_s_mem()));
    write(bio.get());
    char* bytes = nullptr;
    const long size = BIO_get_mem_data(bio.get(), &bytes);
    return {bytes, static_cast<std::size_t>(size)};
}

inline std::string public_pem(EVP_PKEY* key) {
    return written([&](BIO* bio) { PEM_write_bio_PUBKEY(bio, key); });
}
inline std::string private_pem(EVP_PKEY* key) {
    return written([&](BIO* bio) { PEM_write_bio_PrivateKey(bio, key, nullptr, nullptr, 0, nullptr, nullptr); });
}
inline std::string public_der(EVP_PKEY* key) {
    return written([&](BIO* bio) { i2d_PUBKEY_bio(bio, key); });
}
inline std::string private_der(EVP_PKEY* key) {
    return written([&](BIO* bio) { i2d_PrivateKey_bio(bio, key); });
}
// PKCS #1, what PEM calls RSA PUBLIC KEY.
inline std::string rsa_public_pem(EVP_PKEY* key) {
    unsigned char* der = nullptr;
    const int size = i2d_PublicKey(key, &der);
    std::string pem = written([&](BIO* bio) { PEM_write_bio(bio, PEM_STRING_RSA_PUBLIC, "", der, size); });
    OPENSSL_free(der);
    return pem;
}
inline std::string certificate_pem(EVP_PKEY* key) {
    const std::unique_ptr<X509, OpensslDeleter<X509_free>> certificate(X509_new());
    X509_set_version(certificate.get(), X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate.get()), 1);
    X509_gmtime_adj(X509_getm_notBefore(certificate.get()), -7200);
    X509_gmtime_adj(X509_getm_notAfter(certificate.get()), -3600);  // expired: only the key counts
    X509_set_pubkey(certificate.get(), key);
    X509_sign(certificate.get(), key, EVP_PKEY_is_a(key, "ED25519") == 1 ? nullptr : EVP_sha256());
    return written([&](BIO* bio) { PEM_write_bio_X509(bio, certificate.get()); });
}

inline std::string number(const EVP_PKEY* key, const char* name, std::size_t bytes = 0) {
    BIGNUM* raw = nullptr;
    EVP_PKEY_get_bn_param(key, name, &raw);
    const BigNumber value(raw);
    std::string text(bytes == 0 ? static_cast<std::size_t>(BN_num_bytes(raw)) : bytes, '\0');
    BN_bn2binpad(raw, reinterpret_cast<unsigned char*>(text.data()), static_cast<int>(text.size()));
    return text;
}

inline std::size_t coordinate_bytes(EVP_PKEY* key) {
    return (static_cast<std::size_t>(EVP_PKEY_get_bits(key)) + 7) / 8;
}

// The public members of a JWK without braces; `more` follows after a comma.
inline std::string jwk_members(EVP_PKEY* key) {
    if (EVP_PKEY_is_a(key, "RSA") == 1) {
        return R"("kty":"RSA","n":")" + base64url_encode(number(key, OSSL_PKEY_PARAM_RSA_N)) + R"(","e":")" +
               base64url_encode(number(key, OSSL_PKEY_PARAM_RSA_E)) + "\"";
    }
    if (EVP_PKEY_is_a(key, "EC") == 1) {
        const std::size_t bytes = coordinate_bytes(key);
        const std::string curve = bytes == 32 ? "P-256" : bytes == 48 ? "P-384" : "P-521";
        return R"("kty":"EC","crv":")" + curve + R"(","x":")" +
               base64url_encode(number(key, OSSL_PKEY_PARAM_EC_PUB_X, bytes)) + R"(","y":")" +
               base64url_encode(number(key, OSSL_PKEY_PARAM_EC_PUB_Y, bytes)) + "\"";
    }
    std::string raw(32, '\0');
    std::size_t size = raw.size();
    EVP_PKEY_get_raw_public_key(key, reinterpret_cast<unsigned char*>(raw.data()), &size);
    return R"("kty":"OKP","crv":"Ed25519","x":")" + base64url_encode(raw) + "\"";
}
inline std::string jwk(EVP_PKEY* key, std::string_view more = {}) {
    return "{" + jwk_members(key) + (more.empty() ? "" : ",") + std::string(more) + "}";
}
inline std::string oct_jwk(std::string_view secret, std::string_view more = {}) {
    return R"({"kty":"oct","k":")" + base64url_encode(secret) + "\"" + (more.empty() ? "" : ",") + std::string(more) +
           "}";
}

// A fresh key for an asymmetric algorithm; the same one for all that share a type.
inline EVP_PKEY* key_for(JwtAlgorithm algorithm) {
    static const EvpKey rsa(EVP_RSA_gen(2048)), p256(EVP_EC_gen("P-256")), p384(EVP_EC_gen("P-384")),
        p521(EVP_EC_gen("P-521")), ed25519(EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519"));
    switch (algorithm) {
        case JwtAlgorithm::kEs256:
            return p256.get();
        case JwtAlgorithm::kEs384:
            return p384.get();
        case JwtAlgorithm::kEs512:
            return p521.get();
        case JwtAlgorithm::kEdDsa:
            return ed25519.get();
        default:
            return rsa.get();
    }
}

inline const EVP_MD* hash_for(JwtAlgorithm algorithm) {
    const std::string_view bits = jwt_algorithm_name(algorithm).substr(2);
    return bits == "256" ? EVP_sha256() : bits == "384" ? EVP_sha384() : bits == "512" ? EVP_sha512() : nullptr;
}

// ECDSA-Sig-Value in DER for the EC algorithms: what a JWS must not hold.
inline std::string openssl_signature(EVP_PKEY* key, JwtAlgorithm algorithm, std::string_view text,
                                     int pss_salt_bytes = RSA_PSS_SALTLEN_DIGEST) {
    const EvpDigestContext context(EVP_MD_CTX_new());
    EVP_PKEY_CTX* key_context = nullptr;
    EVP_DigestSignInit(context.get(), &key_context, hash_for(algorithm), nullptr, key);
    if (jwt_algorithm_name(algorithm).starts_with("PS")) {
        EVP_PKEY_CTX_set_rsa_padding(key_context, RSA_PKCS1_PSS_PADDING);
        EVP_PKEY_CTX_set_rsa_pss_saltlen(key_context, pss_salt_bytes);
    }
    std::string signature(static_cast<std::size_t>(EVP_PKEY_get_size(key)) + 8, '\0');
    std::size_t size = signature.size();
    EVP_DigestSign(context.get(), reinterpret_cast<unsigned char*>(signature.data()), &size,
                   reinterpret_cast<const unsigned char*>(text.data()), text.size());
    signature.resize(size);
    return signature;
}

// R‖S of a DER signature.
inline std::string raw_ecdsa(const std::string& der, std::size_t bytes) {
    const auto* at = reinterpret_cast<const unsigned char*>(der.data());
    const std::unique_ptr<ECDSA_SIG, OpensslDeleter<ECDSA_SIG_free>> parts(
        d2i_ECDSA_SIG(nullptr, &at, static_cast<long>(der.size())));
    std::string raw(2 * bytes, '\0');
    auto* const out = reinterpret_cast<unsigned char*>(raw.data());
    BN_bn2binpad(ECDSA_SIG_get0_r(parts.get()), out, static_cast<int>(bytes));
    BN_bn2binpad(ECDSA_SIG_get0_s(parts.get()), out + bytes, static_cast<int>(bytes));
    return raw;
}

// A signature as RFC 7518 has it; `secret` is for the HS algorithms.
inline std::string signature_of(JwtAlgorithm algorithm, std::string_view text, std::string_view secret = {}) {
    const std::string_view name = jwt_algorithm_name(algorithm);
    if (name.starts_with("HS")) {
        return (*KeyMaterial::from_secret(secret))->mac(algorithm, text);
    }
    EVP_PKEY* const key = key_for(algorithm);
    const std::string signature = openssl_signature(key, algorithm, text);
    return name.starts_with("ES") ? raw_ecdsa(signature, coordinate_bytes(key)) : signature;
}

inline std::string signed_token(JwtAlgorithm algorithm, std::string_view header, std::string_view payload,
                                std::string_view secret = {}) {
    const std::string text = base64url_encode(header) + "." + base64url_encode(payload);
    return text + "." + base64url_encode(signature_of(algorithm, text, secret));
}

}  // namespace headgate::jwt_keys
