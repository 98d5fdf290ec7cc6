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

void RedisMeta::meta_commands(std::vector<std::string>& commands) const {
    const std::string meta = meta_key(kDefaultKeyPrefix);
    // Who comes first names the numbers; everybody after compares.
    RespWriter(commands.emplace_back())
        .command("HSETNX", meta, "contract", static_cast<long long>(limits::kContractVersion));
    RespWriter(commands.emplace_back()).command("HSETNX", meta, "shards", static_cast<long long>(expected_.shards));
    RespWriter(commands.emplace_back()).command("HMGET", meta, "contract", "shards");
}

std::string RedisMeta::memory_command() {
    std::string out;
    RespWriter(out).command("INFO", "memory");
    return out;
}

void RedisMeta::script_commands(std::vector<std::string>& commands) {
    for (const std::string_view script : redis_scripts()) {
        RespWriter(commands.emplace_back()).command("SCRIPT", "LOAD", script);
    }
}

void RedisMeta::learn_meta(const redisReply* reply) {
    const std::string contract(element_text(reply, 0));
    const std::string shards(element_text(reply, 1));
    contract_fits_ = contract == std::to_string(limits::kContractVersion) && shards == std::to_string(expected_.shards);
    if (!contract_fits_ && expected_.for_events) {
        complain("headgate: nothing is published: headgate:meta says %s, this nginx %s",
                 "contract " + contract + ", shards " + shards,
                 "contract " + std::to_string(limits::kContractVersion) + ", shards " +
                     std::to_string(expected_.shards) + " (headgate_shards, redis.shards)");
    }
}

void RedisMeta::learn_memory(const redisReply* reply, bool& evicts) {
    // An ACL may hide INFO; the sidecar's check-config looks as well.
    const std::string_view policy = info_field(text_of(reply), "maxmemory_policy");
    forget_memory(evicts);
    if (!expected_.for_events || !policy.starts_with("allkeys-")) {
        return;
    }
    evicts = true;
    ++evicting_servers_;
    complain("headgate: nothing is published: maxmemory-policy %s would evict events%s; set it to noeviction",
             std::string(policy), "");
}

void RedisMeta::forget_memory(bool& evicts) noexcept {
    if (std::exchange(evicts, false)) {
        --evicting_servers_;
    }
}

void RedisMeta::complain(const char* format, const std::string& a, const std::string& b) {
    if (ngx_time() == complained_at_) {
        return;
    }
    complained_at_ = ngx_time();
    ngx_log_error(NGX_LOG_EMERG, log_, 0, format, a.c_str(), b.c_str());
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
