// Making tokens; see token_mint.h. Next file: token.cpp.
#include "sidecar/api/token_mint.h"

#include <algorithm>

#include "common/jwt.h"
#include "common/problem.h"

namespace headgate {

MintedToken mint_token(const ApiKey& key, std::string_view scope, const VerificationKey& signing_key, TimeMs now,
                       std::int64_t lifetime_ms, std::string_view token_id) {
    std::int64_t issued = now / 1000;
    TimeMs expires_ms = now + lifetime_ms;
    if (key.expires_at) expires_ms = std::min(expires_ms, *key.expires_at);
    std::int64_t expires = expires_ms / 1000;
    MintedToken token;
    token.scope = scope.empty() ? key.scopes : std::string(scope);
    token.expires_in_seconds = expires - issued;
    std::string claims = R"({"iss":"headgate","sub":"api","org":)";
    append_json_string(claims, key.org);
    claims += ",\"scope\":";
    append_json_string(claims, token.scope);
    claims += ",\"plan\":";
    append_json_string(claims, key.plan);
    claims += ",\"key\":";
    append_json_string(claims, key.id);
    if (!key.allowed_ips.empty()) {
        claims += ",\"allowed_ips\":";
        append_json_string(claims, key.allowed_ips);
    }
    if (!key.limits.empty()) {
        claims += ",\"limits\":";
        append_json_string(claims, key.limits);
    }
    claims += ",\"jti\":";
    append_json_string(claims, token_id);
    claims += ",\"iat\":" + std::to_string(issued) + ",\"exp\":" + std::to_string(expires) + "}";
    token.text = sign_jwt_hs256(signing_key, claims);
    return token;
}

}  // namespace headgate
