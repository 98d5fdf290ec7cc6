// Making tokens from API keys. Pure: the caller gives key, time and randomness (the token's id).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "common/jwks.h"
#include "sidecar/store/store.h"

namespace headgate {

struct MintedToken {
    std::string text;
    std::int64_t expires_in_seconds = 0;
    std::string scope;
};

// iss `headgate`, sub `api`, org, scope, plan, key, allowed_ips and limits (if the key has them), jti, iat, exp. Never
// longer than the key lives. `scope`: the scopes asked for, or empty for all of the key's.
[[nodiscard]] MintedToken mint_token(const ApiKey& key, std::string_view scope, const VerificationKey& signing_key,
                                     TimeMs now, std::int64_t lifetime_ms, std::string_view token_id);

}  // namespace headgate
