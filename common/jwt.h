// JSON Web Tokens (RFC 7519) in compact JWS form (RFC 7515), under RFC 8725.
//
// Pure: no clock, no I/O. The caller gives the keys, the policy and the time. Refused before any
// parsing: more than limits::kTokenBytesMax bytes, not exactly three segments, anything but strict
// base64url. Refused after it: duplicate members, depth over limits::kTokenJsonDepthMax, invalid UTF-8,
// NUL, trailing bytes, any `crit`, `b64`, `enc` or `zip`, an `alg` that is not the key's own. `jwk`, `jku`,
// `x5u` and `x5c` are never used. The order is: structure, header, choice of the key, signature, claims; of the
// claims iss first, then exp, nbf, iat, aud and the rest. No payload is parsed before its signature is right.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/jwks.h"

namespace headgate {

// Of iss, sub, jti, plan and key; org and the lists have limits of their own.
inline constexpr std::size_t kClaimBytesMax = 256;

// Why a token was refused; `$headgate_auth_status` shows jwt_status_name().
enum class JwtStatus : std::uint8_t {
    kOk,
    kMalformed,     // "malformed": segments, base64url, JSON, header members
    kTooLarge,      // "too_large"
    kAlgorithm,     // "bad_algorithm": none, unknown, not allowed, or not the key's
    kUnknownKid,    // "unknown_kid"
    kBadSignature,  // "bad_signature"
    kTooManyKeys,   // "too_many_keys": none of the first limits::kTokenKeysTriedMax that may have signed it did
    kExpired,       // "expired"
    kNotYetValid,   // "not_yet_valid": nbf, or iat too far ahead
    kBadIssuer,     // "bad_issuer"
    kBadAudience,   // "bad_audience"
    kMissingClaim,  // "missing_claim": iss, sub, org or exp
    kBadClaim,      // "bad_claim": wrong type or out of range
};

[[nodiscard]] std::string_view jwt_status_name(JwtStatus status) noexcept;

// Whose tokens the sidecar makes.
inline constexpr std::string_view kOwnIssuer = "headgate";

// One key source: its keys are good for one issuer only.
struct JwtSource {
    KeySet keys;
    std::string issuer{kOwnIssuer};
    std::string org_fixed;                // foreign issuers: org=<fixed>
    std::string org_claim = "org";        // or org=claim:<name>
    std::string scope_ceiling = "admin";  // `admin` = no ceiling
};

struct JwtPolicy {
    std::vector<JwtAlgorithm> algorithms;  // allow list; empty = those of the keys
    std::vector<std::string> audiences;    // empty = aud is not required
    std::int64_t leeway_seconds = 0;       // exp and nbf; iat gets max(leeway, kTokenIatSlackSeconds)
};

struct JwtClaims {
    std::string iss, sub, org, scope, plan, jti, kid;
    std::string allowed_ips;  // separated by spaces
    // The API key that it was made from, and that key's own limits in the syntax of a rate plan; only our own issuer's
    // tokens have them.
    std::string key_id, limits;
    std::int64_t exp_seconds = 0;
    std::int64_t iat_seconds = 0;
};

struct JwtVerification {
    JwtStatus status = JwtStatus::kMalformed;
    JwtClaims claims;  // only when status is kOk; scope is already under the source's ceiling
    // With kMissingClaim and kBadClaim: which one, "org" whatever member of the payload stands for it. Static text.
    std::string_view claim;
    // With kOk: which of the caller's sources it was, and so whose key set a cached result is bound to.
    const JwtSource* source = nullptr;
};

// `sources` in the order in which they are tried; none is null. A token without kid is tried on every key
// that its alg fits, one with kid only on the keys of that name (RFC 7515, section 4.1.4 and appendix D), and either on
// the first limits::kTokenKeysTriedMax of them: what a forged token costs does not grow with the key sets. Leaves
// OpenSSL's error queue as it was.
// Any thread. Throws nothing but std::bad_alloc.
[[nodiscard]] JwtVerification verify_jwt(std::string_view token, const std::vector<const JwtSource*>& sources,
                                         const JwtPolicy& policy, std::int64_t now_seconds);

// Signs with HS256, with a key that serves it: header {"alg":"HS256","typ":"JWT","kid":…}. `payload_json` is used as it
// is.
[[nodiscard]] std::string sign_jwt_hs256(const VerificationKey& key, std::string_view payload_json);

}  // namespace headgate
