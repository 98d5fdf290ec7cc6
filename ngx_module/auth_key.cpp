// See auth_key.h.
#include "ngx_module/auth_key.h"

#include <array>
#include <charconv>

#include "common/api_key.h"
#include "common/event_record.h"
#include "common/resp.h"
#include "ngx_module/auth_cache.h"
#include "ngx_module/redis_reply.h"
#include "ngx_module/worker.h"

namespace headgate::edge {

namespace {

constexpr std::array<std::string_view, 9> kRecordFields = {"id",     "org",        "scopes", "allowed_ips", "plan",
                                                           "limits", "expires_at", "active", "prefix"};
constexpr std::size_t kPeppersMax = 2;  // the one in use, and the one before it

// What is asked of Redis about one key: its record under each pepper, and whether an absent one is an unknown one.
// Of the request's pool. The replies come in any order, for they may come from several nodes.
struct KeyLookup {
    struct Question {
        KeyLookup* lookup;
        ZoneKey key;
        AuthStatus found;
    };
    RequestCtx* ctx;
    std::uint64_t key_epoch;  // when they were asked
    ngx_msec_t stale_ms;
    std::size_t pepper_count;
    std::array<Question, kPeppersMax> records;
    bool keys_are_known;
    std::size_t replies_left;
};
static_assert(std::is_trivially_destructible_v<KeyLookup>);

// Reply to HMGET headgate:key:<hash>: the record, or its absence.
AuthStatus read_record(const redisReply* reply, KeyToKeep& record) {
    if (reply->type != REDIS_REPLY_ARRAY || reply->elements != kRecordFields.size()) {
        return AuthStatus::kUnavailable;
    }
    std::array<std::string_view, kRecordFields.size()> field;
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
        const auto parsed = std::from_chars(field[6].data(), field[6].data() + field[6].size(), record.expires_at_ms);
        if (parsed.ec != std::errc() || record.expires_at_ms <= now_ms()) {
            return AuthStatus::kExpired;
        }
    }
    record.principal[PrincipalField::kKeyId] = field[0];
    record.principal[PrincipalField::kOrg] = field[1];
    record.principal[PrincipalField::kScope] = field[2];
    record.principal[PrincipalField::kAllowedIps] = field[3];
    record.principal[PrincipalField::kPlan] = field[4];
    record.principal[PrincipalField::kLimits] = field[5];
    record.principal[PrincipalField::kKeyPrefix] = field[8];
    return AuthStatus::kOk;
}

AuthStatus take_record(KeyLookup::Question& question, const redisReply* reply) {
    KeyToKeep record;
    const AuthStatus status = read_record(reply, record);
    if (status != AuthStatus::kOk) {
        return status;
    }
    RequestCtx* ctx = question.lookup->ctx;
    // A key that is there under both peppers is what the record under the newer one says, whichever reply is first.
    const KeyLookup::Question& newest = question.lookup->records.front();
    const bool is_older = &question != &newest && newest.found == AuthStatus::kOk;
    if (!is_older && !set_principal(ctx, record.principal)) {
        return AuthStatus::kUnavailable;
    }
    return keep_key(current_worker(ctx->r).shared(), question.key, record, question.lookup->key_epoch);
}

// A key that is known from before, though Redis cannot be asked now.
AuthStatus known_from_before(const KeyLookup& lookup) noexcept {
    ZoneShared& shared = current_worker(lookup.ctx->r).shared();
    if (shared.auth.silent_ms() > lookup.stale_ms) {
        return AuthStatus::kUnavailable;
    }
    for (std::size_t i = 0; i < lookup.pepper_count; ++i) {
        const AuthStatus found = find_key(lookup.ctx, shared, lookup.records[i].key, kKeyFreshMs + lookup.stale_ms);
        if (found != AuthStatus::kPending) {
            return found;
        }
    }
    return AuthStatus::kUnavailable;
}

AuthStatus verdict(const KeyLookup& lookup) noexcept {
    AuthStatus status = AuthStatus::kUnknownKey;
    for (std::size_t i = 0; i < lookup.pepper_count; ++i) {
        const AuthStatus found = lookup.records[i].found;
        if (found != AuthStatus::kUnknownKey && found != AuthStatus::kUnavailable) {
            return found;
        }
        status = found == AuthStatus::kUnavailable ? found : status;
    }
    if (status == AuthStatus::kUnavailable) {
        return known_from_before(lookup);
    }
    return lookup.keys_are_known ? AuthStatus::kUnknownKey : AuthStatus::kUnavailable;
}

// The last reply: the request goes on.
void conclude(KeyLookup* lookup) noexcept {
    if (--lookup->replies_left == 0) {
        lookup->ctx->auth_status = verdict(*lookup);
        lookup->ctx->auth_reply_seen = true;
        resume(lookup->ctx);
    }
}

void on_record(void* asker, RedisOutcome outcome, const redisReply* reply) noexcept {
    auto* question = static_cast<KeyLookup::Question*>(asker);
    KeyLookup* lookup = question->lookup;
    lookup->ctx->pending[question - lookup->records.data()] = nullptr;
    question->found = outcome == RedisOutcome::kReply ? take_record(*question, reply) : AuthStatus::kUnavailable;
    conclude(lookup);
}

void on_meta(void* asker, RedisOutcome outcome, const redisReply* reply) noexcept {
    auto* lookup = static_cast<KeyLookup*>(asker);
    RequestCtx* ctx = lookup->ctx;
    ctx->pending[kPeppersMax] = nullptr;
    try {
        lookup->keys_are_known =
            outcome == RedisOutcome::kReply && current_worker(ctx->r).keys().meta().keys_are_known(reply);
    } catch (const std::exception&) {
        lookup->keys_are_known = false;
    }
    conclude(lookup);
}

std::string record_command(const std::string& key) {
    std::string command;
    RespWriter writer(command);
    writer.array(2 + kRecordFields.size()).bulk("HMGET").bulk(key);
    for (std::string_view field : kRecordFields) {
        writer.bulk(field);
    }
    return command;
}

// False: not everything could be asked; what was is abandoned.
bool ask(RedisService& redis, KeyLookup* lookup) {
    RequestCtx* ctx = lookup->ctx;
    bool asked = true;
    for (std::size_t i = 0; asked && i < lookup->pepper_count; ++i) {
        const std::string key = api_key_key(kDefaultKeyPrefix, hex_encode(lookup->records[i].key));
        ctx->pending[i] = redis.send_bytes(record_command(key), key, &lookup->records[i], on_record);
        asked = ctx->pending[i] != nullptr;
    }
    if (asked) {
        ctx->pending[kPeppersMax] =
            redis.send_bytes(RedisMeta::key_meta_command(), meta_key(kDefaultKeyPrefix), lookup, on_meta);
        asked = ctx->pending[kPeppersMax] != nullptr;
    }
    if (!asked) {
        for (RedisCommand*& command : ctx->pending) {
            if (command != nullptr) {
                std::exchange(command, nullptr)->abandon();
            }
        }
    }
    return asked;
}

}  // namespace

AuthStatus check_key(ngx_http_request_t* r, RequestCtx* ctx, const AuthConf& conf, std::string_view api_key) {
    if (!api_key_is_well_formed(api_key)) {
        return AuthStatus::kBadKey;
    }
    Worker& worker = current_worker(r);
    ZoneShared& shared = worker.shared();
    std::array<ZoneKey, kPeppersMax> keys;
    std::size_t pepper_count = 0;
    for (const HmacSha256Key* pepper : {main_conf(r)->pepper.get(), main_conf(r)->previous_pepper.get()}) {
        if (pepper != nullptr) {
            keys[pepper_count++] = pepper->sign(api_key);
            const AuthStatus found = shared.auth.silent_ms() <= conf.stale_ms
                                         ? find_key(ctx, shared, keys[pepper_count - 1], kKeyFreshMs)
                                         : AuthStatus::kPending;
            if (found != AuthStatus::kPending) {
                count(worker.counters().key_hits);
                return found;
            }
        }
    }
    count(worker.counters().key_misses);
    auto* lookup = make_in_pool<KeyLookup>(r->main->pool);
    if (lookup == nullptr) {
        return AuthStatus::kUnavailable;
    }
    lookup->ctx = ctx;
    lookup->stale_ms = conf.stale_ms;
    lookup->pepper_count = pepper_count;
    lookup->replies_left = pepper_count + 1;
    for (std::size_t i = 0; i < pepper_count; ++i) {
        lookup->records[i] = {lookup, keys[i], AuthStatus::kUnavailable};
    }
    {
        ZoneLock lock(shared.pool);
        lookup->key_epoch = shared.auth.key_epoch;
    }
    if (!ask(worker.keys(), lookup)) {
        return known_from_before(*lookup);
    }
    suspend(r);
    return AuthStatus::kPending;
}

}  // namespace headgate::edge
