// See outgoing_event.h.
#include "ngx_module/outgoing_event.h"

#include "common/event_record.h"
#include "ngx_module/worker.h"

namespace headgate::edge {

bool prepare_event(ngx_http_request_t* r, const RequestCtx* ctx, const EventScanner& scanner, ByteRange payload,
                   std::string_view client_key, OutgoingEvent& event) {
    std::array<unsigned char, 10> random;
    if (!current_worker(r).random_bytes(random)) {
        return false;
    }
    event.at_ms = now_ms();
    uuid7_format(event.at_ms, random, event.id);
    event.payload = payload;
    event.type = copy_to_pool(r->pool, scanner.type());
    event.source = copy_to_pool(r->pool, scanner.source());
    event.ordering_key = copy_to_pool(r->pool, scanner.ordering_key());
    if (event.type.data == nullptr || event.source.data == nullptr || event.ordering_key.data == nullptr) {
        return false;
    }
    const std::string_view org = view(ctx->principal.org);
    std::string_view shard_key = view(event.ordering_key);
    if (shard_key.empty()) {
        shard_key = client_key.empty() ? std::string_view(event.id, kEventIdBytes) : client_key;
    }
    event.shard = shard_of(org, shard_key, static_cast<int>(main_conf(r)->shards));
    if (client_key.empty()) {
        return true;
    }
    event.idempotency_key = copy_to_pool(
        r->pool, idempotency_key(kDefaultKeyPrefix, event.shard, org, view(event.ordering_key), client_key));
    return event.idempotency_key.data != nullptr;
}

}  // namespace headgate::edge
