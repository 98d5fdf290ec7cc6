// Input: a token as the client sent it, key sources, a policy, the time. Output: its claims, or
// why it is refused. Next: auth at the edge, the sidecar's API.
#include "common/jwt.h"

#include <algorithm>
#include <array>
#include <optional>

#include "common/base64url.h"
#include "common/jwt_claims.h"
#include "common/limits.h"
#include "common/problem.h"
#include "common/strict_json.h"

namespace headgate {

namespace {

constexpr std::array<std::string_view, 12> kStatusNames = {
    "ok",      "malformed",     "too_large",  "bad_algorithm", "unknown_kid",   "bad_signature",
    "expired", "not_yet_valid", "bad_issuer", "bad_audience",  "missing_claim", "bad_claim"};

// One decoded segment; a token is at most 8 KiB, so that it fits on the stack.
struct Segment {
    std::array<char, limits::kTokenBytesMax / 4 * 3> bytes;
    std::size_t size = 0;
    [[nodiscard]] std::string_view view() const noexcept { return {bytes.data(), size}; }
    [[nodiscard]] bool decode(std::string_view text) noexcept {
        const auto decoded = base64url_decode_into(text, bytes.data(), bytes.size());
        size = decoded.value_or(0);
        return decoded && size > 0;
    }
};

struct Header {
    JwtAlgorithm algorithm = JwtAlgorithm::kHs256;
    std::optional<std::string_view> kid;  // borrowed from the parsed header
};

JwtStatus read_header(const json_t* object, const JwtPolicy& policy, Header& header) noexcept {
    // Extensions that would change what is verified or how: none is supported, so none may be there (RFC 7515,
    // section 4.1.11; RFC 7797; RFC 7516).
    for (const char* const name : {"crit", "b64", "enc", "zip"}) {
        if (json_object_get(object, name) != nullptr) {
            return JwtStatus::kMalformed;
        }
    }
    const json_t* const typ = json_object_get(object, "typ");
    if (typ != nullptr && !json_is_string(typ)) {
        return JwtStatus::kMalformed;
    }
    if (const json_t* const kid = json_object_get(object, "kid"); kid != nullptr) {
        if (!json_is_string(kid) || json_string_length(kid) == 0 || json_string_length(kid) > limits::kKeyIdBytesMax) {
            return JwtStatus::kMalformed;
        }
        header.kid = json_text(kid);
    }
    const json_t* const alg = json_object_get(object, "alg");
    if (!json_is_string(alg) || !parse_jwt_algorithm(json_text(alg), header.algorithm)) {
        return JwtStatus::kAlgorithm;
    }
    const auto& allowed = policy.algorithms;
    if (!allowed.empty() && std::find(allowed.begin(), allowed.end(), header.algorithm) == allowed.end()) {
        return JwtStatus::kAlgorithm;
    }
    return JwtStatus::kOk;
}

JwtVerification refused(JwtStatus status) { return {.status = status, .claims = {}, .claim = {}, .source = nullptr}; }

// Calls take(source, key) for every key that may have signed the token, until it returns true.
// What is returned says why there was none, kBadSignature when there were some.
template <typename Take>
JwtStatus for_each_candidate(const std::vector<const JwtSource*>& sources, const Header& header, Take take) {
    bool kid_known = !header.kid.has_value();
    bool algorithm_fits = false;
    for (const JwtSource* source : sources) {
        for (const VerificationKey& key : source->keys.keys) {
            if (header.kid && key.kid != *header.kid) {
                continue;
            }
            kid_known = true;
            if (!key.algorithms.contains(header.algorithm)) {
                continue;
            }
            algorithm_fits = true;
            if (take(*source, key)) {
                return JwtStatus::kOk;
            }
        }
    }
    return !kid_known ? JwtStatus::kUnknownKid : !algorithm_fits ? JwtStatus::kAlgorithm : JwtStatus::kBadSignature;
}

}  // namespace

std::string_view jwt_status_name(JwtStatus status) noexcept { return kStatusNames[static_cast<std::size_t>(status)]; }

JwtVerification verify_jwt(std::string_view token, const std::vector<const JwtSource*>& sources,
                           const JwtPolicy& policy, std::int64_t now_seconds) {
    if (token.size() > limits::kTokenBytesMax) {
        return refused(JwtStatus::kTooLarge);
    }
    const std::size_t first_dot = token.find('.');
    const std::size_t last_dot = token.rfind('.');
    Segment header_json, payload_json, signature;
    if (first_dot == last_dot || !header_json.decode(token.substr(0, first_dot)) ||
        !payload_json.decode(token.substr(first_dot + 1, last_dot - first_dot - 1)) ||
        !signature.decode(token.substr(last_dot + 1))) {
        return refused(JwtStatus::kMalformed);  // a further dot is no base64url character
    }
    const Json header_object = parse_strict_object(header_json.view());
    if (!header_object) {
        return refused(JwtStatus::kMalformed);
    }
    Header header;
    if (const JwtStatus status = read_header(header_object.get(), policy, header); status != JwtStatus::kOk) {
        return refused(status);
    }

    // Two sources may hold the same key for different issuers: the token belongs to the one that it names.
    JwtVerification result;
    Json payload;
    std::optional<JwtStatus> decided;
    const JwtStatus status =
        for_each_candidate(sources, header, [&](const JwtSource& source, const VerificationKey& key) {
            if (!key.material->verify(header.algorithm, token.substr(0, last_dot), signature.view())) {
                return false;
            }
            if (!payload) {
                payload = parse_strict_object(payload_json.view());
            }
            if (!payload) {
                decided = JwtStatus::kMalformed;
                return true;
            }
            result = {};
            read_jwt_claims(payload.get(), source, policy, now_seconds, result);
            if (result.status == JwtStatus::kBadIssuer) {
                decided = JwtStatus::kBadIssuer;
                return false;
            }
            decided.reset();
            result.claims.kid = key.kid;
            result.source = &source;
            return true;
        });
    if (decided) {
        return refused(*decided);
    }
    if (status != JwtStatus::kOk) {
        return refused(status);
    }
    if (result.status != JwtStatus::kOk) {
        result.claims = {};
        result.source = nullptr;
    }
    return result;
}

std::string sign_jwt_hs256(const VerificationKey& key, std::string_view payload_json) {
    std::string header = R"({"alg":"HS256","typ":"JWT","kid":)";
    append_json_string(header, key.kid);
    header += '}';
    std::string token = base64url_encode(header);
    token.append(".").append(base64url_encode(payload_json));
    const std::string mac = key.material->mac(JwtAlgorithm::kHs256, token);
    token.append(".").append(base64url_encode(mac));
    return token;
}

}  // namespace headgate
