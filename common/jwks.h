// Verification keys. A key source (a file, later a JWKS URL) yields one KeySet; each key knows
// the algorithms that it may serve, so that a token's header never chooses how a key is used
// (RFC 8725, section 3.1).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/hmac.h"
#include "common/result.h"

namespace headgate {

enum class JwtAlgorithm : std::uint8_t {
    kHs256,
    kHs384,
    kHs512,
    kRs256,
    kRs384,
    kRs512,
    kPs256,
    kPs384,
    kPs512,
    kEs256,
    kEs384,
    kEs512,
    kEdDsa,
};

[[nodiscard]] std::string_view jwt_algorithm_name(JwtAlgorithm algorithm) noexcept;
// Exact, case-sensitive (RFC 7515, section 4.1.1). False when unknown or not permitted (`none`).
[[nodiscard]] bool parse_jwt_algorithm(std::string_view name, JwtAlgorithm& out) noexcept;

struct VerificationKey {
    std::string kid;                            // RFC 7638 SHA-256 thumbprint when the source gave none
    JwtAlgorithm algorithm;                     // the only one this key serves
    std::shared_ptr<const HmacSha256Key> hmac;  // HS256
};

struct KeySet {
    std::vector<VerificationKey> keys;
};

// RFC 7638 thumbprint of a symmetric key: base64url(SHA-256({"k":"…","kty":"oct"})).
[[nodiscard]] std::string thumbprint_of_secret(std::string_view secret);
// The text of a secret file, for an explicit alg=HS256. Refused: shorter than the hash, or
// looking like a PEM, DER or JWK of an asymmetric key (leading white space included).
[[nodiscard]] Result<KeySet> key_set_from_secret(std::string_view file_text, JwtAlgorithm algorithm);

}  // namespace headgate
