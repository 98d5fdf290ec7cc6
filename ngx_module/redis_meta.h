// What the edge knows of a Redis before it trusts it with events and keys: the contract and shard
// count in headgate:meta, the pepper's fingerprint, whether keys have been projected, and the
// eviction policy of each of its servers. Asked in the greeting and again once a second.
#pragma once

#include <string>
#include <vector>

#include "ngx_module/ngx.h"

struct redisReply;

namespace headgate::edge {

struct MetaExpectation {
    int shards = 0;
    std::string pepper_fingerprint;           // empty: this nginx has no pepper
    std::string previous_pepper_fingerprint;  // empty: none
    bool for_events = true;                   // else contract and policy hold nobody up: it may evict, say, limits
};

class RedisMeta {
 public:
    RedisMeta(MetaExpectation expected, ngx_log_t* log) : expected_(std::move(expected)), log_(log) {}

    // The commands about headgate:meta, in order; the reply to the last goes to learn_meta().
    void meta_commands(std::vector<std::string>& commands) const;
    void learn_meta(const redisReply* reply);

    // Of each server: its reply to memory_command(). `evicts` is what was known of that server.
    [[nodiscard]] static std::string memory_command();
    void learn_memory(const redisReply* reply, bool& evicts);
    void forget_memory(bool& evicts) noexcept;  // the server is no longer ours

    // Every script that requests may call, for SCRIPT LOAD.
    static void script_commands(std::vector<std::string>& commands);

    [[nodiscard]] bool may_publish() const noexcept { return contract_fits_ && evicting_servers_ == 0; }

    // Reads the reply to key_meta_command(): may an unknown key be called unknown? Without `projected`,
    // or with another pepper's fingerprint, nobody can say so.
    [[nodiscard]] static std::string key_meta_command();
    [[nodiscard]] bool keys_are_known(const redisReply* reply) const;

 private:
    void complain(const char* format, const std::string& a, const std::string& b);

    MetaExpectation expected_;
    ngx_log_t* log_;
    bool contract_fits_ = false;
    std::size_t evicting_servers_ = 0;
    time_t complained_at_ = 0;
};

}  // namespace headgate::edge
