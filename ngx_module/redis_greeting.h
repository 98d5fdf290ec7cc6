// What a connection to a server that holds our keys says before anybody else may use it: who we are (AUTH, SELECT),
// what it is (ROLE), what it is for (headgate:meta, INFO memory), and the scripts.
#pragma once

#include "ngx_module/redis_conn.h"
#include "ngx_module/redis_meta.h"

namespace headgate::edge {

// AUTH, where a password is configured; empty: none is.
[[nodiscard]] std::string auth_command(const RedisLogin& login);
// Logs why a greeting's command was refused. The text of a refused AUTH is cut after its code: a server that does
// not know the command repeats its arguments.
void log_refused_greeting(ngx_log_t* log, bool is_auth, const redisReply* reply) noexcept;

class RedisGreeting final : public RedisGreeter {
 public:
    // `evicts`: what is known of the server's memory policy, shared by its connections.
    RedisGreeting(const RedisConf& conf, RedisMeta& meta, bool& evicts, ngx_log_t* log) noexcept
        : conf_(conf), meta_(meta), evicts_(evicts), log_(log) {}

    void hello(std::vector<std::string>& commands) override;
    bool learn(std::size_t index, const redisReply* reply) override;
    [[nodiscard]] bool may_publish() const noexcept override { return meta_.may_publish(); }

    // Once a second, on the connection it has greeted: is it still a master? With `memory`: may it evict?
    void refresh(RedisConn& conn, bool memory) noexcept;

 private:
    enum class Step : std::uint8_t { kAuth, kSelect, kRole, kClaim, kReadMeta, kReadMemory, kLoadScript };
    static void on_role(void* greeting, RedisOutcome outcome, const redisReply* reply) noexcept;
    static void on_memory(void* greeting, RedisOutcome outcome, const redisReply* reply) noexcept;
    bool refuse(Step step, const redisReply* reply) noexcept;

    const RedisConf& conf_;
    RedisMeta& meta_;
    bool& evicts_;
    ngx_log_t* log_;
    std::vector<Step> steps_;    // of the greeting under way
    RedisConn* conn_ = nullptr;  // of the refresh under way
    bool asking_role_ = false;
    bool asking_memory_ = false;
};

}  // namespace headgate::edge
