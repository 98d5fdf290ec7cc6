// Input: a token as the client sent it, key sources, a policy, the time. Output: its claims, or
// why it is refused. Next: auth at the edge, the sidecar's API.
#include "common/jwt.h"

#include <jansson.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <optional>

#include "common/base64url.h"
#include "common/event_record.h"
#include "common/ip_network.h"
#include "common/limits.h"
#include "common/problem.h"
#include "common/scopes.h"

namespace headgate {

namespace {

constexpr double kNumericDateLimit = 9'007'199'254'740'992.0;  // 2^53: from here on doubles skip integers
constexpr std::int64_t kLeewaySecondsMax = 10LL * 365 * 24 * 3600;

constexpr std::array<std::string_view, 12> kStatusNames = {
    "ok",      "malformed",     "too_large",  "bad_algorithm", "unknown_kid",   "bad_signature",
    "expired", "not_yet_valid", "bad_issuer", "bad_audience",  "missing_claim", "bad_claim"};

struct JsonDeleter {
    void operator()(json_t* value) const noexcept { json_decref(value); }
};
using Json = std::unique_ptr<json_t, JsonDeleter>;

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

// Counted before parsing, because the parser's own limit is far away and its recursion is real.
bool is_too_deep(std::string_view text) noexcept {
    int depth = 0;
    bool in_string = false;
    for (std::size_t i = 0; i < text.size(); ++i) {
        const char c = text[i];
        if (in_string) {
            i += c == '\\' ? 1 : 0;
            in_string = c != '"';
        } else if (c == '"') {
            in_string = true;
        } else if (c == '{' || c == '[') {
            if (++depth > limits::kTokenJsonDepthMax) {
                return true;
            }
        } else if (c == '}' || c == ']') {
            --depth;
        }
    }
    return false;
}

// An object, or null. Numbers become reals, so that one of 20 digits is a bad claim and not bad JSON. jansson refuses
// invalid UTF-8, NUL (escaped too), lone surrogates and trailing bytes by itself.
Json parse_object(std::string_view text) noexcept {
    if (is_too_deep(text)) {
        return nullptr;
    }
    json_error_t error;
    Json value(json_loadb(text.data(), text.size(), JSON_REJECT_DUPLICATES | JSON_DECODE_INT_AS_REAL, &error));
    return value && json_is_object(value.get()) ? std::move(value) : nullptr;
}

std::string_view text_of(const json_t* value) noexcept { return {json_string_value(value), json_string_length(value)}; }

bool is_plain_text(std::string_view text, std::size_t bytes_max) noexcept {
    return text.size() <= bytes_max && !has_control_characters(text);
}

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
        header.kid = text_of(kid);
    }
    const json_t* const alg = json_object_get(object, "alg");
    if (!json_is_string(alg) || !parse_jwt_algorithm(text_of(alg), header.algorithm)) {
        return JwtStatus::kAlgorithm;
    }
    const auto& allowed = policy.algorithms;
    if (!allowed.empty() && std::find(allowed.begin(), allowed.end(), header.algorithm) == allowed.end()) {
        return JwtStatus::kAlgorithm;
    }
    return JwtStatus::kOk;
}

bool signature_is_right(const VerificationKey& key, std::string_view signed_text, std::string_view signature) noexcept {
    if (key.algorithm != JwtAlgorithm::kHs256 || key.hmac == nullptr) {
        return false;
    }
    const Sha256Digest mac = key.hmac->sign(signed_text);
    return equal_constant_time({reinterpret_cast<const char*>(mac.data()), mac.size()}, signature);
}

// Reads claims one after another; the first problem stays.
class ClaimReader {
 public:
    ClaimReader(const json_t* object, JwtVerification& result) noexcept : object_(object), result_(result) {
        result_.status = JwtStatus::kOk;
    }
    [[nodiscard]] bool ok() const noexcept { return result_.status == JwtStatus::kOk; }
    void refuse(JwtStatus status, std::string_view claim = {}) noexcept {
        if (ok()) {
            result_.status = status;
            result_.claim = claim;
        }
    }
    [[nodiscard]] const json_t* member(const char* name) const noexcept { return json_object_get(object_, name); }

    // A string without control characters; nullopt when it is absent or refused. `claim` is what refusals name.
    std::optional<std::string_view> text(const char* name, std::string_view claim, std::size_t bytes_max) noexcept {
        const json_t* const value = member(name);
        if (value == nullptr) {
            return std::nullopt;
        }
        if (!json_is_string(value) || !is_plain_text(text_of(value), bytes_max)) {
            refuse(JwtStatus::kBadClaim, claim);
            return std::nullopt;
        }
        return text_of(value);
    }
    // The same, and neither absent nor empty.
    std::string_view required_text(const char* name, std::string_view claim, std::size_t bytes_max) noexcept {
        const auto value = text(name, claim, bytes_max);
        if (!value) {
            refuse(JwtStatus::kMissingClaim, claim);
        } else if (value->empty()) {
            refuse(JwtStatus::kBadClaim, claim);
        }
        return value.value_or(std::string_view());
    }
    // A NumericDate (RFC 7519, section 2), fractions rounded down.
    std::optional<std::int64_t> date(const char* name) noexcept {
        const json_t* const value = member(name);
        if (value == nullptr) {
            return std::nullopt;
        }
        const double seconds = json_is_real(value) ? json_real_value(value) : -1;
        if (!(seconds >= 0 && seconds < kNumericDateLimit)) {
            refuse(JwtStatus::kBadClaim, name);
            return std::nullopt;
        }
        return static_cast<std::int64_t>(seconds);
    }

 private:
    const json_t* object_;
    JwtVerification& result_;
};

void check_times(ClaimReader& reader, const JwtPolicy& policy, std::int64_t now, JwtClaims& claims) noexcept {
    const std::int64_t leeway = std::clamp<std::int64_t>(policy.leeway_seconds, 0, kLeewaySecondsMax);
    const auto exp = reader.date("exp");
    if (!exp) {
        reader.refuse(JwtStatus::kMissingClaim, "exp");
        return;
    }
    if (now >= *exp + leeway) {
        reader.refuse(JwtStatus::kExpired);
    }
    if (const auto nbf = reader.date("nbf"); nbf && *nbf > now + leeway) {
        reader.refuse(JwtStatus::kNotYetValid);
    }
    const auto iat = reader.date("iat");
    if (iat && *iat > now + std::max(leeway, limits::kTokenIatSlackSeconds)) {
        reader.refuse(JwtStatus::kNotYetValid);
    }
    claims.exp_seconds = *exp;
    claims.iat_seconds = iat.value_or(0);
}

void check_audience(ClaimReader& reader, const JwtPolicy& policy) {
    const json_t* const aud = reader.member("aud");
    const auto is_wanted = [&policy](const json_t* value) {
        return std::find(policy.audiences.begin(), policy.audiences.end(), text_of(value)) != policy.audiences.end();
    };
    bool matched = policy.audiences.empty();
    if (json_is_string(aud)) {
        matched = matched || is_wanted(aud);
    } else if (json_is_array(aud)) {
        for (std::size_t i = 0; i < json_array_size(aud); ++i) {
            const json_t* const value = json_array_get(aud, i);
            if (!json_is_string(value)) {
                reader.refuse(JwtStatus::kBadClaim, "aud");
                return;
            }
            matched = matched || is_wanted(value);
        }
    } else if (aud != nullptr) {
        reader.refuse(JwtStatus::kBadClaim, "aud");
    }
    if (!matched) {
        reader.refuse(JwtStatus::kBadAudience);
    }
}

void append_item(std::string& list, std::string_view item) { list.append(list.empty() ? "" : " ").append(item); }

// Splits a list at its spaces and calls take(item) for each; false when it is too long or an item is refused.
template <typename Take>
bool for_each_item(std::string_view list, std::size_t items_max, Take take) {
    std::size_t items = 0;
    while (!list.empty()) {
        const std::size_t end = std::min(list.find(' '), list.size());
        if (end > 0 && (++items > items_max || !take(list.substr(0, end)))) {
            return false;
        }
        list.remove_prefix(std::min(end + 1, list.size()));
    }
    return true;
}

std::string read_scope(ClaimReader& reader, const JwtSource& source) {
    const auto scope = reader.text("scope", "scope", limits::kTokenBytesMax);
    if (!scope) {
        return {};
    }
    const bool bounded = for_each_item(*scope, limits::kScopesMax,
                                       [](std::string_view item) { return item.size() <= limits::kScopeBytesMax; });
    if (!bounded) {
        reader.refuse(JwtStatus::kBadClaim, "scope");
        return {};
    }
    return scopes_under_ceiling(*scope, source.scope_ceiling);
}

// A string separated by spaces, or an array of strings; every item is an address or a network.
std::string read_allowed_ips(ClaimReader& reader) {
    std::string list;
    const auto take = [&list](std::string_view item) {
        append_item(list, item);
        return parse_network(item).has_value();
    };
    const json_t* const value = reader.member("allowed_ips");
    bool right = true;
    if (json_is_string(value)) {
        right = for_each_item(text_of(value), limits::kAllowedIpsMax, take);
    } else if (json_is_array(value)) {
        right = json_array_size(value) <= limits::kAllowedIpsMax;
        for (std::size_t i = 0; right && i < json_array_size(value); ++i) {
            const json_t* const item = json_array_get(value, i);
            right = json_is_string(item) && take(text_of(item));
        }
    } else {
        right = value == nullptr;
    }
    if (!right) {
        reader.refuse(JwtStatus::kBadClaim, "allowed_ips");
    }
    return list;
}

// Everything but iss, which chose the source.
void read_claims(ClaimReader& reader, const JwtSource& source, const JwtPolicy& policy, std::int64_t now,
                 JwtClaims& claims) {
    check_times(reader, policy, now, claims);
    check_audience(reader, policy);
    claims.sub = reader.required_text("sub", "sub", kClaimBytesMax);
    claims.org = source.org_fixed.empty()
                     ? reader.required_text(source.org_claim.c_str(), "org", limits::kOrgIdBytesMax)
                     : std::string_view(source.org_fixed);
    claims.scope = read_scope(reader, source);
    claims.plan = reader.text("plan", "plan", kClaimBytesMax).value_or("");
    claims.key_id = reader.text("key", "key", limits::kKeyIdBytesMax).value_or("");
    claims.jti = reader.text("jti", "jti", kClaimBytesMax).value_or("");
    claims.allowed_ips = read_allowed_ips(reader);
    if (source.issuer == kOwnIssuer) {
        claims.limits = reader.text("limits", "limits", kClaimBytesMax).value_or("");
    }
}

JwtVerification refused(JwtStatus status) { return {.status = status, .claims = {}, .claim = {}}; }

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
            if (key.algorithm != header.algorithm) {
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
    const Json header_object = parse_object(header_json.view());
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
            if (!signature_is_right(key, token.substr(0, last_dot), signature.view())) {
                return false;
            }
            if (!payload) {
                payload = parse_object(payload_json.view());
            }
            if (!payload) {
                decided = JwtStatus::kMalformed;
                return true;
            }
            result = {};
            ClaimReader reader(payload.get(), result);
            const std::string_view iss = reader.required_text("iss", "iss", kClaimBytesMax);
            if (reader.ok() && iss != source.issuer) {
                decided = JwtStatus::kBadIssuer;
                return false;
            }
            decided.reset();
            if (reader.ok()) {
                read_claims(reader, source, policy, now_seconds, result.claims);
                result.claims.iss = iss;
                result.claims.kid = key.kid;
            }
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
    }
    return result;
}

std::string sign_jwt_hs256(const VerificationKey& key, std::string_view payload_json) {
    std::string header = R"({"alg":"HS256","typ":"JWT","kid":)";
    append_json_string(header, key.kid);
    header += '}';
    std::string token = base64url_encode(header);
    token.append(".").append(base64url_encode(payload_json));
    const Sha256Digest mac = key.hmac->sign(token);
    token.append(".").append(base64url_encode({reinterpret_cast<const char*>(mac.data()), mac.size()}));
    return token;
}

}  // namespace headgate
