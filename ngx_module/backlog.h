// Stage 3, before the sending: is Redis taking in more than is being drained? One worker of the host looks ten times
// a second at the length of every shard's stream and at Redis's memory, and leaves what it saw in the zone for all
// workers. Only while events are published: a host that publishes nothing asks nothing.
#pragma once

#include <array>
#include <memory>
#include <string>

#include "common/limits.h"
#include "ngx_module/ngx.h"
#include "ngx_module/redis_pipeline.h"
#include "ngx_module/worker_timer.h"

namespace headgate::edge {

class RedisService;

// In the zone; atomic words.
struct BacklogShared {
    ngx_atomic_t looked_at_ms;  // on the monotonic clock that all workers share; 0: never. Its taker looks
    struct Shard {
        ngx_atomic_t entries;
        ngx_atomic_t memory_percent;  // of maxmemory, of the Redis that has the shard; 0: no maxmemory, or not known
        ngx_atomic_t seen_at_ms;      // 0: never
    };
    Shard shards[limits::kShardsMax];
};
static_assert(std::is_trivially_destructible_v<BacklogShared>);

class Backlog {
 public:
    Backlog(RedisService& redis, BacklogShared& shared, int shards, ngx_log_t* log);
    Backlog(const Backlog&) = delete;
    Backlog& operator=(const Backlog&) = delete;

    // Somebody is about to publish, or would be: keeps the looking going.
    void touch() noexcept;
    // Were there more than `entries_max` entries in the shard's stream, or was its Redis too full? What was seen long
    // ago counts for nothing.
    [[nodiscard]] bool is_full(int shard, ngx_int_t entries_max) const noexcept;

 private:
    static void on_timer(void* self) noexcept;
    static void on_length(void* look, RedisOutcome outcome, const redisReply* reply) noexcept;
    static void on_memory(void* look, RedisOutcome outcome, const redisReply* reply) noexcept;

    void look() noexcept;
    [[nodiscard]] bool take_turn() noexcept;
    void ask(std::string command, std::string_view key, int shard, RedisCommand::Done done);

    // Who asked for a reply.
    struct Look {
        Backlog* backlog;
        int shard;
    };

    RedisService& redis_;
    BacklogShared& shared_;
    int shards_;
    ngx_log_t* log_;
    std::unique_ptr<Look[]> looks_;
    std::size_t unanswered_ = 0;
    bool touched_ = false;  // since the timer was last set
    WorkerTimer timer_;
};

}  // namespace headgate::edge
