// One verification key in the form that OpenSSL works with: parsed and checked once, then used for every token.
//
// Whatever a key was written as (JWK, PEM, certificate), it is taken apart into its numbers and built anew from
// them here, so that one set of checks holds for all: RSA of 2048 to 16384 bits with an odd exponent of at most 32
// bits (RFC 7518, section 3.3), EC points that lie on the curve, Ed25519 points that exist and are of large order.
#pragma once

#include <openssl/types.h>

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "common/hmac.h"
#include "common/jwt_algorithm.h"
#include "common/openssl_handles.h"
#include "common/result.h"

namespace headgate {

// What KeyMaterial::thumbprint() says of a secret: base64url(SHA-256({"k":"…","kty":"oct"})) (RFC 7638).
[[nodiscard]] std::string thumbprint_of_secret(std::string_view secret);

enum class EcCurve : std::uint8_t { kP256, kP384, kP521 };

// Immutable once made, safe to share between threads. Nothing here leaves anything on OpenSSL's error queue.
class KeyMaterial {
 public:
    using Made = Result<std::shared_ptr<const KeyMaterial>>;  // kInvalidArgument: why the key is refused

    // Serves every HS algorithm whose hash is not longer than the secret (RFC 7518, section 3.2).
    [[nodiscard]] static Made from_secret(std::string_view secret);
    // Big-endian; leading zeros do not count.
    [[nodiscard]] static Made from_rsa(std::string_view modulus, std::string_view exponent);
    // Coordinates of exactly the curve's length (RFC 7518, section 6.2.1.2).
    [[nodiscard]] static Made from_ec(EcCurve curve, std::string_view x, std::string_view y);
    [[nodiscard]] static Made from_ed25519(std::string_view public_key);
    // One of the above from what OpenSSL has decoded; `key` stays the caller's.
    [[nodiscard]] static Made from_public_key(const EVP_PKEY* key);

    ~KeyMaterial();
    KeyMaterial(const KeyMaterial&) = delete;
    KeyMaterial& operator=(const KeyMaterial&) = delete;

    // Everything that a key of this type can serve.
    [[nodiscard]] AlgorithmSet algorithms() const noexcept { return algorithms_; }
    // RFC 7638, SHA-256, base64url: 43 characters.
    [[nodiscard]] const std::string& thumbprint() const noexcept { return thumbprint_; }
    // False for an algorithm outside algorithms(). `signature` is as RFC 7518 has it: R‖S for ECDSA.
    [[nodiscard]] bool verify(JwtAlgorithm algorithm, std::string_view text, std::string_view signature) const noexcept;
    // The MAC of a secret; empty for another key or an algorithm outside algorithms().
    [[nodiscard]] std::string mac(JwtAlgorithm algorithm, std::string_view text) const;

 private:
    class Verifier;  // of one algorithm, key_material.cpp

    KeyMaterial();
    [[nodiscard]] static Made from_key(EvpKey key, AlgorithmSet algorithms, const std::string& thumbprint_json);

    AlgorithmSet algorithms_;
    std::string thumbprint_;
    std::array<std::optional<HmacKey>, 3> macs_;  // HS256, HS384, HS512
    EvpKey key_;
    std::size_t signature_bytes_ = 0;  // the only length a signature can have; not used for secrets
    std::array<std::unique_ptr<Verifier>, kJwtAlgorithmCount> verifiers_;
    EvpDigestContext ed25519_;
};

}  // namespace headgate
