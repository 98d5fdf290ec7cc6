// Why a request was let in or refused: the words of $headgate_auth_status, one table.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "common/jwt.h"

namespace headgate::edge {

enum class AuthStatus : std::uint8_t {
    kOff,  // the location does not authenticate, or has not come to it
    kOk,
    kMissing,    // no credential
    kAmbiguous,  // credentials in two places
    kMalformed,  // a token that is no token
    kTooLarge,
    kBadAlgorithm,
    kUnknownKid,
    kBadSignature,
    kTooManyKeys,  // not verified with all keys that fit
    kExpired,      // token or key
    kNotYetValid,
    kBadIssuer,
    kBadAudience,
    kMissingClaim,
    kBadClaim,
    kNoOrg,   // a genuine token that names no organization
    kBadKey,  // an API key of the wrong form or checksum
    kUnknownKey,
    kRevoked,
    kIpDenied,
    kInsufficientScope,
    kClaimRequired,  // headgate_jwt_require
    kUnavailable,    // it could not be checked: Redis is away or does not know its keys yet
    kPending,        // being checked; no word of its own
    kCount,
};
inline constexpr std::size_t kAuthStatusCount = static_cast<std::size_t>(AuthStatus::kCount);

[[nodiscard]] std::string_view auth_status_name(AuthStatus status) noexcept;
[[nodiscard]] AuthStatus auth_status_of(JwtStatus status) noexcept;

}  // namespace headgate::edge
