// See publish.h. The road of a body: nginx reads it into its buffers (or spools it to a file);
// scan_body() checks it where it lies; build_command() makes a RESP command whose payload is the
// request's own memory, through shadow buffers; the command is queued and the request pinned; the
// reply, or its absence, decides the answer.
#include "ngx_module/publish.h"

#include <hiredis/hiredis.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <string>

#include "common/event_record.h"
#include "common/event_scanner.h"
#include "common/problem.h"
#include "common/rfc3339.h"
#include "ngx_module/limit.h"
#include "ngx_module/respond.h"
#include "ngx_module/worker.h"

namespace headgate::edge {

namespace {

// ---- the request before its body ------------------------------------------------------------

bool is_json_type(const ngx_table_elt_t* header) noexcept {
    if (header == nullptr) {
        return false;
    }
    std::string_view type = view(header->value);
    type = type.substr(0, type.find(';'));
    while (!type.empty() && (type.back() == ' ' || type.back() == '\t')) {
        type.remove_suffix(1);
    }
    std::string lowered(type);
    std::transform(lowered.begin(), lowered.end(), lowered.begin(), [](unsigned char c) { return ngx_tolower(c); });
    return lowered == "application/json" || (lowered.starts_with("application/") && lowered.ends_with("+json"));
}

const ngx_table_elt_t* find_header(ngx_http_request_t* r, std::string_view lowercase) noexcept {
    for (ngx_list_part_t* part = &r->headers_in.headers.part; part != nullptr; part = part->next) {
        auto* headers = static_cast<ngx_table_elt_t*>(part->elts);
        for (ngx_uint_t i = 0; i < part->nelts; ++i) {
            if (headers[i].key.len == lowercase.size() &&
                ngx_memcmp(headers[i].lowcase_key, lowercase.data(), lowercase.size()) == 0) {
                return &headers[i];
            }
        }
    }
    return nullptr;
}

// W3C Trace Context, version 00: 00-<32 hex>-<16 hex>-<2 hex>. Anything else is left out.
ngx_str_t find_traceparent(ngx_http_request_t* r) noexcept {
    const ngx_table_elt_t* header = find_header(r, "traceparent");
    if (header == nullptr || header->value.len != 55) {
        return {};
    }
    const std::string_view text = view(header->value);
    for (std::size_t i = 0; i < text.size(); ++i) {
        const bool dash = i == 2 || i == 35 || i == 52;
        const bool hex = (text[i] >= '0' && text[i] <= '9') || (text[i] >= 'a' && text[i] <= 'f');
        if (dash ? text[i] != '-' : !hex) {
            return {};
        }
    }
    return text.starts_with("ff") ? ngx_str_t{} : header->value;
}

ngx_int_t too_large(ngx_http_request_t* r, const LocConf* conf) {
    return respond_problem(r, {NGX_HTTP_REQUEST_ENTITY_TOO_LARGE,
                               "An event may have at most " + std::to_string(conf->event_max_bytes) + " bytes"});
}

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

// ---- the command ----------------------------------------------------------------------------

// Appends to the chain; nullptr when there is no memory.
ngx_chain_t** append_buf(ngx_pool_t* pool, ngx_chain_t** tail, ngx_buf_t*& buf) noexcept {
    ngx_chain_t* link = ngx_alloc_chain_link(pool);
    buf = static_cast<ngx_buf_t*>(ngx_pcalloc(pool, sizeof(ngx_buf_t)));  // ngx_calloc_buf() is C
    if (link == nullptr || buf == nullptr) {
        return nullptr;
    }
    link->buf = buf;
    link->next = nullptr;
    *tail = link;
    return &link->next;
}

ngx_chain_t** append_text(ngx_pool_t* pool, ngx_chain_t** tail, std::string_view text) noexcept {
    ngx_buf_t* buf = nullptr;
    tail = append_buf(pool, tail, buf);
    const ngx_str_t copy = copy_to_pool(pool, text);
    if (tail == nullptr || copy.data == nullptr) {
        return nullptr;
    }
    buf->pos = buf->start = copy.data;
    buf->last = buf->end = copy.data + copy.len;
    buf->memory = 1;
    return tail;
}

// Shadow buffers over [begin, end) of the body. send_chain() advances what it is given: the request's
// own buffers stay whole, so that a command can be built again.
ngx_chain_t** append_payload(ngx_http_request_t* r, ngx_chain_t** tail, std::uint64_t begin,
                             std::uint64_t end) noexcept {
    std::uint64_t offset = 0;
    for (ngx_chain_t* link = r->request_body->bufs; link != nullptr && offset < end; link = link->next) {
        const ngx_buf_t* from = link->buf;
        const auto size = static_cast<std::uint64_t>(ngx_buf_size(from));
        const std::uint64_t first = std::max(begin, offset);
        const std::uint64_t last = std::min(end, offset + size);
        if (first < last) {
            ngx_buf_t* shadow = nullptr;
            tail = append_buf(r->pool, tail, shadow);
            if (tail == nullptr) {
                return nullptr;
            }
            if (ngx_buf_in_memory(from)) {
                shadow->pos = shadow->start = from->pos + (first - offset);
                shadow->last = shadow->end = from->pos + (last - offset);
                shadow->memory = 1;
            } else {
                shadow->in_file = 1;
                shadow->file = from->file;
                shadow->file_pos = from->file_pos + static_cast<off_t>(first - offset);
                shadow->file_last = from->file_pos + static_cast<off_t>(last - offset);
            }
        }
        offset += size;
    }
    return tail;
}

// How many bytes of the chain are the body's own, where nginx read it to. Looks at the finished chain and
// not at how it was made, so that a copy slipped in anywhere shows as payload_bytes_copied.
std::uint64_t borrowed_bytes(ngx_http_request_t* r, const ngx_chain_t* chain) noexcept {
    std::uint64_t bytes = 0;
    for (; chain != nullptr; chain = chain->next) {
        const ngx_buf_t* buf = chain->buf;
        for (const ngx_chain_t* link = r->request_body->bufs; link != nullptr; link = link->next) {
            const ngx_buf_t* own = link->buf;
            const bool in_memory = ngx_buf_in_memory(own) && buf->pos >= own->pos && buf->last <= own->last;
            const bool in_file = buf->in_file && buf->file == own->file;
            if (in_memory || in_file) {
                bytes += static_cast<std::uint64_t>(ngx_buf_size(buf));
                break;
            }
        }
    }
    return bytes;
}

void on_publish_reply(void* asker, RedisOutcome outcome, const redisReply* reply) noexcept;

// The XADD, alone or fused with a limiter's charge. nullptr when there is no memory.
RedisCommand* build_command(ngx_http_request_t* r, RequestCtx* ctx) {
    const LimitCharge* charge = ctx->fused;
    const std::string stream = stream_key(kDefaultKeyPrefix, ctx->shard);
    const std::size_t payload_bytes = ctx->payload_end - ctx->payload_begin;
    constexpr std::size_t kFieldArguments = 2 * kEventFieldNames.size();
    const auto name = [](EventField field) { return kEventFieldNames[static_cast<std::size_t>(field)]; };

    std::string head;
    head.reserve(1024);
    RespWriter writer(head);
    if (charge != nullptr) {
        writer.array(5 + charge_arguments(*charge) + kFieldArguments);
        writer.bulk("EVALSHA").bulk(limit_publish_script_sha1()).bulk("2").bulk(charge->key).bulk(stream);
        write_charge_arguments(writer, *charge);
    } else {
        writer.array(3 + kFieldArguments).bulk("XADD").bulk(stream).bulk("*");
    }
    writer.bulk(name(EventField::kV)).bulk("1");
    writer.bulk(name(EventField::kId)).bulk(std::string_view(ctx->event_id, kEventIdBytes));
    writer.bulk(name(EventField::kOrg)).bulk(view(ctx->principal.org));
    writer.bulk(name(EventField::kKey)).bulk(view(ctx->principal.key_id));
    writer.bulk(name(EventField::kType)).bulk(view(ctx->type));
    writer.bulk(name(EventField::kSource)).bulk(view(ctx->source));
    writer.bulk(name(EventField::kPayload));
    char mark[kRespHeadBytesMax];
    head.append(mark, resp_write_head(mark, '$', payload_bytes));

    std::string rest = "\r\n";
    RespWriter(rest)
        .bulk(name(EventField::kOrd))
        .bulk(view(ctx->ordering_key))
        .bulk(name(EventField::kTp))
        .bulk(view(ctx->traceparent))
        .bulk(name(EventField::kVia))
        .bulk("api")
        .bulk(name(EventField::kAt))
        .bulk(ctx->at_ms);

    ngx_chain_t* chain = nullptr;
    ngx_chain_t** tail = append_text(r->pool, &chain, head);
    if (tail != nullptr) {
        tail = append_payload(r, tail, ctx->payload_begin, ctx->payload_end);
    }
    if (tail == nullptr || append_text(r->pool, tail, rest) == nullptr) {
        return nullptr;
    }
    ctx->payload_bytes_copied = payload_bytes - borrowed_bytes(r, chain);
    auto* command = new RedisCommand;
    command->chain = chain;
    command->last_link = *tail;
    command->asker = ctx;
    command->done = on_publish_reply;
    command->lender = ctx;
    command->released = unpin;
    return command;
}

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
    RedisCommand* command = build_command(r, ctx);
    if (command == nullptr) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
    pin(ctx);
    if (!worker.redis().send(command)) {
        unpin(ctx);
        delete command;
        return respond_not_stored(r);
    }
    ctx->pending[0] = command;
    suspend(r);
    return NGX_DONE;
}

bool is_entry_id(const redisReply* reply) noexcept {
    return (reply->type == REDIS_REPLY_STRING || reply->type == REDIS_REPLY_STATUS) && reply->len > 0;
}

void log_refusal(ngx_http_request_t* r, const redisReply* reply) noexcept {
    if (reply->type == REDIS_REPLY_ERROR) {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0, "headgate: Redis refused an event: %*s",
                      static_cast<std::size_t>(reply->len), reply->str);
    }
}

ngx_int_t answer_publish(ngx_http_request_t* r, RequestCtx* ctx, const redisReply* reply) {
    if (ctx->fused == nullptr) {
        if (is_entry_id(reply)) {
            return respond_created(r, ctx);
        }
        log_refusal(r, reply);
        return respond_not_stored(r);
    }
    if (is_noscript(reply) && !std::exchange(ctx->resent, true)) {
        // Nothing ran. The request's own buffers are still whole, so the command can be built again.
        std::string load;
        RespWriter(load).command("SCRIPT", "LOAD", limit_publish_script());
        if (current_worker(r).redis().send_bytes(std::move(load), nullptr, nullptr) != nullptr) {
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
    return stored ? respond_created(r, ctx) : respond_not_stored(r);
}

void on_publish_reply(void* asker, RedisOutcome outcome, const redisReply* reply) noexcept {
    auto* ctx = static_cast<RequestCtx*>(asker);
    ngx_http_request_t* r = ctx->r;
    ctx->pending[0] = nullptr;
    current_worker(r).settle_inflight(ctx);
    const ngx_int_t rc = guarded(
        r, [&] { return outcome == RedisOutcome::kReply ? answer_publish(r, ctx, reply) : respond_not_stored(r); });
    if (rc != NGX_DONE) {
        finish(ctx, rc);
    }
}

// An invalid body whose limiter was left for the fused call is charged alone, then refused.
struct PendingRefusal {
    RequestCtx* ctx;
    ScanStatus status;
    EventScanner scanner;
};

void on_refusal_charged(void* asker, RedisOutcome outcome, const redisReply* reply) noexcept {
    auto* pending = static_cast<PendingRefusal*>(asker);
    RequestCtx* ctx = pending->ctx;
    ngx_http_request_t* r = ctx->r;
    ctx->pending[0] = nullptr;
    finish(ctx, guarded(r, [&] {
               const bool charged = outcome == RedisOutcome::kReply && read_charge_reply(ctx, *ctx->fused, reply);
               return charged && ctx->limit_refused ? respond_limited(r, ctx)
                                                    : respond_invalid(r, pending->scanner, pending->status);
           }));
}

ngx_int_t refuse_body(ngx_http_request_t* r, RequestCtx* ctx, const EventScanner& scanner, ScanStatus status) {
    if (ctx->fused == nullptr) {
        return respond_invalid(r, scanner, status);
    }
    auto* pending = make_in_pool<PendingRefusal>(r->pool, PendingRefusal{ctx, status, scanner});
    if (pending == nullptr) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
    ctx->pending[0] = current_worker(r).redis().send_bytes(charge_command(*ctx->fused), pending, on_refusal_charged);
    if (ctx->pending[0] == nullptr) {
        return respond_unavailable(r, "Rate limits cannot be checked now");
    }
    suspend(r);
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
    if (bytes > conf->event_max_bytes) {
        return too_large(r, conf);
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
    if (!worker.meta().may_publish() && worker.redis().ready()) {
        return respond_not_stored(r);  // the reason is in the error log, at emerg
    }
    if (worker.inflight_bytes() + bytes > conf->publish_inflight_bytes) {
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

bool body_has_arrived(ngx_http_request_t* r) noexcept {
#if (NGX_HTTP_V2)
    if (r->stream != nullptr) {
        return false;
    }
#endif
    const off_t expected = r->headers_in.content_length_n;
    if (r->headers_in.chunked || expected <= 0) {
        return false;
    }
    off_t arrived = r->header_in->last - r->header_in->pos;
#if (NGX_SSL)
    if (r->connection->ssl != nullptr) {
        return arrived >= expected;  // what lies in the socket is not yet decrypted
    }
#endif
    // nginx reads the headers into a small buffer first; the rest of a short request usually waits in the socket.
    if (int waiting = 0; arrived < expected && ioctl(r->connection->fd, FIONREAD, &waiting) == 0) {
        arrived += waiting;
    }
    return arrived >= expected;
}

ngx_int_t check_publish_request(ngx_http_request_t* r, RequestCtx* ctx, const LocConf* conf) {
    if (std::exchange(ctx->publish_checked, true)) {
        return NGX_DECLINED;
    }
    if (r->method != NGX_HTTP_POST) {
        add_header(r, "Allow", "POST");
        return end_in_phase(r, respond_problem(r, {NGX_HTTP_NOT_ALLOWED, "Events are published with POST"}));
    }
    const ngx_table_elt_t* encoding = find_header(r, "content-encoding");
    if (!is_json_type(r->headers_in.content_type) || (encoding != nullptr && view(encoding->value) != "identity")) {
        return end_in_phase(r, respond_problem(r, {NGX_HTTP_UNSUPPORTED_MEDIA_TYPE,
                                                   "Events are sent as application/json without Content-Encoding"}));
    }
    if (r->headers_in.content_length_n > static_cast<off_t>(conf->event_max_bytes)) {
        return end_in_phase(r, too_large(r, conf));
    }
    return NGX_DECLINED;
}

ngx_int_t publish_handler(ngx_http_request_t* r) noexcept {
    const RequestCtx* ctx = find_request_ctx(r);
    if (r != r->main) {
        return NGX_HTTP_FORBIDDEN;  // subrequests publish nothing
    }
    if (ctx == nullptr || !ctx->authenticated) {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "headgate: a publish location was reached without a principal");
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
    const ngx_int_t rc = ngx_http_read_client_request_body(r, on_body);
    return rc >= NGX_HTTP_SPECIAL_RESPONSE ? rc : NGX_DONE;
}

}  // namespace headgate::edge
