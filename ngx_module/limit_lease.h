// Stage 2, who decides: leases in the shared zone (common/lease.h), calls of the limit script for what they lack, and
// the requests that wait for one. One object for each worker.
//
// A call belongs to nobody's request: its asker may leave, and the reply still counts. Requests of the same worker that
// meet it wait for its reply and then try again; those of other workers ask for themselves what they need.
#pragma once

#include <cstring>
#include <deque>
#include <string>
#include <unordered_map>

#include "common/lease.h"
#include "ngx_module/limit_charge.h"
#include "ngx_module/redis_service.h"
#include "ngx_module/worker_timer.h"

namespace headgate::edge {

class Leases;

// One call of the limit script, from the decision to ask until everybody has been told.
struct LimitTake {
    Leases* leases = nullptr;
    ZoneKey zone_key{};
    std::string key;  // of Redis
    // With `asker` gone these may be, too; not the windows, when `leased`.
    const LimitCharge* charge = nullptr;
    const LimitWindows* windows = nullptr;
    LeaseTake take;
    bool leased = false;     // the reply changes the lease
    bool resent = false;     // after NOSCRIPT: nothing had run
    bool joinable = false;   // requests may wait for it
    bool undecided = false;  // Redis was asked, and did not decide in time: for those who waited, too
    RequestCtx* asker = nullptr;
    void (*after)(RequestCtx* ctx, void* data, bool known) = nullptr;
    void* data = nullptr;
    ngx_queue_t waiting{};  // of RequestCtx::limit_wait
    std::size_t waiters = 0;
    std::int64_t waiting_cost = 0;
    ngx_queue_t link{};  // answered, and its waiters are to be told
};

class Leases {
 public:
    Leases(ZoneShared* shared, RedisService& redis, ngx_log_t* log) noexcept;
    ~Leases();
    Leases(const Leases&) = delete;
    Leases& operator=(const Leases&) = delete;

    void stop() noexcept;  // after Redis was stopped: nobody waits any longer, and nobody asks

    // A charge without a lease: what it needs, as a call to be sent. All that make one may throw std::bad_alloc.
    [[nodiscard]] LimitTake* ask_exactly(const LimitCharge& charge);
    // Under the lease. kSpent and kRefused have filled ctx (report, retry_us); kWait has made ctx wait: suspend it;
    // kAsk has made `charge.take`: send(), or leave it for the publish stage.
    [[nodiscard]] LeaseAnswer spend(RequestCtx* ctx, LimitCharge& charge);
    // This host's own limit, while Redis is away. True: admitted. Fills ctx.
    [[nodiscard]] bool charge_local(RequestCtx* ctx, const LimitCharge& charge) noexcept;

    // Sends it alone, and calls `after` once, unless the asker leaves: `known` when Redis decided, in time; ctx then
    // says what. False: not connected; it is given up.
    [[nodiscard]] bool send(LimitTake* take, RequestCtx* asker, void (*after)(RequestCtx*, void*, bool), void* data);
    // The reply came with something else. Fills ctx. False: it is no such reply.
    [[nodiscard]] bool answered(LimitTake* take, RequestCtx* ctx, const LimitCharge& charge, const redisReply* reply);
    // It will not be sent, or its reply will not be known.
    void give_up(LimitTake* take) noexcept;
    // The request neither asks nor waits any longer.
    static void leave(RequestCtx* ctx) noexcept;


 private:
    struct Expiry {
        std::int64_t due_us;
        ZoneKey zone_key;
        std::string key;
        const LimitWindows* windows;
    };
    struct ZoneKeyHash {
        std::size_t operator()(const ZoneKey& key) const noexcept {
            std::size_t hash;
            std::memcpy(&hash, key.data(), sizeof hash);
            return hash;
        }
    };

    static void on_reply(void* asker, RedisOutcome outcome, const redisReply* reply) noexcept;
    static void on_serve_event(ngx_event_t* event) noexcept;
    static void on_expiry(void* self) noexcept;

    [[nodiscard]] LimitTake* make_take(const LimitCharge& charge, const LeaseTake& take);
    [[nodiscard]] bool write(LimitTake* take);
    [[nodiscard]] LeaseState* state_of(const ZoneKey& key) noexcept;  // under the zone's lock
    [[nodiscard]] bool settle(LimitTake* take, RequestCtx* ctx, LimitDecision decision, std::span<WindowState> states);
    void retire(LimitTake* take) noexcept;
    void serve() noexcept;
    void expire() noexcept;
    void remember_expiry(const LimitTake& take);

    ZoneShared* shared_;
    RedisService& redis_;
    std::unordered_map<ZoneKey, LimitTake*, ZoneKeyHash> takes_;  // those that may be joined
    ngx_queue_t to_serve_;
    bool stopped_ = false;
    const LimitTake* serving_ = nullptr;
    std::deque<Expiry> expiries_;  // due in order
    ngx_event_t serve_event_{};
    WorkerTimer expiry_;  // dropped: what a quitting worker holds is lost or another's
};

// Reads the script's reply. False: not such a reply.
[[nodiscard]] bool read_limit_reply(const redisReply* reply, LimitDecision& decision,
                                    std::span<WindowState> states) noexcept;
[[nodiscard]] bool is_noscript(const redisReply* reply) noexcept;

}  // namespace headgate::edge
