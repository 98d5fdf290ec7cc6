// See auth.h.
#include "ngx_module/auth.h"

#include <array>
#include <string>

#include "common/api_key.h"
#include "common/event_record.h"
#include "common/ip_network.h"
#include "common/resp.h"
#include "common/scopes.h"
#include "ngx_module/redis_reply.h"
#include "ngx_module/respond.h"
#include "ngx_module/worker.h"

namespace headgate::edge {

// ---- the table of reasons -------------------------------------------------------------------

std::string_view auth_status_name(AuthStatus status) noexcept {
    static constexpr std::array<std::string_view, kAuthStatusCount> kNames = {"",
                                                                              "ok",
                                                                              "missing",
                                                                              "ambiguous",
                                                                              "malformed",
                                                                              "too_large",
                                                                              "bad_algorithm",
                                                                              "unknown_kid",
                                                                              "bad_signature",
                                                                              "expired",
                                                                              "not_yet_valid",
                                                                              "bad_issuer",
                                                                              "bad_audience",
                                                                              "missing_claim",
                                                                              "bad_claim",
                                                                              "no_org",
                                                                              "bad_key",
                                                                              "unknown_key",
                                                                              "revoked",
                                                                              "ip_denied",
                                                                              "insufficient_scope",
                                                                              "unavailable"};
    return kNames[static_cast<std::size_t>(status)];
}

AuthStatus auth_status_of(JwtStatus status) noexcept {
    switch (status) {
        case JwtStatus::kOk:
            return AuthStatus::kOk;
        case JwtStatus::kMalformed:
            return AuthStatus::kMalformed;
        case JwtStatus::kTooLarge:
            return AuthStatus::kTooLarge;
        case JwtStatus::kAlgorithm:
            return AuthStatus::kBadAlgorithm;
        case JwtStatus::kUnknownKid:
            return AuthStatus::kUnknownKid;
        case JwtStatus::kBadSignature:
            return AuthStatus::kBadSignature;
        case JwtStatus::kExpired:
            return AuthStatus::kExpired;
        case JwtStatus::kNotYetValid:
            return AuthStatus::kNotYetValid;
        case JwtStatus::kBadIssuer:
            return AuthStatus::kBadIssuer;
        case JwtStatus::kBadAudience:
            return AuthStatus::kBadAudience;
        case JwtStatus::kMissingClaim:
            return AuthStatus::kMissingClaim;
        case JwtStatus::kBadClaim:
            break;
    }
    return AuthStatus::kBadClaim;
}

namespace {

// ---- where credentials are ------------------------------------------------------------------

struct Credentials {
    std::string_view token;
    std::string_view api_key;
    bool ambiguous = false;
};

// The value after `Bearer` (any case, RFC 9110 section 11.1) and at least one space; empty for another scheme.
std::string_view bearer_value(std::string_view header) noexcept {
    constexpr std::string_view kScheme = "bearer";
    if (header.size() <= kScheme.size() || header[kScheme.size()] != ' ' ||
        ngx_strncasecmp(reinterpret_cast<u_char*>(const_cast<char*>(header.data())),
                        reinterpret_cast<u_char*>(const_cast<char*>(kScheme.data())), kScheme.size()) != 0) {
        return {};
    }
    header.remove_prefix(kScheme.size());
    header.remove_prefix(std::min(header.find_first_not_of(' '), header.size()));
    return header;
}

Credentials find_credentials(ngx_http_request_t* r, ngx_uint_t accepted) noexcept {
    Credentials found;
    std::size_t authorizations = 0;
    std::size_t keys = 0;
    for (ngx_list_part_t* part = &r->headers_in.headers.part; part != nullptr; part = part->next) {
        auto* headers = static_cast<ngx_table_elt_t*>(part->elts);
        for (ngx_uint_t i = 0; i < part->nelts; ++i) {
            if (header_is(headers[i], "authorization")) {
                ++authorizations;
                const std::string_view value = bearer_value(view(headers[i].value));
                const bool is_key =
                    (accepted & kAuthApiKey) != 0 && (value.starts_with("hg_") || (accepted & kAuthJwt) == 0);
                if (value.empty()) {
                    continue;  // another scheme, perhaps meant for the upstream
                }
                (is_key ? found.api_key : found.token) = value;
                keys += is_key ? 1 : 0;
            } else if ((accepted & kAuthApiKey) != 0 && header_is(headers[i], "x-api-key")) {
                found.api_key = view(headers[i].value);
                ++keys;
            }
        }
    }
    found.ambiguous = authorizations > 1 || keys > 1 || (keys == 1 && !found.token.empty());
    return found;
}

// ---- the client's address -------------------------------------------------------------------

std::optional<IpAddress> client_address(ngx_http_request_t* r) noexcept {
    IpAddress address;
    const sockaddr* from = r->connection->sockaddr;  // realip has replaced it already, if it is there
    if (from->sa_family == AF_INET) {
        return ip_from_v4(ntohl(reinterpret_cast<const sockaddr_in*>(from)->sin_addr.s_addr));
    }
    if (from->sa_family == AF_INET6) {
        ngx_memcpy(address.bytes.data(), &reinterpret_cast<const sockaddr_in6*>(from)->sin6_addr, 16);
        return address;
    }
    return std::nullopt;  // a unix socket has none: a key that is bound to addresses does not fit it
}

bool address_allowed(ngx_http_request_t* r, std::string_view networks) noexcept {
    if (networks.empty()) {
        return true;
    }
    const auto address = client_address(r);
    return address && ip_in_list(*address, networks);
}

// ---- verdicts -------------------------------------------------------------------------------

ngx_int_t refuse(ngx_http_request_t* r, RequestCtx* ctx, const LocConf* conf, AuthStatus status) {
    ctx->auth_status = status;
    ctx->authenticated = false;
    count(current_worker(r).shared().refused[static_cast<std::size_t>(status)]);
    if (status == AuthStatus::kUnavailable) {
        return end_in_phase(r, respond_unavailable(r, "Credentials cannot be checked now"));
    }
    return respond_unauthorized(r, ctx, conf);
}

// What holds for tokens and keys alike, once they are known to be genuine.
ngx_int_t admit(ngx_http_request_t* r, RequestCtx* ctx, const LocConf* conf) {
    if (!address_allowed(r, view(ctx->principal.allowed_ips))) {
        return refuse(r, ctx, conf, AuthStatus::kIpDenied);
    }
    if (conf->require_scopes != nullptr) {
        for (const std::string& scope : *conf->require_scopes) {
            if (!scopes_allow(view(ctx->principal.scope), scope)) {
                return refuse(r, ctx, conf, AuthStatus::kInsufficientScope);
            }
        }
    }
    ctx->auth_status = AuthStatus::kOk;
    ctx->authenticated = true;
    return NGX_OK;
}

// ---- tokens ---------------------------------------------------------------------------------

ngx_int_t authenticate_token(ngx_http_request_t* r, RequestCtx* ctx, const LocConf* conf, std::string_view token) {
    const JwtVerification verified = verify_jwt(token, conf->jwt_source_views, conf->jwt_policy, ngx_time());
    if (verified.status == JwtStatus::kMissingClaim && verified.claim == "org") {
        return refuse(r, ctx, conf, AuthStatus::kNoOrg);
    }
    if (verified.status != JwtStatus::kOk) {
        return refuse(r, ctx, conf, auth_status_of(verified.status));
    }
    Principal& principal = ctx->principal;
    const JwtClaims& claims = verified.claims;
    for (auto [to, from] : {std::pair{&principal.org, &claims.org},
                            {&principal.key_id, &claims.key_id},
                            {&principal.sub, &claims.sub},
                            {&principal.iss, &claims.iss},
                            {&principal.scope, &claims.scope},
                            {&principal.plan, &claims.plan},
                            {&principal.allowed_ips, &claims.allowed_ips}}) {
        *to = copy_to_pool(r->pool, *from);
        if (to->data == nullptr) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }
    }
    return admit(r, ctx, conf);
}

// ---- API keys -------------------------------------------------------------------------------

constexpr std::array<std::string_view, 9> kKeyFields = {"id",     "org",        "scopes", "allowed_ips", "plan",
                                                        "limits", "expires_at", "active", "prefix"};

// Reply to HMGET headgate:key:<hash>: the record, or its absence.
AuthStatus read_key_record(ngx_http_request_t* r, RequestCtx* ctx, const redisReply* reply) {
    if (reply->type != REDIS_REPLY_ARRAY || reply->elements != kKeyFields.size()) {
        return AuthStatus::kUnavailable;
    }
    std::array<std::string_view, kKeyFields.size()> field;
    for (std::size_t i = 0; i < field.size(); ++i) {
        field[i] = element_text(reply, i);
    }
    if (field[0].empty() || field[1].empty()) {
        return AuthStatus::kUnknownKey;
    }
    if (field[7] != "1") {
        return AuthStatus::kRevoked;
    }
    if (!field[6].empty()) {
        std::int64_t expires_at_ms = 0;
        const auto parsed = std::from_chars(field[6].data(), field[6].data() + field[6].size(), expires_at_ms);
        if (parsed.ec != std::errc() || expires_at_ms <= now_ms()) {
            return AuthStatus::kExpired;
        }
    }
    Principal& principal = ctx->principal;
    for (auto [to, from] : {std::pair{&principal.key_id, field[0]},
                            {&principal.org, field[1]},
                            {&principal.scope, field[2]},
                            {&principal.allowed_ips, field[3]},
                            {&principal.plan, field[4]},
                            {&principal.limits, field[5]},
                            {&principal.key_prefix, field[8]}}) {
        *to = copy_to_pool(r->pool, from);
        if (to->data == nullptr) {
            return AuthStatus::kUnavailable;
        }
    }
    return AuthStatus::kOk;
}

void on_key_record(void* asker, RedisOutcome outcome, const redisReply* reply) noexcept {
    auto* ctx = static_cast<RequestCtx*>(asker);
    ctx->pending[0] = nullptr;
    ctx->auth_status = outcome == RedisOutcome::kReply ? read_key_record(ctx->r, ctx, reply) : AuthStatus::kUnavailable;
}

// Reply to the question whether an absent key is an unknown one. The last of the two: the request goes on.
void on_key_meta(void* asker, RedisOutcome outcome, const redisReply* reply) noexcept {
    auto* ctx = static_cast<RequestCtx*>(asker);
    ctx->pending[1] = nullptr;
    ctx->key_reply_seen = true;
    if (ctx->auth_status == AuthStatus::kUnknownKey &&
        (outcome != RedisOutcome::kReply || !current_worker(ctx->r).meta().keys_are_known(reply))) {
        ctx->auth_status = AuthStatus::kUnavailable;
    }
    resume(ctx);
}

ngx_int_t look_up_key(ngx_http_request_t* r, RequestCtx* ctx, const LocConf* conf, std::string_view api_key) {
    if (!api_key_is_well_formed(api_key)) {
        return refuse(r, ctx, conf, AuthStatus::kBadKey);
    }
    const std::string key = api_key_key(kDefaultKeyPrefix, api_key_hash(*main_conf(r)->pepper, api_key));
    std::string command;
    RespWriter writer(command);
    writer.array(2 + kKeyFields.size()).bulk("HMGET").bulk(key);
    for (std::string_view field : kKeyFields) {
        writer.bulk(field);
    }
    RedisConn& redis = current_worker(r).redis();
    ctx->pending[0] = redis.send_bytes(std::move(command), ctx, on_key_record);
    if (ctx->pending[0] != nullptr) {
        ctx->pending[1] = redis.send_bytes(RedisMeta::key_meta_command(), ctx, on_key_meta);
    }
    if (ctx->pending[1] == nullptr) {
        if (ctx->pending[0] != nullptr) {
            std::exchange(ctx->pending[0], nullptr)->abandon();
        }
        return refuse(r, ctx, conf, AuthStatus::kUnavailable);
    }
    suspend(r);
    return NGX_AGAIN;
}

}  // namespace

ngx_int_t authenticate(ngx_http_request_t* r, RequestCtx* ctx, const LocConf* conf) {
    if (ctx->waiting()) {
        return NGX_AGAIN;
    }
    if (std::exchange(ctx->key_reply_seen, false)) {
        return ctx->auth_status == AuthStatus::kOk ? admit(r, ctx, conf) : refuse(r, ctx, conf, ctx->auth_status);
    }
    // A principal holds for the location that let it in, not for one that is reached by a redirect from there.
    ctx->authenticated = false;
    ctx->principal = {};
    const Credentials found = find_credentials(r, conf->auth);
    if (found.ambiguous) {
        return refuse(r, ctx, conf, AuthStatus::kAmbiguous);
    }
    if (!found.api_key.empty()) {
        return look_up_key(r, ctx, conf, found.api_key);
    }
    if (!found.token.empty() && (conf->auth & kAuthJwt) != 0) {
        return authenticate_token(r, ctx, conf, found.token);
    }
    return refuse(r, ctx, conf, AuthStatus::kMissing);
}

}  // namespace headgate::edge
