// One worker's connection to one Redis: sockets, events and timers around RedisPipeline.
//
//   idle -> connecting -> handshake -> ready -> (error) -> backoff -> connecting …
//
// Only the first attempt makes requests wait (at most connect_timeout); later ones find `backoff` and
// are told at once. Commands that several requests queue in one turn of the event loop leave in one
// writev: flush() runs from nginx's posted events, after all sockets were served.
#pragma once

#include <string>
#include <vector>

#include "ngx_module/conf_redis.h"
#include "ngx_module/redis_pipeline.h"
#include "ngx_module/zone.h"

namespace headgate::edge {

enum class RedisState : std::uint8_t { kIdle, kConnecting, kHandshake, kReady, kBackoff };

// What a new connection says and learns before it counts as ready. Implemented by redis_meta.
class RedisGreeter {
 public:
    virtual ~RedisGreeter() = default;
    // Appends RESP commands, at least one.
    virtual void hello(std::vector<std::string>& commands) = 0;
    // The reply to command `index`. False refuses the connection; the greeter has logged why.
    virtual bool learn(std::size_t index, const redisReply* reply) = 0;
    // After the greeting: may it have events?
    [[nodiscard]] virtual bool may_publish() const noexcept = 0;
};

class RedisConn {
 public:
    RedisConn(const RedisConf& conf, RedisGreeter& greeter, ZoneShared* shared, ngx_log_t* log) noexcept;
    ~RedisConn();
    RedisConn(const RedisConn&) = delete;
    RedisConn& operator=(const RedisConn&) = delete;

    // Not the connection whose state the worker shows in its status.
    void hide_state() noexcept { shows_state_ = false; }

    void connect() noexcept;  // does not block
    void close() noexcept;    // whatever is under way fails

    // Takes ownership of the command. False: not connected; nothing was taken, and the caller, who
    // still owns the command, answers at once.
    [[nodiscard]] bool send(RedisCommand* command) noexcept;
    // The same for a command that owns its bytes; nullptr when it was not taken.
    [[nodiscard]] RedisCommand* send_bytes(std::string bytes, void* asker,
                                           void (*done)(void* asker, RedisOutcome outcome,
                                                        const redisReply* reply)) noexcept;

    [[nodiscard]] bool ready() const noexcept { return state_ == RedisState::kReady; }

 private:
    static void on_connect_event(ngx_event_t* event) noexcept;
    static void on_read_event(ngx_event_t* event) noexcept;
    static void on_write_event(ngx_event_t* event) noexcept;
    static void on_flush_event(ngx_event_t* event) noexcept;
    static void on_timeout_event(ngx_event_t* event) noexcept;
    static void on_retry_event(ngx_event_t* event) noexcept;
    static void on_hello_reply(void* conn, RedisOutcome outcome, const redisReply* reply) noexcept;

    void say_hello() noexcept;
    void queue_hello();  // may throw std::bad_alloc
    void read() noexcept;
    void flush() noexcept;
    void fail(const char* why) noexcept;
    void drop_socket() noexcept;
    void watch_timeout() noexcept;
    void set_state(RedisState state) noexcept;
    void settle() noexcept;  // idle or busy, as nginx's shutdown wants to know
    [[nodiscard]] RedisPipeline& active() noexcept { return state_ == RedisState::kReady ? pipeline_ : hello_; }

    const RedisConf& conf_;
    RedisGreeter& greeter_;
    ZoneShared* shared_;
    ngx_log_t* log_;
    ngx_connection_t* connection_ = nullptr;
    RedisState state_ = RedisState::kIdle;
    bool requests_may_wait_ = true;  // for the attempt under way
    bool failing_ = false;
    bool shows_state_ = true;
    std::size_t hello_replies_ = 0;  // still to come
    std::size_t hello_index_ = 0;
    bool hello_refused_ = false;
    ngx_msec_t backoff_ms_ = 0;
    ngx_msec_t ready_since_ms_ = 0;
    RedisPipeline hello_;     // the handshake's commands
    RedisPipeline pipeline_;  // everybody else's; written only when ready
    ngx_event_t flush_event_{};
    ngx_event_t timeout_event_{};  // not cancelable: a quitting worker waits for its replies
    ngx_event_t retry_event_{};    // cancelable
};

}  // namespace headgate::edge
