// Input: one parsed JWK. Output: a verification key. Next: jwks.cpp.
#include <optional>
#include <utility>

#include "common/base64url.h"
#include "common/key_formats.h"
#include "common/limits.h"
#include "common/strict_json.h"

namespace headgate {

namespace {

// The decoded value of a base64url member; nullopt when it is absent, empty or not canonical.
std::optional<std::string> bytes_of(const json_t* jwk, const char* name) {
    const json_t* const value = json_object_get(jwk, name);
    if (!json_is_string(value) || json_string_length(value) == 0) {
        return std::nullopt;
    }
    return base64url_decode(json_text(value));
}

// The members of RFC 7518, sections 6.2.2 and 6.3.2, and of RFC 8037, section 2.
bool is_private(const json_t* jwk) noexcept {
    for (const char* const name : {"d", "p", "q", "dp", "dq", "qi", "oth"}) {
        if (json_object_get(jwk, name) != nullptr) {
            return true;
        }
    }
    return false;
}

// Empty when the key may verify signatures (RFC 7517, sections 4.2 and 4.3).
std::string_view problem_of_use(const json_t* jwk) noexcept {
    const json_t* const use = json_object_get(jwk, "use");
    if (use != nullptr && (!json_is_string(use) || json_text(use) != "sig")) {
        return "\"use\" is not \"sig\"";
    }
    const json_t* const operations = json_object_get(jwk, "key_ops");
    if (operations == nullptr) {
        return {};
    }
    for (std::size_t i = 0; i < json_array_size(operations); ++i) {
        if (json_text(json_array_get(operations, i)) == "verify") {
            return {};
        }
    }
    return "\"key_ops\" lacks \"verify\"";
}

KeyMaterial::Made rsa_material(const json_t* jwk) {
    const auto n = bytes_of(jwk, "n"), e = bytes_of(jwk, "e");
    if (!n || !e) {
        return refuse("\"n\" or \"e\" is not base64url");
    }
    return KeyMaterial::from_rsa(*n, *e);
}

KeyMaterial::Made ec_material(const json_t* jwk) {
    const std::string_view name = json_text(json_object_get(jwk, "crv"));
    const auto x = bytes_of(jwk, "x"), y = bytes_of(jwk, "y");
    if (name != "P-256" && name != "P-384" && name != "P-521") {
        return refuse("\"crv\" is none of P-256, P-384 and P-521");
    }
    if (!x || !y) {
        return refuse("\"x\" or \"y\" is not base64url");
    }
    return KeyMaterial::from_ec(name == "P-256"   ? EcCurve::kP256
                                : name == "P-384" ? EcCurve::kP384
                                                  : EcCurve::kP521,
                                *x, *y);
}

KeyMaterial::Made okp_material(const json_t* jwk) {
    const auto x = bytes_of(jwk, "x");
    if (json_text(json_object_get(jwk, "crv")) != "Ed25519") {
        return refuse("\"crv\" is not Ed25519");
    }
    if (!x) {
        return refuse("\"x\" is not base64url");
    }
    return KeyMaterial::from_ed25519(*x);
}

KeyMaterial::Made oct_material(const json_t* jwk, SymmetricKeys symmetric) {
    if (symmetric == SymmetricKeys::kRefuse) {
        return refuse("a symmetric key (kty oct) is accepted from a file only");
    }
    const auto k = bytes_of(jwk, "k");
    if (!k) {
        return refuse("\"k\" is not base64url");
    }
    if (const KeyTextKind kind = key_text_kind(*k); kind != KeyTextKind::kOther) {
        return refuse("\"k\" looks like " + std::string(key_text_kind_name(kind)) +
                      ": only random bytes can be a symmetric key");
    }
    return KeyMaterial::from_secret(*k);
}

KeyMaterial::Made material_of(const json_t* jwk, SymmetricKeys symmetric) {
    const std::string_view kty = json_text(json_object_get(jwk, "kty"));
    if (kty == "oct") {
        return oct_material(jwk, symmetric);
    }
    if (kty != "RSA" && kty != "EC" && kty != "OKP") {
        return refuse("\"kty\" is none of RSA, EC, OKP and oct");
    }
    if (is_private(jwk)) {
        return refuse("this is a private key: publish its public half only");
    }
    return kty == "RSA" ? rsa_material(jwk) : kty == "EC" ? ec_material(jwk) : okp_material(jwk);
}

}  // namespace

Result<VerificationKey> key_from_jwk(const json_t* jwk, SymmetricKeys symmetric) {
    if (!json_is_object(jwk)) {
        return refuse("it is no object");
    }
    const json_t* const kid = json_object_get(jwk, "kid");
    if (kid != nullptr &&
        (!json_is_string(kid) || json_string_length(kid) == 0 || json_string_length(kid) > limits::kKeyIdBytesMax)) {
        return refuse("\"kid\" is not a string of 1 to " + std::to_string(limits::kKeyIdBytesMax) + " bytes");
    }
    if (const std::string_view problem = problem_of_use(jwk); !problem.empty()) {
        return refuse(std::string(problem));
    }
    std::optional<JwtAlgorithm> algorithm;
    if (const json_t* const alg = json_object_get(jwk, "alg"); alg != nullptr) {
        algorithm.emplace();
        if (!json_is_string(alg) || !parse_jwt_algorithm(json_text(alg), *algorithm)) {
            return refuse("\"alg\" names no signature algorithm that is supported");
        }
    }
    auto material = material_of(jwk, symmetric);
    if (!material) {
        return tl::unexpected(std::move(material.error()));
    }
    AlgorithmSet algorithms = (*material)->algorithms();
    if (algorithm) {
        if (!algorithms.contains(*algorithm)) {
            return refuse("\"alg\" " + std::string(jwt_algorithm_name(*algorithm)) +
                          " does not fit the key, which can serve " + algorithms.names());
        }
        algorithms = {*algorithm};
    }
    return VerificationKey{kid != nullptr ? std::string(json_text(kid)) : (*material)->thumbprint(), algorithms,
                           std::move(*material)};
}

}  // namespace headgate
