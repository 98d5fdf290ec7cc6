// See auth_key.h.
#include "ngx_module/auth_key.h"

#include <array>
#include <charconv>

#include "common/api_key.h"
#include "common/event_record.h"
#include "common/resp.h"
#include "ngx_module/redis_reply.h"
#include "ngx_module/worker.h"

namespace headgate::edge {

namespace {

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

// The two replies may come in either order: the record and headgate:meta need not lie on one server. The last of
// them lets the request go on.
void on_both_replies(RequestCtx* ctx) noexcept {
    if (ctx->waiting()) {
        return;
    }
    ctx->key_reply_seen = true;
    if (ctx->auth_status == AuthStatus::kUnknownKey && !ctx->key_meta_known) {
        ctx->auth_status = AuthStatus::kUnavailable;
    }
    resume(ctx);
}

void on_key_record(void* asker, RedisOutcome outcome, const redisReply* reply) noexcept {
    auto* ctx = static_cast<RequestCtx*>(asker);
    ctx->pending[0] = nullptr;
    ctx->auth_status = outcome == RedisOutcome::kReply ? read_key_record(ctx->r, ctx, reply) : AuthStatus::kUnavailable;
    on_both_replies(ctx);
}

// Reply to the question whether an absent key is an unknown one.
void on_key_meta(void* asker, RedisOutcome outcome, const redisReply* reply) noexcept {
    auto* ctx = static_cast<RequestCtx*>(asker);
    ctx->pending[1] = nullptr;
    ctx->key_meta_known = outcome == RedisOutcome::kReply && current_worker(ctx->r).keys().meta().keys_are_known(reply);
    on_both_replies(ctx);
}

}  // namespace

AuthStatus check_key(ngx_http_request_t* r, RequestCtx* ctx, std::string_view api_key) {
    if (!api_key_is_well_formed(api_key)) {
        return AuthStatus::kBadKey;
    }
    const std::string key = api_key_key(kDefaultKeyPrefix, api_key_hash(*main_conf(r)->pepper, api_key));
    std::string command;
    RespWriter writer(command);
    writer.array(2 + kKeyFields.size()).bulk("HMGET").bulk(key);
    for (std::string_view field : kKeyFields) {
        writer.bulk(field);
    }
    RedisService& redis = current_worker(r).keys();
    ctx->pending[0] = redis.send_bytes(std::move(command), key, ctx, on_key_record);
    if (ctx->pending[0] != nullptr) {
        ctx->pending[1] =
            redis.send_bytes(RedisMeta::key_meta_command(), meta_key(kDefaultKeyPrefix), ctx, on_key_meta);
    }
    if (ctx->pending[1] == nullptr) {
        if (ctx->pending[0] != nullptr) {
            std::exchange(ctx->pending[0], nullptr)->abandon();
        }
        return AuthStatus::kUnavailable;
    }
    suspend(r);
    return AuthStatus::kPending;
}

}  // namespace headgate::edge
