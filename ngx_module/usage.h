// How often each API key was used: added up here, and in Redis once a second, in `headgate:usage:{<key id>}`. When
// there are many keys they are written sooner, so that what waits here stays small however many callers there are.
#pragma once

#include <string>
#include <string_view>
#include <unordered_map>

#include "ngx_module/redis_service.h"
#include "ngx_module/worker_timer.h"

namespace headgate::edge {

// Of one worker. While Redis is away counts are kept, of at most kKeysMax keys; a quitting worker writes what it has.
// What was on its way when a connection broke is not sent again: usage may be too low by that, never too high.
class Usage {
 public:
    Usage(RedisService& redis, ngx_log_t* log) noexcept;
    ~Usage();
    Usage(const Usage&) = delete;
    Usage& operator=(const Usage&) = delete;

    // One request, when it has been answered.
    void count(std::string_view key_id, bool accepted, bool limited) noexcept;

    static constexpr std::size_t kKeysMax = 20'000;
    // So many keys are written at once, and the next so many when Redis has answered these; they do not wait for the
    // second to pass.
    static constexpr std::size_t kKeysPerFlush = 256;

 private:
    struct Counts {
        std::int64_t requests = 0, accepted = 0, limited = 0, last_used_ms = 0;
    };

    static void on_flush(void* self) noexcept;
    static void on_written(void* usage, RedisOutcome outcome, const redisReply* reply) noexcept;
    void flush() noexcept;
    void write_some() noexcept;
    [[nodiscard]] bool write(const std::string& key_id, Counts& counts);

    RedisService& redis_;
    ngx_log_t* log_;
    std::unordered_map<std::string, Counts> keys_;
    std::string scratch_;
    std::size_t due_ = 0;                 // keys that are written before the next pause
    RedisCommand* unanswered_ = nullptr;  // the last one written
    std::int64_t dropped_ = 0;            // requests, since the last flush
    WorkerTimer flush_timer_;
};

}  // namespace headgate::edge
