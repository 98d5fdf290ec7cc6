// Input: a token as the client sent it, key sources, a policy, the time. Output: its claims, or
// why it is refused. Next: auth at the edge, the sidecar's API.
#include "common/jwt.h"

#include <algorithm>
#include <array>
#include <optional>

#include "common/base64url.h"
#include "common/jwt_claims.h"
#include "common/jwt_header.h"
#include "common/limits.h"
#include "common/problem.h"
#include "common/strict_json.h"

namespace headgate {

namespace {

constexpr std::array<std::string_view, 13> kStatusNames = {
    "ok",      "malformed",     "too_large",  "bad_algorithm", "unknown_kid",   "bad_signature", "too_many_keys",
    "expired", "not_yet_valid", "bad_issuer", "bad_audience",  "missing_claim", "bad_claim"};

JwtVerification refused(JwtStatus status) { return {.status = status, .claims = {}, .claim = {}, .source = nullptr}; }

// Calls take(source, key) for every key that may have signed the token, until it returns true or has been called as
// often as it may be. What is returned says why there was none, kBadSignature when there were some.
template <typename Take>
JwtStatus for_each_candidate(const std::vector<const JwtSource*>& sources, const JwtHeader& header, Take take) {
    bool kid_known = !header.has_kid;
    std::size_t tried = 0;
    for (const JwtSource* source : sources) {
        for (const VerificationKey& key : source->keys.keys) {
            if (header.has_kid && key.kid != header.kid()) {
                continue;
            }
            kid_known = true;
            if (!key.algorithms.contains(header.algorithm)) {
                continue;
            }
            if (tried++ == limits::kTokenKeysTriedMax) {
                return JwtStatus::kTooManyKeys;
            }
            if (take(*source, key)) {
                return JwtStatus::kOk;
            }
        }
    }
    return !kid_known ? JwtStatus::kUnknownKid : tried == 0 ? JwtStatus::kAlgorithm : JwtStatus::kBadSignature;
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
    JwtSegment payload_json, signature;
    if (first_dot == last_dot || !payload_json.decode(token.substr(first_dot + 1, last_dot - first_dot - 1)) ||
        !signature.decode(token.substr(last_dot + 1))) {
        return refused(JwtStatus::kMalformed);  // a further dot is no base64url character
    }
    JwtHeader header;
    if (const JwtStatus status = read_jwt_header(token.substr(0, first_dot), header); status != JwtStatus::kOk) {
        return refused(status);
    }
    const auto& allowed = policy.algorithms;
    if (!allowed.empty() && std::find(allowed.begin(), allowed.end(), header.algorithm) == allowed.end()) {
        return refused(JwtStatus::kAlgorithm);
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
