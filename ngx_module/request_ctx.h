// One client request on its way through the stages. Lives in the main request's pool, is found
// again after internal redirects (which zero r->ctx), and borrows everything: nothing in it needs
// a destructor.
#pragma once

#include <exception>

#include "common/gcra.h"
#include "common/limits.h"
#include "ngx_module/auth_status.h"
#include "ngx_module/ngx.h"
#include "ngx_module/outgoing_event.h"
#include "ngx_module/redis_pipeline.h"

namespace headgate::edge {

struct JwksFetch;
struct JwtConf;
struct LimitCharge;
struct LimitConf;
struct LimitReport;
struct LimitTake;

// Who asks. Texts lie in the main request's pool.
struct Principal {
    ngx_str_t org, key_id, key_prefix, sub, iss, scope, plan, limits, allowed_ips;
};

// A request that waits until some key set has been fetched, by whichever request and worker. See jwks_fetch.h.
struct KeysWait {
    bool waiting = false;           // in the worker's queue
    bool asked_again = false;       // for an unknown kid: once for a request
    ngx_msec_t deadline_ms = 0;     // of ngx_current_msec, for all its waits together; 0: has not waited
    const JwtConf* conf = nullptr;  // whose sets it waits for
    std::uint64_t settled = 0;      // how many of their fetches had ended when it began to
    ngx_queue_t queue{};
};

enum class LimitStatus : std::uint8_t { kNone, kPassed, kRejected, kDryRun, kBypassed };
// What came of asking Redis.
enum class LimitAsked : std::uint8_t { kNo, kDecided, kUnavailable };

inline constexpr std::size_t kLimitersMax = 8;  // of one location
inline constexpr std::size_t kChargedMax = 2 * kLimitersMax;

struct RequestCtx {
    ngx_http_request_t* r = nullptr;  // the main request

    // Auth (access phase).
    AuthStatus auth_status = AuthStatus::kOff;
    bool authenticated = false;
    Principal principal{};
    bool auth_reply_seen = false;  // Redis has answered: auth_status says what came of it
    bool waits_for_sync = false;   // for the revocations (revocation_sync.h)
    ngx_queue_t sync_link{};
    // The token that let the request in, borrowed from its headers; empty for an API key. claims.cpp decodes its
    // payload into the pool: claims_json is that of the token claims_of.
    std::string_view verified_token{}, claims_of{}, claims_json{};
    ngx_uint_t require_status = 0;  // of the headgate_jwt_require that was not met
    KeysWait keys_wait{};           // for keys that are being fetched
    JwksFetch* fetches = nullptr;   // that this request carries; of its pool
    // With `satisfy any` another check may still let the request in: counted when the answer is certain.
    AuthStatus open_refusal = AuthStatus::kOff;
    bool refusal_counted = false;
    ngx_table_elt_t* challenge = nullptr;  // the WWW-Authenticate of a refusal, in the response's headers

    // Limit (precontent phase).
    LimitStatus limit_status = LimitStatus::kNone;
    std::size_t limit_index = 0;
    const LimitConf* charged[kChargedMax] = {};  // each limiter charges a request once
    std::size_t charged_count = 0;
    LimitReport* reports = nullptr;     // of the pool
    LimitCharge* charge = nullptr;      // of the limiter that is at work; of the pool
    LimitTake* limit_take = nullptr;    // the call of Redis that this request waits for
    ngx_queue_t limit_wait{};           // among those who wait for another's
    bool limit_waits = false;           // limit_wait is linked
    bool limit_waited_in_vain = false;  // for a call that Redis did not decide in time: once more, and that is all
    LimitAsked limit_asked = LimitAsked::kNo;
    bool limit_refused = false;
    bool limit_answered = false;  // by a limiter: what follows is its error_page, and not limited again
    std::int64_t retry_us = 0;
    LimitCharge* fused = nullptr;  // left for the publish stage, in the same call as the XADD; of the pool

    // Publish (content phase).
    OutgoingEvent event;  // of a batch: unused, its events are in the batch
    ngx_str_t traceparent{};
    std::size_t inflight_bytes = 0;
    bool published = false;
    // Of a batch: takes its askers away when the request dies.
    void (*abandon_batch)(void* batch) noexcept = nullptr;
    void* batch = nullptr;

    // $headgate_redis_time: from suspend() until the request goes on.
    bool redis_asked = false;
    bool redis_waiting = false;
    ngx_msec_t redis_since_ms = 0;  // of the wait under way
    ngx_msec_t redis_waited_ms = 0;

    // At most three commands of a request are with Redis at a time. Abandoned when the request dies.
    RedisCommand* pending[3] = {};
    std::size_t pins = 0;    // commands whose bytes are queued: the request's memory must stay
    bool abandoned = false;  // it was terminated while pinned
    bool counted = false;    // among the requests
    bool accepted = false;   // and among those that passed every stage

    [[nodiscard]] bool waiting() const noexcept {
        return waits_for_sync || pending[0] != nullptr || pending[1] != nullptr || pending[2] != nullptr ||
               limit_take != nullptr || keys_wait.waiting;
    }
    void stop_waiting_for_sync() noexcept {
        if (std::exchange(waits_for_sync, false)) {
            ngx_queue_remove(&sync_link);
        }
    }
    [[nodiscard]] ngx_msec_t redis_time_ms() const noexcept {
        return redis_waited_ms + (redis_waiting ? ngx_current_msec - redis_since_ms : 0);
    }
};
static_assert(std::is_trivially_destructible_v<RequestCtx>);

// The context of r's main request; made on first use. nullptr when there is no memory.
[[nodiscard]] RequestCtx* request_ctx(ngx_http_request_t* r) noexcept;
// The same, but never made: for variables and filters.
[[nodiscard]] RequestCtx* find_request_ctx(ngx_http_request_t* r) noexcept;

// While a request waits for Redis the client's going away is noticed at once. A phase handler returns
// NGX_AGAIN after suspend(), and resume() runs the phases again (as ngx_http_limit_req_module does); the
// content handler returns NGX_DONE, and finish() ends the request.
void suspend(ngx_http_request_t* r) noexcept;
void suspend_apart_from_redis(ngx_http_request_t* r) noexcept;  // waits for something else: no time of Redis
void resume(RequestCtx* ctx) noexcept;
void finish(RequestCtx* ctx, ngx_int_t rc) noexcept;

// The pin on the main request's memory. It is counted, once for each command, and held in nginx once for each
// request (r->blocked has 8 bits). While it is held ngx_http_terminate_request() leaves the request alone, as it does
// for aio and threads.
void pin(RequestCtx* ctx) noexcept;
// RedisCommand::released: the last byte that the command borrowed has been written, or never will be.
void unpin(void* ctx) noexcept;

// No exception crosses a C callback: a throw becomes a 500 and a line in the log.
template <typename Body>
[[nodiscard]] ngx_int_t guarded(ngx_http_request_t* r, Body&& body) noexcept {
    try {
        return body();
    } catch (const std::exception& e) {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0, "headgate: %s", e.what());
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
}

// The same for a variable's value, which becomes empty; `body` returns a view that lives as long as the request.
template <typename Body>
[[nodiscard]] ngx_int_t guarded_variable(ngx_http_request_t* r, ngx_http_variable_value_t* value,
                                         Body&& body) noexcept {
    std::string_view text;
    try {
        text = body();
    } catch (const std::exception& e) {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0, "headgate: %s", e.what());
    }
    value->data = bytes_of(text);
    value->len = static_cast<unsigned>(text.size()) & 0x0fffffff;
    value->valid = 1;
    value->no_cacheable = 1;
    value->not_found = text.empty() ? 1 : 0;
    return NGX_OK;
}

}  // namespace headgate::edge
