// One of a worker's connections to one Redis: sockets, TLS, events and timers around RedisPipeline.
//
//   idle -> connecting -> handshake -> ready -> (error) -> backoff -> connecting …
//
// Connecting is: an address of the target, its name resolved, with `sentinel=` the master's address asked for there,
// the socket, TLS. An address that fails or turns out to be a replica is passed over for the next at once; when all
// have been tried comes a pause, which grows and is never the same for two workers.
//
// Only the first attempt makes requests wait (at most connect_timeout); later ones find `backoff` and
// are told at once. Commands that several requests queue in one turn of the event loop leave in one
// writev: flush() runs from nginx's posted events, after all sockets were served.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "ngx_module/redis_locator.h"
#include "ngx_module/redis_pipeline.h"
#include "ngx_module/redis_sentinel.h"
#include "ngx_module/redis_tls.h"
#include "ngx_module/zone.h"

namespace headgate::edge {

enum class RedisState : std::uint8_t { kIdle, kConnecting, kHandshake, kReady, kBackoff };
inline constexpr std::size_t kRedisStates = 5;

// What a worker's slot in the zone says of all its connections: the worst of their states.
class RedisGauge {
 public:
    explicit RedisGauge(ngx_atomic_t& slot) noexcept : slot_(slot) {}
    void move(RedisState from, RedisState to) noexcept;

 private:
    ngx_atomic_t& slot_;
    std::size_t counts_[kRedisStates] = {};  // those that are idle are not counted
};

// What a new connection says and learns before it counts as ready. Implemented by redis_greeting.
class RedisGreeter {
 public:
    virtual ~RedisGreeter() = default;
    // Appends RESP commands, at least one.
    virtual void hello(std::vector<std::string>& commands) = 0;
    // The reply to command `index`. False refuses the connection; the greeter has logged why.
    virtual bool learn(std::size_t index, const redisReply* reply) = 0;
    // After the greeting: may it have events?
    [[nodiscard]] virtual bool may_publish() const noexcept = 0;
    virtual void on_ready() noexcept {}
    // The connection is gone, or was not made; whoever waited on it has been told.
    virtual void on_failed() noexcept {}
};

// Where the connections of one node go: several addresses are tried in turn.
struct RedisTarget {
    std::vector<RedisAddress> addresses;  // at least one
    std::size_t current = 0;

    // The address that was tried is no good: the others go on from the next, unless one of them has done so already.
    void pass_over(std::size_t tried) noexcept {
        if (tried == current) {
            current = (current + 1) % addresses.size();
        }
    }
};

class RedisConn {
 public:
    // What all connections of a service have in common. It outlives them.
    struct World {
        const RedisConf& conf;
        RedisGauge& gauge;
        ZoneShared* shared;
        ngx_log_t* log;
        RedisTlsSessions& tls_sessions;
    };

    RedisConn(const World& world, RedisTarget& target, RedisGreeter& greeter) noexcept;
    ~RedisConn();
    RedisConn(const RedisConn&) = delete;
    RedisConn& operator=(const RedisConn&) = delete;

    // For commands with min_replicas: each flush of XADDs is followed by one WAIT.
    void wait_for_replicas() noexcept;

    void connect() noexcept;  // does not block
    void close() noexcept;    // whatever is under way fails
    // From this address to the next: what is under way fails, at the latest when the replies at hand have been read.
    void move_on(const char* why) noexcept;

    // Takes ownership of the command. False: not connected; nothing was taken, and the caller, who
    // still owns the command, answers at once.
    [[nodiscard]] bool send(RedisCommand* command) noexcept;
    // The same for a command that owns its bytes; nullptr when it was not taken.
    [[nodiscard]] RedisCommand* send_bytes(std::string bytes, void* asker, RedisCommand::Done done) noexcept;

    [[nodiscard]] bool ready() const noexcept { return state_ == RedisState::kReady; }
    [[nodiscard]] bool failed() const noexcept { return state_ == RedisState::kBackoff; }
    [[nodiscard]] bool unused() const noexcept { return pipeline_.idle() && !failing_; }  // nobody waits on it
    // What was dialed last: the host as it was written or named by Redis.
    [[nodiscard]] const RedisAddress& dialed() const noexcept { return dialed_; }

 private:
    static void on_located(void* conn, bool found) noexcept;
    static void on_connect_event(ngx_event_t* event) noexcept;
    static void on_tls(ngx_connection_t* c) noexcept;
    static void on_tls_session(ngx_connection_t* c) noexcept;
    static void on_read_event(ngx_event_t* event) noexcept;
    static void on_write_event(ngx_event_t* event) noexcept;
    static void on_flush_event(ngx_event_t* event) noexcept;
    static void on_timeout_event(ngx_event_t* event) noexcept;
    static void on_retry_event(ngx_event_t* event) noexcept;
    static void on_hello_reply(void* conn, RedisOutcome outcome, const redisReply* reply) noexcept;
    static void on_error_reply(void* conn, std::string_view error) noexcept;

    void dial(const RedisAddress& address) noexcept;
    void open_socket() noexcept;
    void on_connected() noexcept;
    void say_hello() noexcept;
    void queue_hello();  // may throw std::bad_alloc
    void finish_hello() noexcept;
    void read() noexcept;
    void flush() noexcept;
    bool write(ngx_chain_t* chain) noexcept;
    void fail(const char* why) noexcept;
    void drop_socket(bool broken) noexcept;
    void watch_timeout() noexcept;
    void set_state(RedisState state) noexcept;
    void settle() noexcept;  // idle or busy, as nginx's shutdown wants to know
    [[nodiscard]] RedisPipeline& active() noexcept { return state_ == RedisState::kReady ? pipeline_ : hello_; }

    World world_;
    const RedisConf& conf_;
    RedisTarget& target_;
    RedisGreeter& greeter_;
    RedisLocator locator_;
    RedisAddress dialed_;
    std::size_t address_index_ = 0;  // which of the target's addresses the attempt began with
    std::size_t tried_ = 0;          // addresses since the last pause
    bool asks_sentinel_ = false;     // what is being dialed is a Sentinel
    RedisSentinel sentinel_;

    ngx_connection_t* connection_ = nullptr;
    RedisState state_ = RedisState::kIdle;
    bool requests_may_wait_ = true;  // for the attempt under way
    ngx_msec_t began_at_ms_ = 0;     // the first attempt
    bool failing_ = false;
    bool reading_ = false;          // askers are being told
    bool wrong_address_ = false;    // ready, and yet another address is to be tried
    const char* doomed_ = nullptr;  // why the connection ends after this read
    time_t complained_at_ = 0;
    std::size_t hello_replies_ = 0;  // still to come
    std::size_t hello_index_ = 0;
    bool hello_refused_ = false;
    ngx_msec_t backoff_ms_ = 0;
    ngx_msec_t ready_since_ms_ = 0;
    ngx_msec_t reply_timeout_ms_;
    RedisPipeline hello_;             // the handshake's commands
    RedisPipeline pipeline_;          // everybody else's; written only when ready
    std::unique_ptr<char[]> window_;  // of TLS: kTlsWindowBytes
    ngx_event_t flush_event_{};
    ngx_event_t timeout_event_{};  // not cancelable: a quitting worker waits for its replies
    ngx_event_t retry_event_{};    // cancelable
};

}  // namespace headgate::edge
