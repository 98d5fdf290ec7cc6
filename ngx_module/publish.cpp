// See publish.h. The road of a body: nginx reads it into its buffers (or spools it to a file);
// scan_body() checks it where it lies; event_command.h makes a RESP command of it; the command is queued and
// the request pinned; the reply, or its absence, decides the answer.
#include "ngx_module/publish.h"

#include <hiredis/hiredis.h>

#include <algorithm>
#include <string>

#include "common/event_record.h"
#include "common/event_scanner.h"
#include "common/problem.h"
#include "common/rfc3339.h"
#include "ngx_module/event_command.h"
#include "ngx_module/limit.h"
#include "ngx_module/publish_check.h"
#include "ngx_module/redis_reply.h"
#include "ngx_module/respond.h"
#include "ngx_module/worker.h"

namespace headgate::edge {

namespace {

// ---- the body -------------------------------------------------------------------------------

std::uint64_t body_bytes(const ngx_http_request_t* r) noexcept {
    std::uint64_t bytes = 0;
    for (ngx_chain_t* link = r->request_body->bufs; link != nullptr; link = link->next) {
        bytes += static_cast<std::uint64_t>(ngx_buf_size(link->buf));
    }
    return bytes;
}

// One pass over the body where it lies. False: a spooled part could not be read.
bool scan_body(ngx_http_request_t* r, EventScanner& scanner) noexcept {
    for (ngx_chain_t* link = r->request_body->bufs; link != nullptr; link = link->next) {
        ngx_buf_t* buf = link->buf;
        if (ngx_buf_in_memory(buf)) {
            if (!scanner.feed(reinterpret_cast<const char*>(buf->pos),
                              static_cast<std::size_t>(buf->last - buf->pos))) {
                return true;
            }
            continue;
        }
        char* window = current_worker(r).scan_buffer();
        for (off_t at = buf->file_pos; at < buf->file_last;) {
            const auto want = static_cast<std::size_t>(
                std::min<off_t>(buf->file_last - at, static_cast<off_t>(limits::kScanBufferBytes)));
            const ssize_t n = ngx_read_file(buf->file, reinterpret_cast<u_char*>(window), want, at);
            if (n <= 0) {
                return false;
            }
            if (!scanner.feed(window, static_cast<std::size_t>(n))) {
                return true;
            }
            at += n;
        }
    }
    return true;
}

ngx_int_t respond_invalid(ngx_http_request_t* r, const EventScanner& scanner, ScanStatus status) {
    if (status == ScanStatus::kEmpty) {
        return respond_problem(r, {NGX_HTTP_BAD_REQUEST, "The request has no body"});
    }
    if (status == ScanStatus::kInvalidJson) {
        return respond_problem(
            r, {NGX_HTTP_BAD_REQUEST, "The body is not valid JSON at byte " + std::to_string(scanner.error_offset()) +
                                          ": " + std::string(scanner.error_message())});
    }
    std::string errors = "\"errors\":[";
    std::size_t texts = 0;
    const ShapeProblemText* text = shape_problem_texts(texts);
    for (std::size_t i = 0; i < texts; ++i) {
        if ((scanner.problems() & text[i].bit) == 0) {
            continue;
        }
        errors.append(errors.back() == '[' ? "" : ",").append("{\"loc\":[\"body\"");
        if (!text[i].member.empty()) {
            errors.append(",");
            append_json_string(errors, text[i].member);
        }
        errors.append("],\"msg\":");
        append_json_string(errors, text[i].message);
        errors.append("}");
    }
    return respond_problem(r, {422, "The event has the wrong shape", {}, errors + "]"});
}

void on_publish_reply(void* asker, RedisOutcome outcome, const redisReply* reply) noexcept;

// ---- sending, and what comes of it ----------------------------------------------------------

ngx_int_t respond_not_stored(ngx_http_request_t* r) {
    count(current_worker(r).shared().events_failed);
    return respond_unavailable(r, "The event was not stored, or is not known to be; send it again");
}

ngx_int_t respond_created(ngx_http_request_t* r, RequestCtx* ctx) {
    ZoneShared& shared = current_worker(r).shared();
    count(shared.events_published);
    count(shared.payload_bytes, static_cast<ngx_atomic_int_t>(ctx->payload_end - ctx->payload_begin));
    count(shared.payload_bytes_copied, static_cast<ngx_atomic_int_t>(ctx->payload_bytes_copied));
    ctx->published = true;
    char at[kRfc3339Bytes];
    rfc3339_format_into(ctx->at_ms, at);
    std::string body = "{\"id\":\"";
    body.append(ctx->event_id, kEventIdBytes).append("\",\"status\":\"pending\",\"timestamp\":\"");
    body.append(at, kRfc3339Bytes).append("\"}");
    return respond_body(r, NGX_HTTP_CREATED, "application/json", body);
}

// NGX_DONE: the reply will end the request. Else: what to finalize it with.
ngx_int_t send_event(ngx_http_request_t* r, RequestCtx* ctx) {
    Worker& worker = current_worker(r);
    RedisCommand* command = build_event_command(r, ctx);
    if (command == nullptr) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
    command->asker = ctx;
    command->done = on_publish_reply;
    command->lender = ctx;
    command->released = unpin;
    pin(ctx);
    if (!worker.events().send(command, stream_key(kDefaultKeyPrefix, ctx->shard), &ctx->hops)) {
        unpin(ctx);
        delete command;
        return respond_not_stored(r);
    }
    ctx->pending[0] = command;
    suspend(r);
    return NGX_DONE;
}

// <milliseconds>-<number>. Looked at closely, because it is what 201 rests on: hiredis takes a bulk string's bytes
// for what they are, wherever a broken stream of replies made it begin.
bool is_entry_id(const redisReply* reply) noexcept {
    const std::string_view id = text_of(reply);
    const std::size_t dash = id.find('-');
    return reply->type != REDIS_REPLY_ERROR && dash != 0 && dash + 1 < id.size() &&
           id.find_first_not_of("0123456789", 0) == dash &&
           id.find_first_not_of("0123456789", dash + 1) == std::string_view::npos;
}

void log_refusal(ngx_http_request_t* r, const redisReply* reply) noexcept {
    if (reply->type == REDIS_REPLY_ERROR) {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0, "headgate: Redis refused an event: %*s",
                      static_cast<std::size_t>(reply->len), reply->str);
    }
}

// `replicated`: as many replicas have it as the location asks for.
ngx_int_t answer_publish(ngx_http_request_t* r, RequestCtx* ctx, const redisReply* reply, bool replicated) {
    if (current_worker(r).events().redirected(reply, ctx->hops)) {
        return send_event(r, ctx);
    }
    if (ctx->fused == nullptr) {
        if (is_entry_id(reply)) {
            return replicated ? respond_created(r, ctx) : respond_not_stored(r);
        }
        log_refusal(r, reply);
        return respond_not_stored(r);
    }
    if (is_noscript(reply) && !std::exchange(ctx->resent, true)) {
        // Nothing ran. The request's own buffers are still whole, so the command can be built again.
        if (current_worker(r).events().load_script(limit_publish_script(), stream_key(kDefaultKeyPrefix, ctx->shard))) {
            return send_event(r, ctx);
        }
    }
    if (!read_charge_reply(ctx, *ctx->fused, reply)) {
        log_refusal(r, reply);
        return respond_not_stored(r);
    }
    if (ctx->limit_refused) {
        return respond_limited(r, ctx);
    }
    const bool stored = is_entry_id(reply->element[reply->elements - 1]);
    return stored && replicated ? respond_created(r, ctx) : respond_not_stored(r);
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

// An invalid body whose limiter was left for the fused call is charged alone, then refused.
struct PendingRefusal {
    ScanStatus status;
    EventScanner scanner;
};

void after_refusal_charged(RequestCtx* ctx, void* data, bool known) noexcept {
    ngx_http_request_t* r = ctx->r;
    const auto* pending = static_cast<PendingRefusal*>(data);
    finish(ctx, guarded(r, [&] {
               if (!known) {
                   return respond_unavailable(r, "Rate limits cannot be checked now");
               }
               return ctx->limit_refused ? respond_limited(r, ctx)
                                         : respond_invalid(r, pending->scanner, pending->status);
           }));
}

ngx_int_t refuse_body(ngx_http_request_t* r, RequestCtx* ctx, const EventScanner& scanner, ScanStatus status) {
    if (ctx->fused == nullptr) {
        return respond_invalid(r, scanner, status);
    }
    auto* pending = make_in_pool<PendingRefusal>(r->pool, PendingRefusal{status, scanner});
    if (pending == nullptr) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
    if (!start_charge(ctx, ctx->fused, after_refusal_charged, pending)) {
        return respond_unavailable(r, "Rate limits cannot be checked now");
    }
    return NGX_DONE;
}

bool copy_scanned(ngx_http_request_t* r, RequestCtx* ctx, const EventScanner& scanner) noexcept {
    ctx->payload_begin = scanner.payload().begin;
    ctx->payload_end = scanner.payload().end;
    ctx->type = copy_to_pool(r->pool, scanner.type());
    ctx->source = copy_to_pool(r->pool, scanner.source());
    ctx->ordering_key = copy_to_pool(r->pool, scanner.ordering_key());
    return ctx->type.data != nullptr && ctx->source.data != nullptr && ctx->ordering_key.data != nullptr;
}

ngx_int_t publish_body(ngx_http_request_t* r, RequestCtx* ctx) {
    const LocConf* conf = loc_conf(r);
    Worker& worker = current_worker(r);
    const std::uint64_t bytes = r->request_body->bufs == nullptr ? 0 : body_bytes(r);
    if (bytes > conf->publish.event_max_bytes) {
        return respond_too_large(r, conf);
    }
    EventScanner scanner;
    if (!scan_body(r, scanner)) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
    if (const ScanStatus status = scanner.finish(); status != ScanStatus::kOk) {
        return refuse_body(r, ctx, scanner, status);
    }
    std::array<unsigned char, 10> random;
    if (!copy_scanned(r, ctx, scanner) || !worker.random_bytes(random)) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
    if (!worker.events().meta().may_publish() && worker.events().ready()) {
        return respond_not_stored(r);  // the reason is in the error log, at emerg
    }
    if (worker.inflight_bytes() + bytes > conf->publish.inflight_bytes) {
        return respond_not_stored(r);
    }
    ctx->at_ms = now_ms();
    uuid7_format(ctx->at_ms, random, ctx->event_id);
    ctx->traceparent = find_traceparent(r);
    const std::string_view shard_key =
        ctx->ordering_key.len != 0 ? view(ctx->ordering_key) : std::string_view(ctx->event_id, kEventIdBytes);
    ctx->shard = shard_of(view(ctx->principal.org), shard_key, static_cast<int>(main_conf(r)->shards));
    worker.add_inflight(ctx, bytes);
    const ngx_int_t rc = send_event(r, ctx);
    if (rc != NGX_DONE) {
        worker.settle_inflight(ctx);
    }
    return rc;
}

// The body is there, as a whole.
void on_body(ngx_http_request_t* r) noexcept {
    const ngx_int_t rc = guarded(r, [r] { return publish_body(r, find_request_ctx(r)); });
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
