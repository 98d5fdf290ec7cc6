// See jwks_wait.h.
#include "ngx_module/jwks_wait.h"

#include "ngx_module/jwks_fetch.h"
#include "ngx_module/token_keys.h"
#include "ngx_module/worker.h"

namespace headgate::edge {

namespace {

std::int64_t clock_ms() noexcept { return static_cast<std::int64_t>(ngx_current_msec); }

// ---- deciding ---------------------------------------------------------------------------------

// Might a key that is not there have made a difference?
bool depends_on_keys(AuthStatus status) noexcept {
    return status == AuthStatus::kUnknownKid || status == AuthStatus::kBadAlgorithm ||
           status == AuthStatus::kBadSignature || status == AuthStatus::kTooManyKeys ||
           status == AuthStatus::kBadIssuer;
}

struct RemoteState {
    bool missing = false;    // some set is not there
    bool in_flight = false;  // some set is being fetched
    std::uint64_t settled = 0;
};

RemoteState state_of(KeyStore& store, const JwtConf& conf) {
    store.refresh();
    RemoteState state;
    for (const RemoteKeys* remote : conf.remotes) {
        if (remote != nullptr) {
            state.missing = state.missing || !store.schedule(*remote).usable(clock_ms());
            state.in_flight = state.in_flight || store.schedule(*remote).in_flight(clock_ms());
            state.settled += store.settled(*remote);
        }
    }
    return state;
}

void start_due_fetches(ngx_http_request_t* r, RequestCtx* ctx, const JwtConf& conf, bool for_kid) {
    KeyStore& store = current_worker(r).key_store();
    for (const RemoteKeys* remote : conf.remotes) {
        if (remote == nullptr) {
            continue;
        }
        const KeySchedule& schedule = store.schedule(*remote);
        if (for_kid ? schedule.wants_fetch_for_kid(clock_ms())
                    : schedule.wants_fetch(clock_ms(), conf.key_cache_seconds * 1000)) {
            start_jwks_fetch(r, ctx, *remote, conf, for_kid);
        }
    }
}

AuthStatus wait_for_keys(ngx_http_request_t* r, RequestCtx* ctx, const JwtConf& conf, std::uint64_t settled) {
    KeysWait& wait = ctx->keys_wait;
    if (wait.deadline_ms == 0) {
        wait.deadline_ms = ngx_current_msec + kKeysWaitMs;
    }
    wait.conf = &conf;
    wait.settled = settled;
    if (carries_jwks_fetch(ctx)) {
        // Others may wait for this fetch too: a client that goes away does not take it along.
        r->read_event_handler = ngx_http_block_reading;
        r->write_event_handler = ngx_http_request_empty_handler;
    } else {
        suspend_apart_from_redis(r);
    }
    current_worker(r).key_waiters().add(ctx);
    return AuthStatus::kPending;
}

}  // namespace

AuthStatus settle_token(ngx_http_request_t* r, RequestCtx* ctx, const AuthConf& auth, AuthStatus status) {
    if (status == AuthStatus::kMalformed || status == AuthStatus::kTooLarge || status == AuthStatus::kPending) {
        return status;
    }
    const JwtConf& conf = auth.jwt;
    Worker& worker = current_worker(r);
    if (worker.key_waiters().stopping()) {
        return status == AuthStatus::kOk ? status : AuthStatus::kUnavailable;
    }
    worker.key_store().refresh();
    start_due_fetches(r, ctx, conf, false);
    RemoteState state = state_of(worker.key_store(), conf);
    AuthStatus verdict = status;
    if (depends_on_keys(status)) {
        const bool may_wait = ctx->keys_wait.deadline_ms == 0 ||
                              static_cast<ngx_msec_int_t>(ctx->keys_wait.deadline_ms - ngx_current_msec) > 0;
        if (status == AuthStatus::kUnknownKid && !state.missing && !std::exchange(ctx->keys_wait.asked_again, true)) {
            start_due_fetches(r, ctx, conf, true);
            state = state_of(worker.key_store(), conf);
        }
        if (state.in_flight && may_wait && (state.missing || status == AuthStatus::kUnknownKid)) {
            return wait_for_keys(r, ctx, conf, state.settled);
        }
        verdict = state.missing ? AuthStatus::kUnavailable : status;
    }
    ctx->keys_wait = {};
    if (carries_jwks_fetch(ctx)) {
        r->keepalive = 0;  // the connection is not free before the fetch has ended, however long that takes
    }
    return verdict;
}

// ---- waiting ----------------------------------------------------------------------------------

namespace {

constexpr ngx_msec_t kLookAgainMs = 10;

// Something has ended, or it has waited long enough.
bool is_ready(RequestCtx* ctx) noexcept {
    try {
        const KeysWait& wait = ctx->keys_wait;
        const RemoteState state = state_of(current_worker(ctx->r).key_store(), *wait.conf);
        return state.settled != wait.settled || !state.in_flight ||
               static_cast<ngx_msec_int_t>(wait.deadline_ms - ngx_current_msec) <= 0;
    } catch (const std::exception&) {
        return true;
    }
}

}  // namespace

KeyWaiters::KeyWaiters(ngx_log_t* log) noexcept : timer_(this, on_timer, WorkerTimer::OnQuit::kAwaited, log) {
    ngx_queue_init(&queue_);
    posted_.handler = on_posted;
    posted_.data = this;
    posted_.log = log;
}

KeyWaiters::~KeyWaiters() {
    if (posted_.posted) {
        ngx_delete_posted_event(&posted_);
    }
}

void KeyWaiters::add(RequestCtx* ctx) noexcept {
    ctx->keys_wait.waiting = true;
    ngx_queue_insert_tail(&queue_, &ctx->keys_wait.queue);
    timer_.set(kLookAgainMs);
}

void KeyWaiters::remove(RequestCtx* ctx) noexcept {
    if (std::exchange(ctx->keys_wait.waiting, false)) {
        ngx_queue_remove(&ctx->keys_wait.queue);
    }
}

void KeyWaiters::wake() noexcept {
    if (!posted_.posted) {
        ngx_post_event(&posted_, &ngx_posted_events);
    }
}

void KeyWaiters::stop() noexcept {
    stopping_ = true;
    run();
}

void KeyWaiters::on_timer(void* self) noexcept { static_cast<KeyWaiters*>(self)->run(); }

void KeyWaiters::on_posted(ngx_event_t* event) noexcept { on_timer(event->data); }

// A request that runs may end others of its connection, and so take them out of either queue; it may also wait again.
void KeyWaiters::run() noexcept {
    ngx_queue_t ready;
    ngx_queue_init(&ready);
    for (ngx_queue_t* at = ngx_queue_head(&queue_); at != ngx_queue_sentinel(&queue_);) {
        auto* ctx = ngx_queue_data(at, RequestCtx, keys_wait.queue);
        at = ngx_queue_next(at);
        if (stopping_ || is_ready(ctx)) {
            ngx_queue_remove(&ctx->keys_wait.queue);
            ngx_queue_insert_tail(&ready, &ctx->keys_wait.queue);
        }
    }
    while (!ngx_queue_empty(&ready)) {
        auto* ctx = ngx_queue_data(ngx_queue_head(&ready), RequestCtx, keys_wait.queue);
        ngx_queue_remove(&ctx->keys_wait.queue);
        ctx->keys_wait.waiting = false;
        resume(ctx);
    }
    if (!ngx_queue_empty(&queue_)) {
        timer_.set(kLookAgainMs);
    }
}

}  // namespace headgate::edge
