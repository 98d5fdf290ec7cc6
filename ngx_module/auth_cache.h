// The zone's entries of authentication: tokens that were verified, and API keys as Redis had them. A hit is one lookup
// under the zone's lock and one allocation in the request's pool, and parses nothing.
#pragma once

#include "ngx_module/principal_pack.h"
#include "ngx_module/request_ctx.h"
#include "ngx_module/zone.h"

namespace headgate::edge {

// How long an API key's record is good without asking Redis again.
inline constexpr ngx_msec_t kKeyFreshMs = 30'000;
// Entries that would be larger are not kept: those requests are verified, or asked for, each time.
inline constexpr std::size_t kCachedBytesMax = 4032;

// ---- tokens -----------------------------------------------------------------------------------

// The key of an entry is TokenMemo::key_of() over the token and TokenKeys::digest: a location with other keys or
// another policy never meets the entry, nor does this one after they have changed.

// What a verified token may be revoked by.
struct TokenMarks {
    RevocationMark key, kid, jti, sub;
    std::int64_t iat_ms = 0;  // 0: it does not say
};

struct TokenToKeep {
    PrincipalTexts principal;
    TokenMarks marks;
    std::int64_t good_until_s = 0;  // exp and leeway
};

// kOk fills ctx->principal; kPending: it is not there. kExpired and kRevoked (as of revoked_at_ms) drop the entry.
[[nodiscard]] AuthStatus find_token(RequestCtx* ctx, ZoneShared& shared, const ZoneKey& key, std::int64_t now_s,
                                    std::int64_t revoked_at_ms) noexcept;
// kOk: it is not revoked, and is kept if there is room for it. kRevoked otherwise.
[[nodiscard]] AuthStatus keep_token(ZoneShared& shared, const ZoneKey& key, const TokenToKeep& token,
                                    std::int64_t revoked_at_ms) noexcept;

// ---- API keys ---------------------------------------------------------------------------------

struct KeyToKeep {
    PrincipalTexts principal;
    std::int64_t expires_at_ms = 0;  // 0: never
};

// kOk fills ctx->principal, kPending: it is not there, or was asked for more than age_max_ms ago.
[[nodiscard]] AuthStatus find_key(RequestCtx* ctx, ZoneShared& shared, const ZoneKey& key,
                                  ngx_msec_t age_max_ms) noexcept;
// kOk: it is not revoked, and is kept if there is room and no key has changed since key_epoch. kRevoked otherwise.
[[nodiscard]] AuthStatus keep_key(ZoneShared& shared, const ZoneKey& key, const KeyToKeep& record,
                                  std::uint64_t key_epoch) noexcept;

// ---- both -------------------------------------------------------------------------------------

// Copies the texts into the request's pool, in one piece. False without memory.
[[nodiscard]] bool set_principal(RequestCtx* ctx, const PrincipalTexts& texts) noexcept;

}  // namespace headgate::edge
