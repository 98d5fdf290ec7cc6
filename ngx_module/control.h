// Follows headgate:control, on a connection of its own because a read blocks there: what is revoked takes effect in
// the zone, and so on every worker, as soon as one of them has read it. Every worker reads; who is second finds the
// entry applied.
//
//   place (where does the stream begin and end?) -> read -> apply -> read …
//
// The place is compared with what the zone has seen. Entries that were trimmed unseen, or a stream that ends before
// them, mean that the zone has missed something: cached API keys are forgotten and the revocations read anew
// (revocation_sync.h).
#pragma once

#include "ngx_module/redis_service.h"
#include "ngx_module/revocation_sync.h"
#include "ngx_module/worker_timer.h"
#include "ngx_module/zone.h"

namespace headgate::edge {

class ControlReader {
 public:
    // `keys`: the Redis of keys as configured.
    ControlReader(const RedisConf& keys, MetaExpectation expected, ZoneShared& shared, RevocationSync& sync,
                  ngx_log_t* log);
    ControlReader(const ControlReader&) = delete;
    ControlReader& operator=(const ControlReader&) = delete;

    void start() noexcept;
    void stop() noexcept;

 private:
    static void on_tick(void* self) noexcept;
    static void on_first(void* self, RedisOutcome outcome, const redisReply* reply) noexcept;
    static void on_last(void* self, RedisOutcome outcome, const redisReply* reply) noexcept;
    static void on_entries(void* self, RedisOutcome outcome, const redisReply* reply) noexcept;

    void ask_place() noexcept;
    void ask_entries() noexcept;
    void take_place(const StreamId& last) noexcept;
    void apply(const redisReply* entry) noexcept;
    void change(std::string_view op, const std::optional<RevokedMember>& member, const std::optional<ZoneKey>& key,
                std::int64_t until_ms) noexcept;
    void refused(const redisReply* reply) noexcept;
    [[nodiscard]] bool send(std::string command,
                            void (*done)(void* self, RedisOutcome outcome, const redisReply* reply)) noexcept;

    RedisConf conf_;          // a blocked read takes longer than other commands
    ngx_atomic_t state_ = 0;  // not among those that the status shows
    RedisGauge gauge_;
    RedisService service_;
    ZoneShared& shared_;
    RevocationSync& sync_;
    ngx_log_t* log_;
    bool asking_ = false;
    bool seen_positioned_ = false;  // what the zone had seen when the place was asked
    StreamId seen_;
    StreamId first_;
    bool has_first_ = false;
    time_t complained_at_ = 0;
    WorkerTimer tick_;
};

}  // namespace headgate::edge
