// One Redis as the stages see it: what `headgate_redis` names, whatever stands behind the name: a server, several
// of which one is the master, or a cluster. A command says which key it is about; where that key lives is decided
// here, and a command that owns its bytes follows a cluster's redirections by itself.
#pragma once

#include "ngx_module/redis_cluster.h"

namespace headgate::edge {

class RedisService {
 public:
    RedisService(const RedisConf& conf, MetaExpectation expected, RedisGauge& gauge, ZoneShared* shared,
                 ngx_log_t* log);

    void start() noexcept;
    void stop() noexcept;     // whatever is under way fails
    void refresh() noexcept;  // once a second, from a cancelable timer

    // Takes ownership of the command. False: not connected; nothing was taken, and the caller, who still owns the
    // command, answers at once. `key`: the first key of the command. A command with borrowed buffers brings `hops`,
    // which lives as long as its asker: see redirected().
    [[nodiscard]] bool send(RedisCommand* command, std::string_view key, RedisHops* hops = nullptr) noexcept;
    // The same for a command that owns its bytes; nullptr when it was not taken.
    [[nodiscard]] RedisCommand* send_bytes(std::string bytes, std::string_view key, void* asker,
                                           RedisCommand::Done done) noexcept;
    // Was the reply a redirection of a cluster? Then nothing ran, what it says has been learned, and the asker builds
    // the command again and sends it with the same `hops`. False: it is an answer, or there were too many of them.
    // TRYAGAIN is one as well: keys are on their way to another node, and send() waits a little (hops.pause_ms), a few
    // times, and all together no longer than a reply may take.
    [[nodiscard]] bool redirected(const redisReply* reply, RedisHops& hops) noexcept;
    // Loads a script where `key` lives, ahead of a command that is sent next. False: not connected.
    [[nodiscard]] bool load_script(std::string_view script, std::string_view key) noexcept;

    [[nodiscard]] bool ready() const noexcept;
    // May one call touch keys of different hash tags?
    [[nodiscard]] bool joins_keys() const noexcept { return cluster_ == nullptr; }
    // Are bodies that nginx spooled to files copied on their way, as TLS does?
    [[nodiscard]] bool copies_files() const noexcept { return world_.conf.tls; }
    [[nodiscard]] const RedisMeta& meta() const noexcept { return meta_; }

 private:
    static void on_map_known(void* service) noexcept;
    static void on_meta(void* service, RedisOutcome outcome, const redisReply* reply) noexcept;
    void ask_meta() noexcept;

    RedisTlsSessions tls_sessions_;
    RedisConn::World world_;
    RedisMeta meta_;
    bool asking_meta_ = false;
    std::unique_ptr<RedisNode> node_;  // one of the two
    std::unique_ptr<RedisCluster> cluster_;
};

}  // namespace headgate::edge
