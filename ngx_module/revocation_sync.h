// Reads headgate:revoked as a whole into the zone, when the schedule says so (resync_schedule.h): page by page with
// ZSCAN, so that no reply is large, and at the end drops what Redis no longer has. One worker does it for all. Next
// file: control.h, which keeps the zone current in between.
#pragma once

#include "ngx_module/redis_service.h"
#include "ngx_module/request_ctx.h"
#include "ngx_module/worker_timer.h"
#include "ngx_module/zone.h"

namespace headgate::edge {

class RevocationSync {
 public:
    // first_wait_ms: how long a request may wait for a zone's first resync.
    RevocationSync(RedisService& keys, ZoneShared& shared, ngx_msec_t first_wait_ms, ngx_log_t* log) noexcept;
    ~RevocationSync();
    RevocationSync(const RevocationSync&) = delete;
    RevocationSync& operator=(const RevocationSync&) = delete;

    void start() noexcept;
    void stop() noexcept;  // requests that wait go on
    // Begins a resync if one is due and nobody is at it. Called a few times a second, and when one has become due.
    void tick() noexcept;

    // A zone that was just made knows no revocation. True: ctx waits, and is resumed when the first resync has
    // finished or failed, or has taken too long. False: there is no use in waiting.
    [[nodiscard]] bool wait(RequestCtx* ctx) noexcept;

 private:
    static void on_page(void* self, RedisOutcome outcome, const redisReply* reply) noexcept;
    static void on_meta_before(void* self, RedisOutcome outcome, const redisReply* reply) noexcept;
    static void on_meta_after(void* self, RedisOutcome outcome, const redisReply* reply) noexcept;
    static void on_poll(void* self) noexcept;

    void ask_meta(void (*done)(void* self, RedisOutcome outcome, const redisReply* reply)) noexcept;
    void ask_page(std::string_view cursor) noexcept;
    [[nodiscard]] bool apply_page(const redisReply* members) noexcept;
    void finish(bool projected) noexcept;
    void fail(const char* why) noexcept;
    void wake() noexcept;
    void complain() noexcept;
    [[nodiscard]] bool may_wait() const noexcept;

    RedisService& keys_;
    ZoneShared& shared_;
    ngx_msec_t first_wait_ms_;
    ngx_log_t* log_;
    ngx_msec_t started_ms_ = 0;
    bool running_ = false;  // start() to stop()
    bool first_failed_ = false;
    bool busy_ = false;  // a resync is under way here
    std::uint32_t round_ = 0;
    std::uint32_t withdrawals_before_ = 0;
    std::size_t pages_ = 0;
    bool projected_before_ = false;
    ngx_queue_t waiting_{};  // RequestCtx::sync_link
    WorkerTimer poll_;       // awaited: requests wait for it. Set only then
};

}  // namespace headgate::edge
