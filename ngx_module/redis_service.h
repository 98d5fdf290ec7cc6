// One Redis as the stages see it: what `headgate_redis` names, whatever stands behind the name. A command says
// which key it is about; where that key lives is decided here.
#pragma once

#include "ngx_module/redis_conn.h"
#include "ngx_module/redis_meta.h"

namespace headgate::edge {

class RedisService {
 public:
    // Whether the status shows its state: kHidden for a second connection to the same Redis.
    enum class Gauge : std::uint8_t { kShown, kHidden };
    RedisService(const RedisConf& conf, MetaExpectation expected, ZoneShared* shared, ngx_log_t* log,
                 Gauge gauge = Gauge::kShown)
        : meta_(std::move(expected), log), conn_(conf, meta_, shared, log) {
        if (gauge == Gauge::kHidden) {
            conn_.hide_state();
        }
    }

    void start() noexcept { conn_.connect(); }
    void stop() noexcept { conn_.close(); }  // whatever is under way fails
    void refresh() noexcept;                 // once a second, from a cancelable timer

    // Takes ownership of the command. False: not connected; nothing was taken, and the caller, who still owns the
    // command, answers at once. `key`: the first key of the command.
    [[nodiscard]] bool send(RedisCommand* command, std::string_view key) noexcept;
    // The same for a command that owns its bytes; nullptr when it was not taken.
    [[nodiscard]] RedisCommand* send_bytes(std::string bytes, std::string_view key, void* asker,
                                           void (*done)(void* asker, RedisOutcome outcome,
                                                        const redisReply* reply)) noexcept;
    // Loads a script where `key` lives, ahead of a command that is sent next. False: not connected.
    [[nodiscard]] bool load_script(std::string_view script, std::string_view key) noexcept;

    [[nodiscard]] bool ready() const noexcept { return conn_.ready(); }
    // May one call touch keys of different hash tags?
    [[nodiscard]] bool joins_keys() const noexcept { return true; }
    [[nodiscard]] const RedisMeta& meta() const noexcept { return meta_; }

 private:
    RedisMeta meta_;
    RedisConn conn_;
};

}  // namespace headgate::edge
