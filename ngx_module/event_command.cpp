// See event_command.h.
#include "ngx_module/event_command.h"

#include <algorithm>
#include <string>

#include "common/event_record.h"
#include "common/resp.h"
#include "ngx_module/worker.h"

namespace headgate::edge {

namespace {

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

// How many bytes of the chain leave from where nginx read the body to. Looks at the finished chain and
// not at how it was made, so that a copy slipped in anywhere shows as payload_bytes_copied.
std::uint64_t borrowed_bytes(ngx_http_request_t* r, const ngx_chain_t* chain) noexcept {
    const bool sends_files = !current_worker(r).events().copies_files();
    std::uint64_t bytes = 0;
    for (; chain != nullptr; chain = chain->next) {
        const ngx_buf_t* buf = chain->buf;
        for (const ngx_chain_t* link = r->request_body->bufs; link != nullptr; link = link->next) {
            const ngx_buf_t* own = link->buf;
            const bool in_memory = ngx_buf_in_memory(own) && buf->pos >= own->pos && buf->last <= own->last;
            const bool in_file = sends_files && buf->in_file && buf->file == own->file;
            if (in_memory || in_file) {
                bytes += static_cast<std::uint64_t>(ngx_buf_size(buf));
                break;
            }
        }
    }
    return bytes;
}

}  // namespace

RedisCommand* build_event_command(ngx_http_request_t* r, RequestCtx* ctx) {
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
    command->is_event = true;
    command->min_replicas = static_cast<std::uint8_t>(loc_conf(r)->publish.ack_replicas);
    return command;
}

}  // namespace headgate::edge
