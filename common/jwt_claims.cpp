// Input: the payload of a token whose signature is right. Output: its claims, or what is wrong with them.
// Next: jwt.cpp.
#include "common/jwt_claims.h"

#include <algorithm>
#include <optional>

#include "common/event_record.h"
#include "common/ip_network.h"
#include "common/limits.h"
#include "common/scopes.h"
#include "common/strict_json.h"

namespace headgate {

namespace {

constexpr double kNumericDateLimit = 9'007'199'254'740'992.0;  // 2^53: from here on doubles skip integers
constexpr std::int64_t kLeewaySecondsMax = 10LL * 365 * 24 * 3600;

bool is_plain_text(std::string_view text, std::size_t bytes_max) noexcept {
    return text.size() <= bytes_max && !has_control_characters(text);
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
        if (!json_is_string(value) || !is_plain_text(json_text(value), bytes_max)) {
            refuse(JwtStatus::kBadClaim, claim);
            return std::nullopt;
        }
        return json_text(value);
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
        return std::find(policy.audiences.begin(), policy.audiences.end(), json_text(value)) != policy.audiences.end();
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
        right = for_each_item(json_text(value), limits::kAllowedIpsMax, take);
    } else if (json_is_array(value)) {
        right = json_array_size(value) <= limits::kAllowedIpsMax;
        for (std::size_t i = 0; right && i < json_array_size(value); ++i) {
            const json_t* const item = json_array_get(value, i);
            right = json_is_string(item) && take(json_text(item));
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
    claims.jti = reader.text("jti", "jti", kClaimBytesMax).value_or("");
    claims.allowed_ips = read_allowed_ips(reader);
    if (source.issuer == kOwnIssuer) {
        claims.key_id = reader.text("key", "key", limits::kKeyIdBytesMax).value_or("");
        claims.limits = reader.text("limits", "limits", kClaimBytesMax).value_or("");
    }
}

}  // namespace

void read_jwt_claims(const json_t* payload, const JwtSource& source, const JwtPolicy& policy, std::int64_t now_seconds,
                     JwtVerification& result) {
    ClaimReader reader(payload, result);
    const std::string_view iss = reader.required_text("iss", "iss", kClaimBytesMax);
    if (reader.ok() && iss != source.issuer) {
        reader.refuse(JwtStatus::kBadIssuer);
    }
    if (!reader.ok()) {
        return;
    }
    read_claims(reader, source, policy, now_seconds, result.claims);
    result.claims.iss = iss;
}

}  // namespace headgate
