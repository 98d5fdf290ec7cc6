// See jwt_algorithm.h.
#include "common/jwt_algorithm.h"

#include <array>

namespace headgate {

namespace {

constexpr std::array<std::string_view, kJwtAlgorithmCount> kNames = {"HS256", "HS384", "HS512", "RS256", "RS384",
                                                                     "RS512", "PS256", "PS384", "PS512", "ES256",
                                                                     "ES384", "ES512", "EdDSA"};

}  // namespace

std::string_view jwt_algorithm_name(JwtAlgorithm algorithm) noexcept {
    return kNames[static_cast<std::size_t>(algorithm)];
}

bool parse_jwt_algorithm(std::string_view name, JwtAlgorithm& out) noexcept {
    for (std::size_t i = 0; i < kNames.size(); ++i) {
        if (kNames[i] == name) {
            out = static_cast<JwtAlgorithm>(i);
            return true;
        }
    }
    return false;
}

std::string AlgorithmSet::names() const {
    std::string text;
    for (std::size_t i = 0; i < kNames.size(); ++i) {
        if (contains(static_cast<JwtAlgorithm>(i))) {
            text.append(text.empty() ? "" : " ").append(kNames[i]);
        }
    }
    return text;
}

}  // namespace headgate
