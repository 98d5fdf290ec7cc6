// The states behind one Redis connection, without I/O: which commands wait to be written, which
// wait for their reply, and who is to be told. redis_conn.cpp moves the bytes.
//
// A command is written from an nginx chain. Its bytes are either the command's own (small ones)
// or borrowed from a request that is pinned until the last byte has left (see BodyPin in publish.cpp).
// A command whose asker went away is abandoned: it is still written to its end, and its reply is
// read and dropped, because a half-written command would poison every command after it.
#pragma once

#include <string>

#include "ngx_module/ngx.h"

struct redisReply;
struct redisReader;

namespace headgate::edge {

struct RedisHops;

enum class RedisOutcome : std::uint8_t {
    kReply,          // `reply` is set; it may be an error reply of Redis
    kUnavailable,    // not connected, or the connection broke: whether Redis ran it is unknown
    kNotReplicated,  // `reply` is set: Redis ran it, but too few replicas have it
};

// Owned by the pipeline from push() until it has been told; allocated with new.
struct RedisCommand {
    using Done = void (*)(void* asker, RedisOutcome outcome, const redisReply* reply);

    // A command that owns what it says; nullptr when there is no memory. Without `done` nobody is told.
    [[nodiscard]] static RedisCommand* of_bytes(std::string bytes, void* asker, Done done) noexcept;

    // The askers' side. `done` is called exactly once, unless the command was abandoned before.
    Done done = nullptr;
    void* asker = nullptr;
    // Called exactly once, when the last borrowed byte has been written or never will be.
    void (*released)(void* lender) = nullptr;
    void* lender = nullptr;

    ngx_chain_t* chain = nullptr;  // what is still to be written
    ngx_chain_t* last_link = nullptr;
    std::string bytes;  // of a command that owns what it says

    bool is_event = false;  // goes only to a Redis that the greeter trusts with events
    // Told only when so many replicas have it, which a WAIT behind it says; goes over a connection for such commands.
    std::uint8_t min_replicas = 0;

    // An error reply may be a cluster's redirection. True: the command has been queued elsewhere, `retaker` owns it
    // again, and nobody is told. Only for commands that own their bytes.
    bool (*retake)(void* retaker, RedisCommand* command, std::string_view error) = nullptr;
    void* retaker = nullptr;
    std::uint32_t node = 0;     // which one was asked
    std::uint16_t slot = 0;     // of its key
    std::uint8_t moves = 0;     // redirections followed
    RedisHops* hops = nullptr;  // of an asker that builds it again; good until its bytes are released
    ngx_msec_t due_ms = 0;      // while it pauses

    ngx_queue_t link{};
    ngx_buf_t own_buf{};
    ngx_chain_t own_link{};
    ngx_msec_t queued_at_ms = 0;
    redisReply* held = nullptr;  // its reply, until WAIT's is there

    // A worker has as many at once as its clients have requests under way: kept for the next ones, since the heap
    // is slow for more of one size than it caches. A worker has one thread.
    static void* operator new(std::size_t bytes);
    static void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept;
    static void operator delete(void* memory) noexcept;

    // Makes the chain out of `bytes`.
    void write_own_bytes() noexcept;
    // The asker goes away: it will not be told.
    void abandon() noexcept {
        done = nullptr;
        asker = nullptr;
    }
};

// A request's way through a cluster: what RedisService::redirected() learned for the next send().
struct RedisHops {
    std::uint8_t moves = 0;        // redirections followed
    std::uint32_t asked = 0;       // the node that was asked last
    std::uint32_t ask_next = 0;    // not 0: ASKING, of this node
    std::uint8_t pauses = 0;       // made, because keys were on their way
    ngx_msec_t pause_ms = 0;       // not 0: to be made before the command goes again
    ngx_msec_t pauses_end_ms = 0;  // none after that
};
inline constexpr std::uint8_t kRedisMovesMax = 5;

class RedisPipeline {
 public:
    // Refuses a command that no pipeline has taken: its asker is told, and it is gone.
    static void refuse(RedisCommand* command) noexcept;

    // Called for every error reply, before its asker is told.
    using ErrorSeen = void (*)(void* watcher, std::string_view error);

    RedisPipeline() noexcept;
    ~RedisPipeline();
    RedisPipeline(const RedisPipeline&) = delete;
    RedisPipeline& operator=(const RedisPipeline&) = delete;

    void watch_errors(void* watcher, ErrorSeen seen) noexcept {
        watcher_ = watcher;
        error_seen_ = seen;
    }
    // From now on commands leave in batches, each followed by a WAIT for the replicas that its commands ask for, and a
    // batch is written when the one before it has been answered: Redis serves nothing on a connection that waits.
    void wait_for_replicas(ngx_msec_t wait_timeout_ms) noexcept { wait_timeout_ms_ = wait_timeout_ms; }

    // Takes ownership. The command is written after all that were pushed before it.
    void push(RedisCommand* command) noexcept;

    // What may be written next, as one chain of at most `bufs_max` bufs; nullptr when there is nothing.
    // After every non-null answer the caller calls wrote(), whatever it could send.
    [[nodiscard]] ngx_chain_t* next_chain(std::size_t bufs_max) noexcept;
    // Buffers have advanced: commands written to their end now wait for their reply.
    void wrote() noexcept;

    // Feeds bytes that came from Redis; tells an asker for each whole reply. False when they are not
    // RESP, or answer no command: the connection must be closed.
    [[nodiscard]] bool feed(const char* data, std::size_t bytes) noexcept;
    // How many replies came since the last call.
    [[nodiscard]] std::size_t take_replies() noexcept { return std::exchange(replies_, 0); }

    // Events that wait for a first connection fail: its greeting said that this Redis must not have them.
    void fail_events() noexcept;
    // The connection is gone: every command fails, oldest first. What askers push meanwhile is not touched.
    void fail_all() noexcept;

    [[nodiscard]] bool has_unwritten() const noexcept { return !ngx_queue_empty(&to_write_); }
    // Is a batch complete that may be written now?
    [[nodiscard]] bool next_batch_is_due() const noexcept { return !waiting_ && !ngx_queue_empty(&staged_); }
    // How many replicas the last WAIT found, when they were too few for some command since the last call; else -1.
    [[nodiscard]] long long take_missed_replicas() noexcept { return std::exchange(missed_replicas_, -1); }
    [[nodiscard]] bool idle() const noexcept { return commands_ == 0; }
    [[nodiscard]] ngx_msec_t oldest_ms() const noexcept;  // queued_at_ms of the oldest command; only when not idle

 private:
    static RedisCommand* command_of(ngx_queue_t* link) noexcept { return ngx_queue_data(link, RedisCommand, link); }
    static void release(RedisCommand* command) noexcept;
    static void on_wait_reply(void* pipeline, RedisOutcome outcome, const redisReply* reply) noexcept;
    void seal_batch() noexcept;
    void hold(RedisCommand* command, redisReply* reply) noexcept;
    void finish_held(long long replicas) noexcept;
    void fail_queue(ngx_queue_t& failed) noexcept;
    void finish(RedisCommand* command, RedisOutcome outcome, const redisReply* reply) noexcept;

    ngx_queue_t to_write_;   // in order; the first may be half written
    ngx_queue_t to_answer_;  // written to their end, in order
    ngx_queue_t staged_;     // of the next batch, with wait_for_replicas()
    ngx_queue_t held_;       // answered by Redis, and not yet by WAIT
    std::size_t commands_ = 0;
    std::size_t replies_ = 0;
    ngx_chain_t* cut_link_ = nullptr;  // where next_chain() cut a command in two
    ngx_chain_t* cut_next_ = nullptr;
    redisReader* reader_ = nullptr;
    std::size_t reply_bytes_ = 0;  // fed since the last whole reply
    void* watcher_ = nullptr;
    ErrorSeen error_seen_ = nullptr;
    ngx_msec_t wait_timeout_ms_ = 0;  // 0: no batches
    bool waiting_ = false;            // a batch is under way
    long long missed_replicas_ = -1;
};

}  // namespace headgate::edge
