// See request_ctx.h.
#include "ngx_module/request_ctx.h"

#include "ngx_module/jwks_fetch.h"
#include "ngx_module/limit.h"
#include "ngx_module/limit_lease.h"
#include "ngx_module/worker.h"

namespace headgate::edge {

namespace {

// Runs when the main request is terminated or freed: in ngx_http_terminate_request() that is before
// it looks at `blocked`, so the memory may have to live on; only the askers are taken away here.
void on_request_cleanup(void* data) noexcept {
    auto* ctx = static_cast<RequestCtx*>(data);
    ctx->stop_waiting_for_sync();
    for (RedisCommand*& command : ctx->pending) {
        if (command != nullptr) {
            std::exchange(command, nullptr)->abandon();
        }
    }
    KeyWaiters::remove(ctx);
    abandon_jwks_fetches(ctx);
    Leases::leave(ctx);
    give_up_charge(ctx);
    if (ctx->abandon_batch != nullptr) {
        ctx->abandon_batch(ctx->batch);
    }
    if (ctx->pins != 0) {
        ctx->abandoned = true;
    } else {
        current_worker(ctx->r).settle_inflight(ctx);
    }
}

// Marks the context among the pool's cleanups, where internal redirects do not reach
// (as ngx_http_realip_module does).
void on_pool_cleanup(void*) noexcept {}

}  // namespace

RequestCtx* find_request_ctx(ngx_http_request_t* r) noexcept {
    r = r->main;
    if (void* ctx = ngx_http_get_module_ctx(r, ngx_http_headgate_module); ctx != nullptr) {
        return static_cast<RequestCtx*>(ctx);
    }
    if (!r->internal && !r->filter_finalize) {
        return nullptr;  // never redirected: it does not exist yet
    }
    for (ngx_pool_cleanup_t* cleanup = r->pool->cleanup; cleanup != nullptr; cleanup = cleanup->next) {
        if (cleanup->handler == on_pool_cleanup) {
            ngx_http_set_ctx(r, cleanup->data, ngx_http_headgate_module);
            return static_cast<RequestCtx*>(cleanup->data);
        }
    }
    return nullptr;
}

RequestCtx* request_ctx(ngx_http_request_t* r) noexcept {
    if (RequestCtx* ctx = find_request_ctx(r); ctx != nullptr) {
        return ctx;
    }
    r = r->main;
    ngx_pool_cleanup_t* mark = ngx_pool_cleanup_add(r->pool, sizeof(RequestCtx));
    ngx_http_cleanup_t* cleanup = ngx_http_cleanup_add(r, 0);
    if (mark == nullptr || cleanup == nullptr) {
        return nullptr;
    }
    auto* ctx = new (mark->data) RequestCtx;
    ctx->r = r;
    mark->handler = on_pool_cleanup;
    cleanup->handler = on_request_cleanup;
    cleanup->data = ctx;
    ngx_http_set_ctx(r, ctx, ngx_http_headgate_module);
    return ctx;
}

namespace {

void begin_redis_wait(RequestCtx* ctx) noexcept {
    ctx->redis_asked = true;
    if (!std::exchange(ctx->redis_waiting, true)) {
        ctx->redis_since_ms = ngx_current_msec;
    }
}

void end_redis_wait(RequestCtx* ctx) noexcept {
    if (std::exchange(ctx->redis_waiting, false)) {
        ctx->redis_waited_ms += ngx_current_msec - ctx->redis_since_ms;
    }
}

}  // namespace

void suspend(ngx_http_request_t* r) noexcept {
    begin_redis_wait(find_request_ctx(r));  // the stage that waits has made it
    suspend_apart_from_redis(r);
}

void suspend_apart_from_redis(ngx_http_request_t* r) noexcept {
    r->read_event_handler = ngx_http_test_reading;
    r->write_event_handler = ngx_http_request_empty_handler;
    // A client that went away with its last bytes is not reported again by an edge-triggered epoll.
    ngx_event_t* read = r->connection->read;
    if (read->ready) {
        ngx_post_event(read, &ngx_posted_events);
    } else if (ngx_handle_read_event(read, 0) != NGX_OK) {
        r->connection->error = 1;  // the answer will find it
    }
}

void resume(RequestCtx* ctx) noexcept {
    ngx_http_request_t* r = ctx->r;
    ngx_connection_t* c = r->connection;
    end_redis_wait(ctx);
    ngx_http_set_log_request(c->log, r);
    r->read_event_handler = ngx_http_block_reading;
    r->write_event_handler = ngx_http_core_run_phases;
    ngx_http_core_run_phases(r);
    ngx_http_run_posted_requests(c);
}

void finish(RequestCtx* ctx, ngx_int_t rc) noexcept {
    ngx_http_request_t* r = ctx->r;
    ngx_connection_t* c = r->connection;
    end_redis_wait(ctx);
    ngx_http_set_log_request(c->log, r);
    r->read_event_handler = ngx_http_block_reading;
    ngx_http_finalize_request(r, rc);
    ngx_http_run_posted_requests(c);
}

void pin(RequestCtx* ctx) noexcept {
    if (ctx->pins++ == 0) {
        ctx->r->main->blocked++;
    }
}

void unpin(void* data) noexcept {
    auto* ctx = static_cast<RequestCtx*>(data);
    ngx_http_request_t* r = ctx->r;
    ngx_connection_t* c = r->connection;
    if (--ctx->pins != 0) {
        return;
    }
    r->main->blocked--;
    if (!ctx->abandoned) {
        return;  // it waits for the reply
    }
    // It was terminated meanwhile and only waited for us: let nginx end it, as its thread event
    // handlers do (ngx_http_copy_thread_event_handler()).
    current_worker(r).settle_inflight(ctx);
    ngx_http_set_log_request(c->log, r);
#if (nginx_version >= 1025004)
    const bool ended = r->done || r->main->terminated;
#else
    const bool ended = r->done;
#endif
    if (ended) {
        c->write->handler(c->write);
    } else {
#if (nginx_version >= 1025004)
        r->write_event_handler(r);
#else
        // Before 1.25.4 ngx_http_terminate_request() leaves its finalizer on whichever subrequest was terminated.
        ngx_http_finalize_request(r, NGX_ERROR);
#endif
        ngx_http_run_posted_requests(c);
    }
}

}  // namespace headgate::edge
