// See auth_cache.h.
#include "ngx_module/auth_cache.h"

#include <cstring>

namespace headgate::edge {

namespace {

struct CachedToken {
    std::int64_t good_until_s;
    std::int64_t iat_ms;
    std::uint64_t revision;  // of the revocations that it was checked against
    Fingerprint kid, jti;    // those of key and sub are made anew from the principal
    bool has_kid, has_jti;
    std::uint16_t bytes;  // of what follows
};

struct CachedKey {
    std::int64_t expires_at_ms;
    std::uint64_t revision;
    ngx_msec_t fetched_ms;
    std::uint16_t bytes;
};

// Behind the fixed part of an entry. No padding in between: a typical principal then fits a size class less.
template <typename Entry>
unsigned char* packed_of(Entry* entry) noexcept {
    return reinterpret_cast<unsigned char*>(entry) + offsetof(Entry, bytes) + sizeof(std::uint16_t);
}
template <typename Entry>
constexpr std::size_t kHeadBytes = offsetof(Entry, bytes) + sizeof(std::uint16_t);

void set_views(Principal& principal, const PrincipalTexts& texts) noexcept {
    const auto set = [&texts](ngx_str_t& to, PrincipalField field) { to = borrowed(texts[field]); };
    set(principal.org, PrincipalField::kOrg);
    set(principal.key_id, PrincipalField::kKeyId);
    set(principal.key_prefix, PrincipalField::kKeyPrefix);
    set(principal.sub, PrincipalField::kSub);
    set(principal.iss, PrincipalField::kIss);
    set(principal.scope, PrincipalField::kScope);
    set(principal.plan, PrincipalField::kPlan);
    set(principal.limits, PrincipalField::kLimits);
    set(principal.allowed_ips, PrincipalField::kAllowedIps);
}

// One copy of the packed bytes, and the principal's texts in it.
bool take_packed(RequestCtx* ctx, const unsigned char* packed, std::size_t bytes) noexcept {
    auto* copy = static_cast<unsigned char*>(ngx_pnalloc(ctx->r->pool, bytes));
    PrincipalTexts texts;
    if (copy == nullptr) {
        return false;
    }
    std::memcpy(copy, packed, bytes);
    if (!unpack_principal(copy, bytes, texts)) {
        return false;
    }
    set_views(ctx->principal, texts);
    return true;
}

bool revokes_any(const RevocationTable& revoked, const TokenMarks& marks, std::int64_t now_ms) noexcept {
    return revoked.revokes(marks.key, marks.iat_ms, now_ms) || revoked.revokes(marks.kid, marks.iat_ms, now_ms) ||
           revoked.revokes(marks.jti, marks.iat_ms, now_ms) || revoked.revokes(marks.sub, marks.iat_ms, now_ms);
}

}  // namespace

bool set_principal(RequestCtx* ctx, const PrincipalTexts& texts) noexcept {
    const std::size_t bytes = packed_bytes(texts);
    auto* packed = bytes == 0 ? nullptr : static_cast<unsigned char*>(ngx_pnalloc(ctx->r->pool, bytes));
    PrincipalTexts copied;
    if (packed == nullptr) {
        return false;
    }
    pack_principal(texts, packed);
    if (!unpack_principal(packed, bytes, copied)) {
        return false;
    }
    set_views(ctx->principal, copied);
    return true;
}

AuthStatus find_token(RequestCtx* ctx, ZoneShared& shared, const ZoneKey& key, std::int64_t now_s,
                      std::int64_t revoked_at_ms) noexcept {
    TokenMarks marks;
    {
        ZoneLock lock(shared.pool);
        auto* entry = static_cast<CachedToken*>(shared.cache.find(ZoneKind::kToken, key));
        if (entry == nullptr) {
            return AuthStatus::kPending;
        }
        if (now_s >= entry->good_until_s) {
            shared.cache.erase(ZoneKind::kToken, key);
            return AuthStatus::kExpired;
        }
        if (!take_packed(ctx, packed_of(entry), entry->bytes)) {
            return AuthStatus::kPending;
        }
        if (entry->revision == shared.auth.revision) {
            return AuthStatus::kOk;
        }
        marks.kid = {entry->kid, entry->has_kid};
        marks.jti = {entry->jti, entry->has_jti};
        marks.iat_ms = entry->iat_ms;
    }
    // Something was revoked since it was checked last.
    marks.key = mark_of_key(view(ctx->principal.key_id));
    marks.sub = mark_of_sub(view(ctx->principal.iss), view(ctx->principal.sub));
    ZoneLock lock(shared.pool);
    if (revokes_any(shared.auth.revoked, marks, revoked_at_ms)) {
        shared.cache.erase(ZoneKind::kToken, key);
        return AuthStatus::kRevoked;
    }
    if (auto* entry = static_cast<CachedToken*>(shared.cache.find(ZoneKind::kToken, key)); entry != nullptr) {
        entry->revision = shared.auth.revision;
    }
    return AuthStatus::kOk;
}

AuthStatus keep_token(ZoneShared& shared, const ZoneKey& key, const TokenToKeep& token,
                      std::int64_t revoked_at_ms) noexcept {
    const std::size_t bytes = packed_bytes(token.principal);
    ZoneLock lock(shared.pool);
    if (revokes_any(shared.auth.revoked, token.marks, revoked_at_ms)) {
        return AuthStatus::kRevoked;
    }
    if (bytes == 0 || kHeadBytes<CachedToken> + bytes > kCachedBytesMax) {
        return AuthStatus::kOk;
    }
    auto* entry =
        static_cast<CachedToken*>(shared.cache.insert(ZoneKind::kToken, key, kHeadBytes<CachedToken> + bytes));
    if (entry != nullptr) {
        entry->good_until_s = token.good_until_s;
        entry->iat_ms = token.marks.iat_ms;
        entry->revision = shared.auth.revision;
        entry->kid = token.marks.kid.fingerprint;
        entry->jti = token.marks.jti.fingerprint;
        entry->has_kid = token.marks.kid.has;
        entry->has_jti = token.marks.jti.has;
        entry->bytes = static_cast<std::uint16_t>(bytes);
        pack_principal(token.principal, packed_of(entry));
    }
    return AuthStatus::kOk;
}

AuthStatus find_key(RequestCtx* ctx, ZoneShared& shared, const ZoneKey& key, ngx_msec_t age_max_ms) noexcept {
    RevocationMark mark;
    const std::int64_t now = now_ms();
    {
        ZoneLock lock(shared.pool);
        auto* entry = static_cast<CachedKey*>(shared.cache.find(ZoneKind::kApiKey, key));
        if (entry == nullptr || static_cast<ngx_msec_int_t>(ngx_current_msec - entry->fetched_ms) >
                                    static_cast<ngx_msec_int_t>(age_max_ms)) {
            return AuthStatus::kPending;
        }
        if (entry->expires_at_ms != 0 && entry->expires_at_ms <= now) {
            return AuthStatus::kExpired;
        }
        if (!take_packed(ctx, packed_of(entry), entry->bytes)) {
            return AuthStatus::kPending;
        }
        if (entry->revision == shared.auth.revision) {
            return AuthStatus::kOk;
        }
    }
    mark = mark_of_key(view(ctx->principal.key_id));
    ZoneLock lock(shared.pool);
    if (shared.auth.revoked.revokes(mark, 0, now)) {
        shared.cache.erase(ZoneKind::kApiKey, key);
        return AuthStatus::kRevoked;
    }
    if (auto* entry = static_cast<CachedKey*>(shared.cache.find(ZoneKind::kApiKey, key)); entry != nullptr) {
        entry->revision = shared.auth.revision;
    }
    return AuthStatus::kOk;
}

AuthStatus keep_key(ZoneShared& shared, const ZoneKey& key, const KeyToKeep& record, std::uint64_t key_epoch) noexcept {
    const std::size_t bytes = packed_bytes(record.principal);
    const RevocationMark mark = mark_of_key(record.principal[PrincipalField::kKeyId]);
    ZoneLock lock(shared.pool);
    if (shared.auth.revoked.revokes(mark, 0, now_ms())) {
        return AuthStatus::kRevoked;
    }
    if (key_epoch != shared.auth.key_epoch || bytes == 0 || kHeadBytes<CachedKey> + bytes > kCachedBytesMax) {
        return AuthStatus::kOk;
    }
    auto* entry = static_cast<CachedKey*>(shared.cache.insert(ZoneKind::kApiKey, key, kHeadBytes<CachedKey> + bytes));
    if (entry != nullptr) {
        entry->expires_at_ms = record.expires_at_ms;
        entry->revision = shared.auth.revision;
        entry->fetched_ms = ngx_current_msec;
        entry->bytes = static_cast<std::uint16_t>(bytes);
        pack_principal(record.principal, packed_of(entry));
    }
    return AuthStatus::kOk;
}

}  // namespace headgate::edge
