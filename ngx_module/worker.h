// What one nginx worker holds: its connections to Redis, what it knows of them, and the bytes
// it has in flight. Begins in init_process and ends in exit_process.
#pragma once

#include "ngx_module/backlog.h"
#include "ngx_module/conf.h"
#include "ngx_module/control.h"
#include "ngx_module/jwks_wait.h"
#include "ngx_module/limit_lease.h"
#include "ngx_module/redis_services.h"
#include "ngx_module/request_ctx.h"
#include "ngx_module/status_report.h"
#include "ngx_module/token_keys.h"
#include "ngx_module/token_memo.h"
#include "ngx_module/usage.h"
#include "ngx_module/worker_timer.h"
#include "ngx_module/zone.h"

namespace headgate::edge {

class Worker {
 public:
    Worker(const MainConf& conf, ngx_cycle_t* cycle);
    ~Worker();

    void start() noexcept;
    void stop() noexcept;  // whatever is under way is answered 503

    // The Redis of each kind of data; several may be one and the same.
    [[nodiscard]] RedisService& events() noexcept { return redis_.of(RedisRole::kEvents); }
    [[nodiscard]] RedisService& limits() noexcept { return redis_.of(RedisRole::kLimits); }
    // key:*, revoked, control, usage
    [[nodiscard]] RedisService& keys() noexcept { return redis_.of(RedisRole::kKeys); }
    // May one script charge a limit and add an event?
    [[nodiscard]] bool limits_join_events() noexcept { return redis_.limits_join_events(); }
    [[nodiscard]] RevocationSync& revocations() noexcept { return revocations_; }
    [[nodiscard]] TokenMemo& token_memo() noexcept { return token_memo_; }
    [[nodiscard]] KeyStore& key_store() noexcept { return key_store_; }
    [[nodiscard]] KeyWaiters& key_waiters() noexcept { return key_waiters_; }
    [[nodiscard]] Backlog& backlog() noexcept { return backlog_; }
    [[nodiscard]] ZoneShared& shared() noexcept { return *shared_; }
    [[nodiscard]] Leases& leases() noexcept { return leases_; }
    [[nodiscard]] Usage& usage() noexcept { return usage_; }
    [[nodiscard]] LimitMemo& limit_memo() noexcept { return limit_memo_; }
    [[nodiscard]] LimitTexts& limit_texts() noexcept { return limit_texts_; }
    [[nodiscard]] Counters& counters() noexcept { return *counters_; }  // this worker's own
    [[nodiscard]] std::size_t inflight_bytes() const noexcept { return inflight_bytes_; }

    void add_inflight(RequestCtx* ctx, std::size_t bytes) noexcept;
    void settle_inflight(RequestCtx* ctx) noexcept;  // takes back what ctx added; again is harmless

    // Randomness for event ids, drawn from OpenSSL in blocks.
    [[nodiscard]] bool random_bytes(std::array<unsigned char, 10>& out) noexcept;
    // Of the shard's stream in Redis.
    [[nodiscard]] std::string_view stream_key(int shard) const noexcept {
        return stream_keys_[static_cast<std::size_t>(shard)];
    }
    // An empty text that keeps its memory from one use to the next; good until it is asked for again.
    [[nodiscard]] std::string& scratch_text() noexcept {
        scratch_text_.clear();
        return scratch_text_;
    }
    // For spooled bodies: kScanBufferBytes.
    [[nodiscard]] char* scan_buffer() noexcept { return scan_buffer_.get(); }

 private:
    static void on_refresh(void* self) noexcept;

    ZoneShared* shared_;
    Counters* counters_;
    RedisServices redis_;
    RevocationSync revocations_;
    ControlReader control_;
    TokenMemo token_memo_;
    KeyStore key_store_;
    KeyWaiters key_waiters_;
    Backlog backlog_;
    LimitMemo limit_memo_;
    LimitTexts limit_texts_;  // outlives who refers to them
    Leases leases_;
    Usage usage_;
    StatusReport report_;
    std::size_t inflight_bytes_ = 0;
    WorkerTimer refresh_;
    std::unique_ptr<char[]> scan_buffer_;
    std::vector<std::string> stream_keys_;
    std::string scratch_text_;
    std::array<unsigned char, 4000> random_{};
    std::size_t random_left_ = 0;
};

[[nodiscard]] inline Worker& current_worker(ngx_http_request_t* r) noexcept { return *main_conf(r)->worker; }

// init_process and exit_process of the module.
[[nodiscard]] ngx_int_t start_worker(ngx_cycle_t* cycle) noexcept;
void stop_worker(ngx_cycle_t* cycle) noexcept;

}  // namespace headgate::edge
