// See event_command.h.
#include "ngx_module/event_command.h"

#include <hiredis/hiredis.h>

#include <string>

#include "common/event_record.h"
#include "common/redis_scripts.h"
#include "common/resp.h"
#include "ngx_module/redis_reply.h"

namespace headgate::edge {

namespace {

// Appends text of the pool to the chain; nullptr when there is no memory.
ngx_chain_t** append_text(ngx_pool_t* pool, ngx_chain_t** tail, u_char* text, std::size_t bytes) noexcept {
    ngx_chain_t* link = ngx_alloc_chain_link(pool);
    auto* buf = static_cast<ngx_buf_t*>(ngx_pcalloc(pool, sizeof(ngx_buf_t)));  // ngx_calloc_buf() is C
    if (link == nullptr || buf == nullptr) {
        return nullptr;
    }
    buf->pos = buf->start = text;
    buf->last = buf->end = text + bytes;
    buf->memory = 1;
    link->buf = buf;
    link->next = nullptr;
    *tail = link;
    return &link->next;
}

std::string_view script_sha1_of(const OutgoingEvent& event, const LimitCharge* charge) noexcept {
    if (charge == nullptr) {
        return publish_idempotent_script_sha1();
    }
    return event.idempotent() ? limit_publish_idempotent_script_sha1() : limit_publish_script_sha1();
}

std::string_view script_of(const OutgoingEvent& event, const LimitCharge* charge) noexcept {
    if (charge == nullptr) {
        return publish_idempotent_script();
    }
    return event.idempotent() ? limit_publish_idempotent_script() : limit_publish_script();
}

// Everything in front of the XADD's fields. With EVAL it is cut where the script belongs: at how many bytes of `text`;
// else 0.
std::size_t write_call(std::string& text, ngx_http_request_t* r, const OutgoingEvent& event,
                       const LimitCharge* charge) {
    RespWriter writer(text);
    constexpr std::size_t kFieldArguments = 2 * kEventFieldNames.size();
    const std::string_view stream = event_command_key(r, event);
    if (charge == nullptr && !event.idempotent()) {
        writer.array(3 + kFieldArguments).bulk("XADD").bulk(stream).bulk("*");
        return 0;
    }
    const std::size_t keys = 1 + (charge != nullptr ? 1 : 0) + (event.idempotent() ? 1 : 0);
    const std::size_t arguments =
        (charge != nullptr ? limit_arguments(*charge->windows) : 0) + (event.idempotent() ? 2 : 0) + kFieldArguments;
    writer.array(3 + keys + arguments);
    std::size_t script_at = 0;
    if (event.brings_script) {
        char mark[kRespHeadBytesMax];
        writer.bulk("EVAL");
        text.append(mark, resp_write_head(mark, '$', script_of(event, charge).size()));
        script_at = text.size();
        writer.raw("\r\n");
    } else {
        writer.bulk("EVALSHA").bulk(script_sha1_of(event, charge));
    }
    writer.bulk(static_cast<long long>(keys));
    if (charge == nullptr) {
        writer.bulk(view(event.idempotency_key)).bulk(stream);
    } else {
        writer.bulk(charge->key).bulk(stream);
        if (event.idempotent()) {
            writer.bulk(view(event.idempotency_key));
        }
        write_limit_arguments(writer, take_of(*charge), *charge->windows);
    }
    if (event.idempotent()) {
        writer.bulk(static_cast<long long>(loc_conf(r)->publish.idempotency_ttl_ms));
        writer.bulk(idempotency_value({event.id, kEventIdBytes}, event.body_digest));
    }
    return script_at;
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

}  // namespace

RedisCommand* build_event_command(ngx_http_request_t* r, const RequestCtx* ctx, OutgoingEvent& event,
                                  const LimitCharge* charge, BodyView& body) {
    const auto name = [](EventField field) { return kEventFieldNames[static_cast<std::size_t>(field)]; };
    // What stands before and behind the payload, written in one go and then kept in the pool.
    std::string& text = current_worker(r).scratch_text();
    const std::size_t script_at = write_call(text, r, event, charge);
    RespWriter writer(text);
    writer.bulk(name(EventField::kV)).bulk("1");
    writer.bulk(name(EventField::kId)).bulk(std::string_view(event.id, kEventIdBytes));
    writer.bulk(name(EventField::kOrg)).bulk(view(ctx->principal.org));
    writer.bulk(name(EventField::kKey)).bulk(view(ctx->principal.key_id));
    writer.bulk(name(EventField::kType)).bulk(view(event.type));
    writer.bulk(name(EventField::kSource)).bulk(view(event.source));
    writer.bulk(name(EventField::kPayload));
    char mark[kRespHeadBytesMax];
    text.append(mark, resp_write_head(mark, '$', event.payload.size()));
    const std::size_t head_bytes = text.size();
    writer.raw("\r\n")
        .bulk(name(EventField::kOrd))
        .bulk(view(event.ordering_key))
        .bulk(name(EventField::kTp))
        .bulk(view(ctx->traceparent))
        .bulk(name(EventField::kVia))
        .bulk(loc_conf(r)->publish.kind == PublishKind::kBatch ? "batch" : "api")
        .bulk(name(EventField::kAt))
        .bulk(event.at_ms);

    ngx_chain_t* chain = nullptr;
    const ngx_str_t kept = copy_to_pool(r->pool, text);
    ngx_chain_t** tail = kept.data == nullptr ? nullptr : &chain;
    if (tail != nullptr && script_at != 0) {
        const std::string_view script = script_of(event, charge);  // lives as long as the process
        tail = append_text(r->pool, tail, kept.data, script_at);
        if (tail != nullptr) {
            tail =
                append_text(r->pool, tail, reinterpret_cast<u_char*>(const_cast<char*>(script.data())), script.size());
        }
    }
    if (tail != nullptr) {
        tail = append_text(r->pool, tail, kept.data + script_at, head_bytes - script_at);
    }
    if (tail != nullptr) {
        tail = body.append_shadows(tail, event.payload);
    }
    if (tail == nullptr || append_text(r->pool, tail, kept.data + head_bytes, kept.len - head_bytes) == nullptr) {
        return nullptr;
    }
    event.payload_bytes_copied =
        event.payload.size() - body.lent_bytes(chain, event.payload, !current_worker(r).events().copies_files());
    auto* command = new RedisCommand;
    command->chain = chain;
    command->last_link = *tail;
    command->is_event = true;
    command->min_replicas = static_cast<std::uint8_t>(loc_conf(r)->publish.ack_replicas);
    return command;
}

std::string_view event_command_key(ngx_http_request_t* r, const OutgoingEvent& event) noexcept {
    return current_worker(r).stream_key(event.shard);
}

bool load_event_script(ngx_http_request_t* r, const OutgoingEvent& event, const LimitCharge* charge) {
    return current_worker(r).events().load_script(script_of(event, charge), event_command_key(r, event));
}

EventReply read_event_reply(ngx_http_request_t* r, const OutgoingEvent& event, const LimitCharge* charge,
                            const redisReply* reply) noexcept {
    if (reply->type == REDIS_REPLY_ERROR) {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0, "headgate: Redis refused an event: %*s",
                      static_cast<std::size_t>(reply->len), reply->str);
        return {};
    }
    if (charge == nullptr && !event.idempotent()) {
        return {is_entry_id(reply) ? EventFate::kStored : EventFate::kUnknown};
    }
    const std::size_t first = charge == nullptr ? 0 : 2 + 2 * charge->windows->windows().size();
    if (reply->type != REDIS_REPLY_ARRAY || reply->elements != first + (event.idempotent() ? 2 : 1)) {
        return {};
    }
    const redisReply* outcome = reply->element[first];
    if (!event.idempotent()) {
        return {is_entry_id(outcome) ? EventFate::kStored : EventFate::kUnknown};
    }
    if (outcome->type != REDIS_REPLY_INTEGER) {
        return {};
    }
    const std::string_view text = text_of(reply->element[first + 1]);
    switch (static_cast<IdempotencyOutcome>(outcome->integer)) {
        case IdempotencyOutcome::kStored:
            return {EventFate::kStored};
        case IdempotencyOutcome::kConflict:
            return {EventFate::kConflict};
        case IdempotencyOutcome::kReplayed:
            return uuid_is_valid(text) ? EventReply{EventFate::kReplayed, text} : EventReply{};
    }
    return {};
}

}  // namespace headgate::edge
