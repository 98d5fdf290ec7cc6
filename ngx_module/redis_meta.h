// What the edge knows of a Redis before it trusts it with events and keys: the contract and shard
// count in headgate:meta, the pepper's fingerprint, whether keys have been projected, and the
// eviction policy. Asked in every connection's greeting and again once a second.
#pragma once

#include "ngx_module/redis_conn.h"

namespace headgate::edge {

struct MetaExpectation {
    int shards = 0;
    std::string pepper_fingerprint;           // empty: this nginx has no pepper
    std::string previous_pepper_fingerprint;  // empty: none
};

class RedisMeta : public RedisGreeter {
 public:
    RedisMeta(MetaExpectation expected, ngx_log_t* log) : expected_(std::move(expected)), log_(log) {}

    void hello(std::vector<std::string>& commands) override;
    bool learn(std::size_t index, const redisReply* reply) override;

    // Asks again on a live connection (each second, from a cancelable timer).
    void refresh(RedisConn& conn) noexcept;

    [[nodiscard]] bool may_publish() const noexcept override { return contract_fits_ && policy_fits_; }

    // Reads the reply to key_meta_command(): may an unknown key be called unknown? Without `projected`,
    // or with another pepper's fingerprint, nobody can say so.
    [[nodiscard]] static std::string key_meta_command();
    [[nodiscard]] bool keys_are_known(const redisReply* reply) const;

 private:
    static void on_refreshed(void* meta, RedisOutcome outcome, const redisReply* reply) noexcept;
    void learn_meta(const redisReply* reply);
    void learn_memory(const redisReply* reply);
    void complain(const char* format, const std::string& a, const std::string& b);

    MetaExpectation expected_;
    ngx_log_t* log_;
    bool contract_fits_ = false;
    bool policy_fits_ = false;
    std::size_t refreshes_left_ = 0;  // replies still to come
    time_t complained_at_ = 0;
};

}  // namespace headgate::edge
