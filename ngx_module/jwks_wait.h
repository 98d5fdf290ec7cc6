// Stage 1, remote key sets: what a token's verdict is worth while keys are missing or old. Begins the fetches that are
// due (jwks_fetch); requests that cannot be decided before one has ended wait in the worker's queue.
#pragma once

#include "ngx_module/auth_status.h"
#include "ngx_module/conf.h"
#include "ngx_module/request_ctx.h"
#include "ngx_module/worker_timer.h"

namespace headgate::edge {

inline constexpr ngx_msec_t kKeysWaitMs = 5000;  // of one request, then it is answered without

// After check_token() said `status`, in a location with remote sets: begins the fetches that are due. kPending: the
// request waits, and the access phase runs again. kUnavailable: a set is missing that might have had the key.
[[nodiscard]] AuthStatus settle_token(ngx_http_request_t* r, RequestCtx* ctx, const AuthConf& conf, AuthStatus status);

// A worker's requests that wait for keys. Their fetches may be another worker's, so the zone is looked at every few
// milliseconds while somebody waits. The timer holds a quitting worker, each wait has an end.
class KeyWaiters {
 public:
    explicit KeyWaiters(ngx_log_t* log) noexcept;
    ~KeyWaiters();
    KeyWaiters(const KeyWaiters&) = delete;
    KeyWaiters& operator=(const KeyWaiters&) = delete;

    void add(RequestCtx* ctx) noexcept;
    static void remove(RequestCtx* ctx) noexcept;  // if it waits: it has ended
    // A fetch of this worker has ended; they are run from the event loop.
    void wake() noexcept;
    void stop() noexcept;  // all are answered 503, now
    [[nodiscard]] bool stopping() const noexcept { return stopping_; }

 private:
    static void on_timer(void* self) noexcept;
    static void on_posted(ngx_event_t* event) noexcept;
    void run() noexcept;

    ngx_queue_t queue_{};
    WorkerTimer timer_;
    ngx_event_t posted_{};
    bool stopping_ = false;
};

}  // namespace headgate::edge
