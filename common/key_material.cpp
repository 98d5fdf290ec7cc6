// Input: the numbers of a key. Output: a key that verifies. Next: jwk.cpp and key_pem.cpp, which read the numbers;
// jwt.cpp, which verifies.
#include "common/key_material.h"

#include <openssl/core_names.h>
#include <openssl/param_build.h>
#include <openssl/rsa.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <utility>

#include "common/base64url.h"
#include "common/ed25519_point.h"
#include "common/key_formats.h"
#include "common/limits.h"

namespace headgate {

namespace {

constexpr AlgorithmSet kRsaAlgorithms = {JwtAlgorithm::kRs256, JwtAlgorithm::kRs384, JwtAlgorithm::kRs512,
                                         JwtAlgorithm::kPs256, JwtAlgorithm::kPs384, JwtAlgorithm::kPs512};
constexpr std::size_t kCoordinateBytesMax = 66;  // P-521
constexpr std::size_t kRsaExponentBytesMax = 4;

struct CurveTraits {
    const char* jose_name;
    const char* openssl_name;
    std::size_t coordinate_bytes;
    JwtAlgorithm algorithm;
};
constexpr std::array<CurveTraits, 3> kCurves = {{{"P-256", "prime256v1", 32, JwtAlgorithm::kEs256},
                                                 {"P-384", "secp384r1", 48, JwtAlgorithm::kEs384},
                                                 {"P-521", "secp521r1", 66, JwtAlgorithm::kEs512}}};

using ParamBuilder = std::unique_ptr<OSSL_PARAM_BLD, OpensslDeleter<OSSL_PARAM_BLD_free>>;
using Params = std::unique_ptr<OSSL_PARAM, OpensslDeleter<OSSL_PARAM_free>>;

// RFC 7638, section 3: of the JSON of the members that a key of this type must have, in this order.
std::string thumbprint_of(std::string_view json) {
    const Sha256Digest digest = sha256(json);
    return base64url_encode({reinterpret_cast<const char*>(digest.data()), digest.size()});
}

Sha2 hash_of(JwtAlgorithm algorithm) noexcept {
    switch (algorithm) {
        case JwtAlgorithm::kHs384:
        case JwtAlgorithm::kRs384:
        case JwtAlgorithm::kPs384:
        case JwtAlgorithm::kEs384:
            return Sha2::k384;
        case JwtAlgorithm::kHs512:
        case JwtAlgorithm::kRs512:
        case JwtAlgorithm::kPs512:
        case JwtAlgorithm::kEs512:
            return Sha2::k512;
        default:
            return Sha2::k256;
    }
}

bool is_pss(JwtAlgorithm algorithm) noexcept {
    return algorithm >= JwtAlgorithm::kPs256 && algorithm <= JwtAlgorithm::kPs512;
}
bool is_ecdsa(JwtAlgorithm algorithm) noexcept {
    return algorithm >= JwtAlgorithm::kEs256 && algorithm <= JwtAlgorithm::kEs512;
}

std::string_view without_leading_zeros(std::string_view number) noexcept {
    return number.substr(std::min(number.find_first_not_of('\0'), number.size()));
}

BigNumber big_number(std::string_view bytes) noexcept {
    return BigNumber(
        BN_bin2bn(reinterpret_cast<const unsigned char*>(bytes.data()), static_cast<int>(bytes.size()), nullptr));
}

EvpKey key_from_params(const char* type, OSSL_PARAM* params) noexcept {
    const EvpKeyContext context(EVP_PKEY_CTX_new_from_name(nullptr, type, nullptr));
    EVP_PKEY* key = nullptr;
    if (!context || params == nullptr || EVP_PKEY_fromdata_init(context.get()) != 1 ||
        EVP_PKEY_fromdata(context.get(), &key, EVP_PKEY_PUBLIC_KEY, params) != 1) {
        return nullptr;
    }
    return EvpKey(key);
}

// One INTEGER of DER: no leading zeros, but one before a set top bit. Returns what it wrote; 0 for a zero.
std::size_t put_der_integer(std::string_view number, unsigned char* out) noexcept {
    number = without_leading_zeros(number);
    if (number.empty()) {
        return 0;
    }
    std::size_t at = 0;
    const std::size_t zeros = (static_cast<unsigned char>(number[0]) & 0x80u) != 0 ? 1 : 0;
    out[at++] = 0x02;
    out[at++] = static_cast<unsigned char>(number.size() + zeros);
    if (zeros != 0) {
        out[at++] = 0;
    }
    std::memcpy(out + at, number.data(), number.size());
    return at + number.size();
}

struct DerSignature {
    std::array<unsigned char, 3 + 2 * (3 + kCoordinateBytesMax)> bytes;
    std::size_t size = 0;  // 0: r or s is zero
};

// ECDSA-Sig-Value (RFC 3279, section 2.2.3), which is what OpenSSL takes, of R‖S.
DerSignature der_signature(std::string_view r_and_s) noexcept {
    DerSignature der;
    std::array<unsigned char, 2 * (3 + kCoordinateBytesMax)> content;
    const std::size_t half = r_and_s.size() / 2;
    const std::size_t r_bytes = put_der_integer(r_and_s.substr(0, half), content.data());
    const std::size_t s_bytes = put_der_integer(r_and_s.substr(half), content.data() + r_bytes);
    if (r_bytes == 0 || s_bytes == 0) {
        return der;
    }
    const std::size_t content_bytes = r_bytes + s_bytes;
    der.bytes[der.size++] = 0x30;
    if (content_bytes >= 0x80) {
        der.bytes[der.size++] = 0x81;
    }
    der.bytes[der.size++] = static_cast<unsigned char>(content_bytes);
    std::memcpy(der.bytes.data() + der.size, content.data(), content_bytes);
    der.size += content_bytes;
    return der;
}

const EVP_MD* openssl_hash(Sha2 hash) noexcept {
    return hash == Sha2::k256 ? EVP_sha256() : hash == Sha2::k384 ? EVP_sha384() : EVP_sha512();
}

std::string coordinate(const EVP_PKEY* key, const char* name, std::size_t bytes) {
    BIGNUM* raw = nullptr;
    EVP_PKEY_get_bn_param(key, name, &raw);
    const BigNumber number(raw);
    std::string text(bytes, '\0');
    const bool fits = number && BN_bn2binpad(raw, reinterpret_cast<unsigned char*>(text.data()),
                                             static_cast<int>(bytes)) == static_cast<int>(bytes);
    return fits ? text : std::string();
}

std::string number_of(const EVP_PKEY* key, const char* name) {
    BIGNUM* raw = nullptr;
    EVP_PKEY_get_bn_param(key, name, &raw);
    const BigNumber number(raw);
    std::string text(number ? static_cast<std::size_t>(BN_num_bytes(raw)) : 0, '\0');
    if (number) {
        BN_bn2bin(raw, reinterpret_cast<unsigned char*>(text.data()));
    }
    return text;
}

}  // namespace

// An EVP_PKEY_CTX that is ready to verify digests. Setting one up costs several fetches, so it is done once; a
// context that was used may be used again (EVP_PKEY_verify(3)), but by one thread at a time: the one that finds it
// idle.
class KeyMaterial::Verifier {
 public:
    ~Verifier() { EVP_PKEY_CTX_free(idle_.load(std::memory_order_relaxed)); }
    Verifier() = default;
    Verifier(const Verifier&) = delete;
    Verifier& operator=(const Verifier&) = delete;

    [[nodiscard]] bool init(EVP_PKEY* key, JwtAlgorithm algorithm) noexcept {
        template_.reset(EVP_PKEY_CTX_new_from_pkey(nullptr, key, nullptr));
        EVP_PKEY_CTX* const context = template_.get();
        const EVP_MD* const hash = openssl_hash(hash_of(algorithm));
        if (context == nullptr || EVP_PKEY_verify_init(context) != 1) {
            return false;
        }
        if (is_ecdsa(algorithm)) {
            return EVP_PKEY_CTX_set_signature_md(context, hash) == 1;
        }
        if (!is_pss(algorithm)) {
            return EVP_PKEY_CTX_set_rsa_padding(context, RSA_PKCS1_PADDING) == 1 &&
                   EVP_PKEY_CTX_set_signature_md(context, hash) == 1;
        }
        // RFC 7518, section 3.5: MGF1 with the same hash, a salt as long as the hash.
        return EVP_PKEY_CTX_set_rsa_padding(context, RSA_PKCS1_PSS_PADDING) == 1 &&
               EVP_PKEY_CTX_set_signature_md(context, hash) == 1 && EVP_PKEY_CTX_set_rsa_mgf1_md(context, hash) == 1 &&
               EVP_PKEY_CTX_set_rsa_pss_saltlen(context, RSA_PSS_SALTLEN_DIGEST) == 1;
    }

    [[nodiscard]] bool verify(const unsigned char* digest, std::size_t digest_bytes, const unsigned char* signature,
                              std::size_t signature_bytes) noexcept {
        EvpKeyContext context(idle_.exchange(nullptr, std::memory_order_acq_rel));
        if (!context) {
            context.reset(EVP_PKEY_CTX_dup(template_.get()));
        }
        if (!context) {
            return false;
        }
        const bool right = EVP_PKEY_verify(context.get(), signature, signature_bytes, digest, digest_bytes) == 1;
        EVP_PKEY_CTX_free(idle_.exchange(context.release(), std::memory_order_acq_rel));
        return right;
    }

 private:
    EvpKeyContext template_;
    std::atomic<EVP_PKEY_CTX*> idle_ = nullptr;  // owned
};

std::string thumbprint_of_secret(std::string_view secret) {
    return thumbprint_of(R"({"k":")" + base64url_encode(secret) + R"(","kty":"oct"})");
}

KeyMaterial::KeyMaterial() = default;
KeyMaterial::~KeyMaterial() = default;

KeyMaterial::Made KeyMaterial::from_secret(std::string_view secret) {
    if (secret.size() < limits::kSecretBytesMin) {
        return refuse("the secret has " + std::to_string(secret.size()) + " bytes: HS256 needs at least 32");
    }
    std::shared_ptr<KeyMaterial> material(new KeyMaterial);
    for (std::size_t i = 0; i < material->macs_.size(); ++i) {
        const auto hash = static_cast<Sha2>(i);
        if (secret.size() >= hash_bytes(hash)) {
            material->macs_[i].emplace(hash, secret);
            material->algorithms_.insert(static_cast<JwtAlgorithm>(i));
        }
    }
    material->thumbprint_ = thumbprint_of_secret(secret);
    return material;
}

KeyMaterial::Made KeyMaterial::from_rsa(std::string_view modulus, std::string_view exponent) {
    const OpensslErrorMark mark;
    modulus = without_leading_zeros(modulus);
    exponent = without_leading_zeros(exponent);
    if (modulus.size() > limits::kRsaBitsMax / 8) {
        return refuse("RSA keys need 2048 to 16384 bits: this one has more");
    }
    const BigNumber n = big_number(modulus), e = big_number(exponent);
    if (!n || !e) {
        return fail(ErrorCode::kInternal, "OpenSSL has no memory for a key");
    }
    if (BN_num_bits(n.get()) < static_cast<int>(limits::kRsaBitsMin)) {
        return refuse("RSA keys need 2048 to 16384 bits: this one has " + std::to_string(BN_num_bits(n.get())));
    }
    if (!BN_is_odd(n.get())) {
        return refuse("the RSA modulus is even");
    }
    if (!BN_is_odd(e.get()) || BN_is_one(e.get()) || exponent.size() > kRsaExponentBytesMax) {
        return refuse("the RSA exponent is not an odd number from 3 to 2^32");
    }
    const ParamBuilder builder(OSSL_PARAM_BLD_new());
    if (!builder || OSSL_PARAM_BLD_push_BN(builder.get(), OSSL_PKEY_PARAM_RSA_N, n.get()) != 1 ||
        OSSL_PARAM_BLD_push_BN(builder.get(), OSSL_PKEY_PARAM_RSA_E, e.get()) != 1) {
        return fail(ErrorCode::kInternal, "OpenSSL has no memory for a key");
    }
    const Params params(OSSL_PARAM_BLD_to_param(builder.get()));
    return from_key(
        key_from_params("RSA", params.get()), kRsaAlgorithms,
        R"({"e":")" + base64url_encode(exponent) + R"(","kty":"RSA","n":")" + base64url_encode(modulus) + "\"}");
}

KeyMaterial::Made KeyMaterial::from_ec(EcCurve curve, std::string_view x, std::string_view y) {
    const OpensslErrorMark mark;
    const CurveTraits& traits = kCurves[static_cast<std::size_t>(curve)];
    if (x.size() != traits.coordinate_bytes || y.size() != traits.coordinate_bytes) {
        return refuse("a coordinate on " + std::string(traits.jose_name) + " has " +
                      std::to_string(traits.coordinate_bytes) + " bytes");
    }
    std::string point = "\x04";  // uncompressed (SEC 1, section 2.3.4)
    point.append(x).append(y);
    const std::array<OSSL_PARAM, 3> params = {
        OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, const_cast<char*>(traits.openssl_name), 0),
        OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY, point.data(), point.size()),
        OSSL_PARAM_construct_end()};
    EvpKey key = key_from_params("EC", const_cast<OSSL_PARAM*>(params.data()));
    if (!key) {
        return refuse("the point is not on " + std::string(traits.jose_name));
    }
    return from_key(std::move(key), {traits.algorithm},
                    R"({"crv":")" + std::string(traits.jose_name) + R"(","kty":"EC","x":")" + base64url_encode(x) +
                        R"(","y":")" + base64url_encode(y) + "\"}");
}

KeyMaterial::Made KeyMaterial::from_ed25519(std::string_view public_key) {
    const OpensslErrorMark mark;
    if (public_key.size() != 32) {
        return refuse("an Ed25519 key has 32 bytes");
    }
    if (!ed25519_point_is_proper(public_key)) {
        return refuse("this is no usable point of Ed25519");
    }
    EvpKey key(EVP_PKEY_new_raw_public_key_ex(
        nullptr, "ED25519", nullptr, reinterpret_cast<const unsigned char*>(public_key.data()), public_key.size()));
    return from_key(std::move(key), {JwtAlgorithm::kEdDsa},
                    R"({"crv":"Ed25519","kty":"OKP","x":")" + base64url_encode(public_key) + "\"}");
}

KeyMaterial::Made KeyMaterial::from_key(EvpKey key, AlgorithmSet algorithms, const std::string& thumbprint_json) {
    std::shared_ptr<KeyMaterial> material(new KeyMaterial);
    material->algorithms_ = algorithms;
    material->key_ = std::move(key);
    EVP_PKEY* const raw = material->key_.get();
    bool right = raw != nullptr;
    for (std::size_t i = 0; right && i < kJwtAlgorithmCount; ++i) {
        const auto algorithm = static_cast<JwtAlgorithm>(i);
        if (!algorithms.contains(algorithm)) {
            continue;
        }
        if (algorithm == JwtAlgorithm::kEdDsa) {
            material->ed25519_.reset(EVP_MD_CTX_new());
            right = material->ed25519_ != nullptr && EVP_DigestVerifyInit_ex(material->ed25519_.get(), nullptr, nullptr,
                                                                             nullptr, nullptr, raw, nullptr) == 1;
            material->signature_bytes_ = 64;
            continue;
        }
        material->verifiers_[i] = std::make_unique<Verifier>();
        right = material->verifiers_[i]->init(raw, algorithm);
        material->signature_bytes_ =
            is_ecdsa(algorithm) ? 2 * kCurves[i - static_cast<std::size_t>(JwtAlgorithm::kEs256)].coordinate_bytes
                                : static_cast<std::size_t>(EVP_PKEY_get_size(raw));
    }
    if (!right) {
        return fail(ErrorCode::kInternal, "OpenSSL does not take the key");
    }
    material->thumbprint_ = thumbprint_of(thumbprint_json);
    return material;
}

KeyMaterial::Made KeyMaterial::from_public_key(const EVP_PKEY* key) {
    const OpensslErrorMark mark;
    if (EVP_PKEY_is_a(key, "RSA") == 1) {
        return from_rsa(number_of(key, OSSL_PKEY_PARAM_RSA_N), number_of(key, OSSL_PKEY_PARAM_RSA_E));
    }
    if (EVP_PKEY_is_a(key, "ED25519") == 1) {
        std::array<unsigned char, 32> bytes;
        std::size_t size = bytes.size();
        if (EVP_PKEY_get_raw_public_key(key, bytes.data(), &size) != 1) {
            return refuse("OpenSSL cannot read the Ed25519 key");
        }
        return from_ed25519({reinterpret_cast<const char*>(bytes.data()), size});
    }
    if (EVP_PKEY_is_a(key, "EC") == 1) {
        std::array<char, 64> name{};
        std::size_t name_bytes = 0;
        int is_explicit = 0;
        EVP_PKEY_get_int_param(key, OSSL_PKEY_PARAM_EC_DECODED_FROM_EXPLICIT_PARAMS, &is_explicit);
        // RFC 5480, section 2.1.1: a curve is named, never spelled out.
        if (is_explicit == 0 && EVP_PKEY_get_group_name(key, name.data(), name.size(), &name_bytes) == 1) {
            for (std::size_t i = 0; i < kCurves.size(); ++i) {
                if (std::string_view(name.data(), name_bytes) == kCurves[i].openssl_name) {
                    return from_ec(static_cast<EcCurve>(i),
                                   coordinate(key, OSSL_PKEY_PARAM_EC_PUB_X, kCurves[i].coordinate_bytes),
                                   coordinate(key, OSSL_PKEY_PARAM_EC_PUB_Y, kCurves[i].coordinate_bytes));
                }
            }
        }
        return refuse("the curve is none of P-256, P-384 and P-521");
    }
    if (EVP_PKEY_is_a(key, "RSA-PSS") == 1) {
        return refuse("RSASSA-PSS keys (with parameters of their own) are not supported: use a plain RSA key");
    }
    return refuse("keys of this type are not supported: RSA, EC and Ed25519 are");
}

bool KeyMaterial::verify(JwtAlgorithm algorithm, std::string_view text, std::string_view signature) const noexcept {
    if (!algorithms_.contains(algorithm)) {
        return false;
    }
    const auto index = static_cast<std::size_t>(algorithm);
    if (index < macs_.size()) {
        unsigned char mac[64];
        macs_[index]->sign_into(text, mac);
        return equal_constant_time({reinterpret_cast<const char*>(mac), macs_[index]->mac_bytes()}, signature);
    }
    if (signature.size() != signature_bytes_) {
        return false;
    }
    const OpensslErrorMark mark;
    const auto* const bytes = reinterpret_cast<const unsigned char*>(signature.data());
    if (algorithm == JwtAlgorithm::kEdDsa) {
        // A context that has verified may not be used again in every OpenSSL 3, so each signature gets a copy.
        const EvpDigestContext context(EVP_MD_CTX_new());
        return context && EVP_MD_CTX_copy_ex(context.get(), ed25519_.get()) == 1 &&
               EVP_DigestVerify(context.get(), bytes, signature.size(),
                                reinterpret_cast<const unsigned char*>(text.data()), text.size()) == 1;
    }
    unsigned char digest[64];
    const std::size_t digest_bytes = digest_into(hash_of(algorithm), text, digest);
    if (is_ecdsa(algorithm)) {
        const DerSignature der = der_signature(signature);
        return der.size > 0 && verifiers_[index]->verify(digest, digest_bytes, der.bytes.data(), der.size);
    }
    return verifiers_[index]->verify(digest, digest_bytes, bytes, signature.size());
}

std::string KeyMaterial::mac(JwtAlgorithm algorithm, std::string_view text) const {
    const auto index = static_cast<std::size_t>(algorithm);
    if (index >= macs_.size() || !macs_[index]) {
        return {};
    }
    unsigned char mac[64];
    macs_[index]->sign_into(text, mac);
    return {reinterpret_cast<const char*>(mac), macs_[index]->mac_bytes()};
}

}  // namespace headgate
