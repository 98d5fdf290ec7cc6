// See redis_meta.h.
#include "ngx_module/redis_meta.h"

#include <string_view>

#include "common/event_record.h"
#include "common/hmac.h"
#include "common/limits.h"
#include "common/redis_scripts.h"
#include "common/resp.h"
#include "ngx_module/redis_reply.h"

namespace headgate::edge {

namespace {

// The greeting's commands, in order; the scripts follow. A refresh repeats the first kRefreshCommands.
enum Greeting : std::size_t { kClaimContract, kClaimShards, kReadMeta, kReadMemory };
constexpr std::size_t kRefreshCommands = 4;

}  // namespace

void RedisMeta::hello(std::vector<std::string>& commands) {
    const std::string meta = meta_key(kDefaultKeyPrefix);
    commands.resize(kRefreshCommands);
    // Who comes first names the numbers; everybody after compares.
    RespWriter(commands[kClaimContract])
        .command("HSETNX", meta, "contract", static_cast<long long>(limits::kContractVersion));
    RespWriter(commands[kClaimShards]).command("HSETNX", meta, "shards", static_cast<long long>(expected_.shards));
    RespWriter(commands[kReadMeta]).command("HMGET", meta, "contract", "shards");
    RespWriter(commands[kReadMemory]).command("INFO", "memory");
    for (const std::string_view script : redis_scripts()) {
        RespWriter(commands.emplace_back()).command("SCRIPT", "LOAD", script);
    }
}

bool RedisMeta::learn(std::size_t index, const redisReply* reply) {
    // Only what must be known is insisted on. A Redis at its memory's end refuses HSETNX, and an ACL may hide INFO,
    // but keys can still be looked up there; scripts that could not be loaded are loaded when they are missed.
    if (reply->type == REDIS_REPLY_ERROR && index == kReadMeta) {
        const std::string_view text = text_of(reply);
        ngx_log_error(NGX_LOG_ERR, log_, 0, "headgate: Redis refused the greeting: %*s", text.size(), text.data());
        return false;
    }
    if (index == kReadMeta) {
        learn_meta(reply);
    } else if (index == kReadMemory) {
        learn_memory(reply);
    }
    return true;
}

void RedisMeta::learn_meta(const redisReply* reply) {
    const std::string contract(element_text(reply, 0));
    const std::string shards(element_text(reply, 1));
    contract_fits_ = contract == std::to_string(limits::kContractVersion) && shards == std::to_string(expected_.shards);
    if (!contract_fits_) {
        complain("headgate: nothing is published: headgate:meta says %s, this nginx %s",
                 "contract " + contract + ", shards " + shards,
                 "contract " + std::to_string(limits::kContractVersion) + ", shards " +
                     std::to_string(expected_.shards) + " (headgate_shards, redis.shards)");
    }
}

void RedisMeta::learn_memory(const redisReply* reply) {
    constexpr std::string_view kField = "maxmemory_policy:";
    const std::string_view text = text_of(reply);
    const std::size_t at = text.find(kField);
    if (reply->type == REDIS_REPLY_ERROR || at == std::string_view::npos) {
        policy_fits_ = true;  // an ACL may hide INFO; the sidecar's check-config looks as well
        return;
    }
    std::string_view policy = text.substr(at + kField.size());
    policy = policy.substr(0, policy.find_first_of("\r\n"));
    policy_fits_ = !policy.starts_with("allkeys-");
    if (!policy_fits_) {
        complain("headgate: nothing is published: maxmemory-policy %s would evict events%s; set it to noeviction",
                 std::string(policy), "");
    }
}

void RedisMeta::complain(const char* format, const std::string& a, const std::string& b) {
    if (ngx_time() == complained_at_) {
        return;
    }
    complained_at_ = ngx_time();
    ngx_log_error(NGX_LOG_EMERG, log_, 0, format, a.c_str(), b.c_str());
}

void RedisMeta::refresh(RedisConn& conn) noexcept {
    if (refreshes_left_ != 0) {
        return;  // the last one is still under way
    }
    try {
        std::vector<std::string> commands;
        hello(commands);
        for (std::size_t i = 0; i < kRefreshCommands; ++i) {
            if (conn.send_bytes(std::move(commands[i]), this, on_refreshed) == nullptr) {
                return;
            }
            ++refreshes_left_;
        }
    } catch (const std::exception& e) {
        ngx_log_error(NGX_LOG_ERR, log_, 0, "headgate: %s", e.what());
    }
}

void RedisMeta::on_refreshed(void* meta, RedisOutcome outcome, const redisReply* reply) noexcept {
    auto* self = static_cast<RedisMeta*>(meta);
    const std::size_t index = kRefreshCommands - self->refreshes_left_--;
    try {
        if (outcome == RedisOutcome::kReply) {
            (void)self->learn(index, reply);
        }
    } catch (const std::exception& e) {
        ngx_log_error(NGX_LOG_ERR, self->log_, 0, "headgate: %s", e.what());
    }
}

std::string RedisMeta::key_meta_command() {
    std::string out;
    RespWriter(out).command("HMGET", meta_key(kDefaultKeyPrefix), "projected", "pepper_fp");
    return out;
}

bool RedisMeta::keys_are_known(const redisReply* reply) const {
    const std::string_view projected = element_text(reply, 0);
    const std::string_view fingerprint = element_text(reply, 1);
    return !projected.empty() && projected != "0" && !fingerprint.empty() &&
           (fingerprint == expected_.pepper_fingerprint || fingerprint == expected_.previous_pepper_fingerprint);
}

}  // namespace headgate::edge
