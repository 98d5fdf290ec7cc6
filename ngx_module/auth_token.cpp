// See auth_token.h.
#include "ngx_module/auth_token.h"

#include <cmath>
#include <cstdlib>

#include "common/event_record.h"
#include "common/resp.h"
#include "ngx_module/auth_cache.h"
#include "ngx_module/redis_reply.h"
#include "ngx_module/token_keys.h"
#include "ngx_module/worker.h"

namespace headgate::edge {

namespace {

AuthStatus status_of(const JwtVerification& verified) noexcept {
    if (verified.status == JwtStatus::kMissingClaim && verified.claim == "org") {
        return AuthStatus::kNoOrg;
    }
    return auth_status_of(verified.status);
}

TokenToKeep token_to_keep(const JwtClaims& claims, const JwtPolicy& policy) noexcept {
    TokenToKeep token;
    token.principal[PrincipalField::kOrg] = claims.org;
    token.principal[PrincipalField::kKeyId] = claims.key_id;
    token.principal[PrincipalField::kSub] = claims.sub;
    token.principal[PrincipalField::kIss] = claims.iss;
    token.principal[PrincipalField::kScope] = claims.scope;
    token.principal[PrincipalField::kPlan] = claims.plan;
    token.principal[PrincipalField::kLimits] = claims.limits;
    token.principal[PrincipalField::kAllowedIps] = claims.allowed_ips;
    token.marks = {mark_of_key(claims.key_id), mark_of_kid(claims.kid), mark_of_jti(claims.iss, claims.jti),
                   mark_of_sub(claims.iss, claims.sub), claims.iat_seconds * 1000};
    token.good_until_s = claims.exp_seconds + policy.leeway_seconds;
    return token;
}

// When revocations are looked at: a token that a leeway still lets in after its end is still revoked then.
std::int64_t revoked_at_ms(const AuthConf& conf) noexcept { return now_ms() - conf.jwt.policy.leeway_seconds * 1000; }

// ---- the zone has no room for all revocations -------------------------------------------------

bool is_in_force(const redisReply* score, std::int64_t at_ms) noexcept {
    return score->type == REDIS_REPLY_STRING && std::strtod(score->str, nullptr) > static_cast<double>(at_ms);
}

void on_scores(void* asker, RedisOutcome outcome, const redisReply* reply) noexcept {
    auto* ctx = static_cast<RequestCtx*>(asker);
    ctx->pending[0] = nullptr;
    ctx->auth_reply_seen = true;
    ctx->auth_status = AuthStatus::kUnavailable;
    if (outcome == RedisOutcome::kReply && reply->type == REDIS_REPLY_ARRAY) {
        ctx->auth_status = AuthStatus::kOk;
        for (std::size_t i = 0; i < reply->elements; ++i) {
            if (is_in_force(reply->element[i], revoked_at_ms(loc_conf(ctx->r)->auth))) {
                ctx->auth_status = AuthStatus::kRevoked;
            }
        }
    }
    resume(ctx);
}

// ZMSCORE of what the token may be revoked by. A member with a time cannot be asked about: those have room of their
// own.
AuthStatus ask_redis(ngx_http_request_t* r, RequestCtx* ctx, const JwtClaims& claims) {
    std::vector<std::string> members;
    members.push_back("kid:" + claims.kid);
    if (!claims.key_id.empty()) {
        members.push_back("key:" + claims.key_id);
    }
    if (!claims.jti.empty()) {
        members.push_back("jti:" + hex_encode(sha256(claims.iss + '\0', claims.jti)));
    }
    const std::string key = revoked_key(kDefaultKeyPrefix);
    std::string command;
    RespWriter writer(command);
    writer.array(2 + members.size()).bulk("ZMSCORE").bulk(key);
    for (const std::string& member : members) {
        writer.bulk(member);
    }
    ctx->pending[0] = current_worker(r).keys().send_bytes(std::move(command), key, ctx, on_scores);
    if (ctx->pending[0] == nullptr) {
        return AuthStatus::kUnavailable;
    }
    suspend(r);
    return AuthStatus::kPending;
}

// False: they have not been heard of for too long, or there is no room for those that Redis cannot be asked about.
bool revocations_are_known(const AuthShared& auth, const AuthConf& conf) noexcept {
    return auth.silent_ms() <= conf.stale_ms && auth.left_out_with_time == 0;
}

AuthStatus verify(ngx_http_request_t* r, RequestCtx* ctx, const AuthConf& conf, const TokenKeys& keys,
                  std::string_view token, const ZoneKey& key) {
    const JwtVerification verified = verify_jwt(token, keys.sources, conf.jwt.policy, ngx_time());
    if (verified.status != JwtStatus::kOk) {
        return status_of(verified);
    }
    const TokenToKeep keep = token_to_keep(verified.claims, conf.jwt.policy);
    if (!set_principal(ctx, keep.principal)) {
        return AuthStatus::kUnavailable;
    }
    ZoneShared& shared = current_worker(r).shared();
    const AuthStatus kept = keep_token(shared, key, keep, revoked_at_ms(conf));
    if (kept != AuthStatus::kOk) {
        return kept;
    }
    if (!revocations_are_known(shared.auth, conf)) {
        return AuthStatus::kUnavailable;
    }
    return shared.auth.left_out != 0 ? ask_redis(r, ctx, verified.claims) : AuthStatus::kOk;
}

}  // namespace

AuthStatus check_token(ngx_http_request_t* r, RequestCtx* ctx, const AuthConf& conf, std::string_view token) {
    Worker& worker = current_worker(r);
    ZoneShared& shared = worker.shared();
    const AuthShared& auth = shared.auth;
    if (auth.synced == 0 && worker.revocations().wait(ctx)) {
        suspend(r);
        return AuthStatus::kPending;
    }
    const TokenKeys& keys = token_keys(r, conf);
    const ZoneKey key = worker.token_memo().key_of(token, keys.digest);
    AuthStatus status =
        auth.left_out != 0 ? AuthStatus::kPending : find_token(ctx, shared, key, ngx_time(), revoked_at_ms(conf));
    if (status == AuthStatus::kPending) {
        count(worker.counters().token_misses);
        status = verify(r, ctx, conf, keys, token, key);
    } else {
        count(worker.counters().token_hits);
        if (status == AuthStatus::kOk && !revocations_are_known(auth, conf)) {
            status = AuthStatus::kUnavailable;
        }
    }
    if (status == AuthStatus::kOk || status == AuthStatus::kPending) {
        ctx->verified_token = token;
    }
    return status;
}

}  // namespace headgate::edge
