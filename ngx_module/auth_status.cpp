// See auth_status.h.
#include "ngx_module/auth_status.h"

#include <array>

namespace headgate::edge {

std::string_view auth_status_name(AuthStatus status) noexcept {
    static constexpr std::array<std::string_view, kAuthStatusCount> kNames = {"",
                                                                              "ok",
                                                                              "missing",
                                                                              "ambiguous",
                                                                              "malformed",
                                                                              "too_large",
                                                                              "bad_algorithm",
                                                                              "unknown_kid",
                                                                              "bad_signature",
                                                                              "too_many_keys",
                                                                              "expired",
                                                                              "not_yet_valid",
                                                                              "bad_issuer",
                                                                              "bad_audience",
                                                                              "missing_claim",
                                                                              "bad_claim",
                                                                              "no_org",
                                                                              "bad_key",
                                                                              "unknown_key",
                                                                              "revoked",
                                                                              "ip_denied",
                                                                              "insufficient_scope",
                                                                              "claim_required",
                                                                              "unavailable",
                                                                              ""};
    return kNames[static_cast<std::size_t>(status)];
}

AuthStatus auth_status_of(JwtStatus status) noexcept {
    switch (status) {
        case JwtStatus::kOk:
            return AuthStatus::kOk;
        case JwtStatus::kMalformed:
            return AuthStatus::kMalformed;
        case JwtStatus::kTooLarge:
            return AuthStatus::kTooLarge;
        case JwtStatus::kAlgorithm:
            return AuthStatus::kBadAlgorithm;
        case JwtStatus::kUnknownKid:
            return AuthStatus::kUnknownKid;
        case JwtStatus::kBadSignature:
            return AuthStatus::kBadSignature;
        case JwtStatus::kTooManyKeys:
            return AuthStatus::kTooManyKeys;
        case JwtStatus::kExpired:
            return AuthStatus::kExpired;
        case JwtStatus::kNotYetValid:
            return AuthStatus::kNotYetValid;
        case JwtStatus::kBadIssuer:
            return AuthStatus::kBadIssuer;
        case JwtStatus::kBadAudience:
            return AuthStatus::kBadAudience;
        case JwtStatus::kMissingClaim:
            return AuthStatus::kMissingClaim;
        case JwtStatus::kBadClaim:
            break;
    }
    return AuthStatus::kBadClaim;
}

}  // namespace headgate::edge
