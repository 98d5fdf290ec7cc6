// See publish.h. The road of a body: nginx reads it into its buffers (or spools it to a file); the
// scanner checks it where it lies (body_view.h); event_command.h makes a RESP command of it; the command is queued and
// the request pinned; the reply, or its absence, decides the answer. Batches go the same road in publish_batch.cpp.
#include "ngx_module/publish.h"

#include <optional>
#include <string>

#include "common/event_record.h"
#include "common/rfc3339.h"
#include "ngx_module/event_command.h"
#include "ngx_module/publish_answer.h"
#include "ngx_module/publish_batch.h"
#include "ngx_module/publish_check.h"

namespace headgate::edge {

namespace {

// ---- sending, and what comes of it ----------------------------------------------------------

void on_publish_reply(void* asker, RedisOutcome outcome, const redisReply* reply) noexcept;

// 201, or 200 with the same body to who asks again: an id holds the time at which it was made.
ngx_int_t respond_pending(ngx_http_request_t* r, ngx_uint_t status, std::string_view id) {
    char at[kRfc3339Bytes];
    rfc3339_format_into(uuid7_epoch_ms(id), at);
    std::string& body = current_worker(r).scratch_text();
    body.append("{\"id\":\"").append(id).append("\",\"status\":\"pending\",\"timestamp\":\"");
    body.append(at, kRfc3339Bytes).append("\"}");
    return respond_body(r, status, "application/json", body);
}

ngx_int_t respond_created(ngx_http_request_t* r, RequestCtx* ctx) {
    count_stored(r, ctx->event);
    ctx->published = true;
    return respond_pending(r, NGX_HTTP_CREATED, {ctx->event.id, kEventIdBytes});
}

ngx_int_t respond_replayed(ngx_http_request_t* r, RequestCtx* ctx, std::string_view first_id) {
    ngx_memcpy(ctx->event.id, first_id.data(), kEventIdBytes);
    ctx->published = true;
    count(current_worker(r).counters().events_replayed);
    add_header(r, "Idempotent-Replayed", "true");
    return respond_pending(r, NGX_HTTP_OK, first_id);
}

// NGX_DONE: the reply will end the request. Else: what to finalize it with.
ngx_int_t send_event(ngx_http_request_t* r, RequestCtx* ctx) {
    BodyView body(r);
    const std::string_view key = event_command_key(r, ctx->event);
    RedisCommand* command = build_event_command(r, ctx, ctx->event, ctx->fused, body);
    if (command == nullptr) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
    command->asker = ctx;
    command->done = on_publish_reply;
    command->lender = ctx;
    command->released = unpin;
    pin(ctx);
    if (!current_worker(r).events().send(command, key, &ctx->event.hops)) {
        unpin(ctx);
        delete command;
        return respond_not_stored(r);
    }
    ctx->pending[0] = command;
    suspend(r);
    return NGX_DONE;
}

// `replicated`: as many replicas have it as the location asks for.
ngx_int_t answer_publish(ngx_http_request_t* r, RequestCtx* ctx, const redisReply* reply, bool replicated) {
    if (current_worker(r).events().redirected(reply, ctx->event.hops)) {
        return send_event(r, ctx);
    }
    if (is_noscript(reply) && !std::exchange(ctx->event.resent, true)) {
        // Nothing ran. The request's own buffers are still whole, so the command can be built again.
        if (load_event_script(r, ctx->event, ctx->fused)) {
            return send_event(r, ctx);
        }
    }
    if (ctx->fused != nullptr && read_charge_reply(ctx, *ctx->fused, reply) && ctx->limit_refused) {
        return respond_limited(r, ctx);
    }
    const EventReply answer = read_event_reply(r, ctx->event, ctx->fused, reply);
    switch (answer.fate) {
        case EventFate::kStored:
            return replicated ? respond_created(r, ctx) : respond_not_stored(r);
        case EventFate::kReplayed:
            return replicated ? respond_replayed(r, ctx, answer.first_id) : respond_not_stored(r);
        case EventFate::kConflict:
            return respond_problem(r, {422, kKeyConflict});
        case EventFate::kUnknown:
            break;
    }
    return respond_not_stored(r);
}

void on_publish_reply(void* asker, RedisOutcome outcome, const redisReply* reply) noexcept {
    auto* ctx = static_cast<RequestCtx*>(asker);
    ngx_http_request_t* r = ctx->r;
    ctx->pending[0] = nullptr;
    const ngx_int_t rc = guarded(r, [&] {
        return outcome == RedisOutcome::kUnavailable ? respond_not_stored(r)
                                                     : answer_publish(r, ctx, reply, outcome == RedisOutcome::kReply);
    });
    if (rc != NGX_DONE) {
        current_worker(r).settle_inflight(ctx);
        finish(ctx, rc);
    }
}

// ---- what is wrong with a body ---------------------------------------------------------------

struct Refusal {
    ngx_uint_t status;
    std::string detail;
    std::string extra{};
};

Refusal refusal_of(const EventScanner& scanner, ScanStatus status) {
    if (status == ScanStatus::kEmpty) {
        return {NGX_HTTP_BAD_REQUEST, "The request has no body"};
    }
    if (status == ScanStatus::kInvalidJson) {
        return {NGX_HTTP_BAD_REQUEST, invalid_json_text("The body", scanner.error_message(), scanner.error_offset())};
    }
    Refusal refusal{422, std::string(kWrongShape)};
    append_shape_errors(refusal.extra, scanner.problems(), "\"body\"");
    return refusal;
}

ngx_int_t respond_refusal(ngx_http_request_t* r, const Refusal& refusal) {
    return respond_problem(r, {refusal.status, refusal.detail, {}, refusal.extra});
}

void after_refusal_charged(RequestCtx* ctx, void* data, bool known) noexcept {
    ngx_http_request_t* r = ctx->r;
    finish(ctx, guarded(r, [&] {
               if (!known) {
                   return respond_unavailable(r, "Rate limits cannot be checked now");
               }
               return ctx->limit_refused ? respond_limited(r, ctx) : respond_refusal(r, *static_cast<Refusal*>(data));
           }));
}

// An invalid body whose limiter was left for the fused call is charged alone, then refused.
ngx_int_t refuse(ngx_http_request_t* r, RequestCtx* ctx, Refusal refusal) {
    if (ctx->fused == nullptr) {
        return respond_refusal(r, refusal);
    }
    auto* pending = make_in_pool<Refusal>(r->pool, std::move(refusal));
    if (pending == nullptr) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
    if (!start_charge(ctx, ctx->fused, after_refusal_charged, pending)) {
        return respond_unavailable(r, "Rate limits cannot be checked now");
    }
    return NGX_DONE;
}

// ---- the body --------------------------------------------------------------------------------

// One pass over the body where it lies, by the scanner and, with an Idempotency-Key, by the digest. False: a spooled
// part could not be read.
bool scan_body(BodyView& body, EventScanner& scanner, Sha256* digest) noexcept {
    return body.read({0, body.bytes()}, [&](const char* data, std::size_t bytes) {
        if (digest != nullptr) {
            digest->update({data, bytes});
        }
        return scanner.feed(data, bytes);
    });
}

ngx_int_t publish_event(ngx_http_request_t* r, RequestCtx* ctx) {
    const LocConf* conf = loc_conf(r);
    Worker& worker = current_worker(r);
    BodyView body(r);
    if (body.bytes() > conf->publish.event_max_bytes) {
        return respond_too_large(r, conf);
    }
    std::string_view key;
    if (!find_idempotency_key(r, key)) {
        return refuse(r, ctx, {NGX_HTTP_BAD_REQUEST, std::string(kBadKey)});
    }
    EventScanner scanner;
    std::optional<Sha256> digest;
    if (!key.empty()) {
        digest.emplace();
    }
    if (!scan_body(body, scanner, digest ? &*digest : nullptr)) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
    if (const ScanStatus status = scanner.finish(); status != ScanStatus::kOk) {
        return refuse(r, ctx, refusal_of(scanner, status));
    }
    if (!prepare_event(r, ctx, scanner, scanner.payload(), key, ctx->event)) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
    if (digest) {
        ctx->event.body_digest = digest->finish();
    }
    if (const std::string_view obstacle = publish_obstacle(r, body.bytes()); !obstacle.empty()) {
        return respond_not_stored(r, obstacle);
    }
    if (shard_is_full(r, ctx->event)) {
        return respond_not_stored(r, kBacklogFull);
    }
    ctx->traceparent = find_traceparent(r);
    worker.add_inflight(ctx, body.bytes());
    const ngx_int_t rc = send_event(r, ctx);
    if (rc != NGX_DONE) {
        worker.settle_inflight(ctx);
    }
    return rc;
}

// The body is there, as a whole.
void on_body(ngx_http_request_t* r) noexcept {
    const ngx_int_t rc = guarded(r, [r] {
        RequestCtx* ctx = find_request_ctx(r);
        return loc_conf(r)->publish.kind == PublishKind::kBatch ? publish_batch(r, ctx) : publish_event(r, ctx);
    });
    if (rc != NGX_DONE) {
        ngx_http_finalize_request(r, rc);
    }
}

}  // namespace

ngx_int_t publish_handler(ngx_http_request_t* r) noexcept {
    const RequestCtx* ctx = find_request_ctx(r);
    if (r != r->main) {
        return NGX_HTTP_FORBIDDEN;  // subrequests publish nothing
    }
    if (ctx == nullptr || !ctx->authenticated || !loc_conf(r)->publish.on()) {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "headgate: a publish location was reached without a principal");
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
    const ngx_int_t rc = ngx_http_read_client_request_body(r, on_body);
    return rc >= NGX_HTTP_SPECIAL_RESPONSE ? rc : NGX_DONE;
}

}  // namespace headgate::edge
