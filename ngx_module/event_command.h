// Stage 3, the command: a RESP command whose payload is the request's own memory, through shadow buffers.
#pragma once

#include "ngx_module/body_view.h"
#include "ngx_module/limit.h"
#include "ngx_module/outgoing_event.h"
#include "ngx_module/redis_pipeline.h"
#include "ngx_module/request_ctx.h"

namespace headgate::edge {

// The XADD of an event: a plain one, or the script that joins it to a limit's charge (`charge` is not nullptr), to its
// Idempotency-Key, or to both. Borrows the body's buffers or its file: the request must be pinned until
// released() is called. The caller sets asker, done, lender and released. nullptr when there is no memory. It may
// be built again for a resend: the request's own buffers are never advanced.
[[nodiscard]] RedisCommand* build_event_command(ngx_http_request_t* r, const RequestCtx* ctx, OutgoingEvent& event,
                                                const LimitCharge* charge, BodyView& body);

// The key by which Redis is asked: the stream's, also where a limit is charged in the same call (which only a Redis
// that is no cluster does), so that all events of a shard take the same way and keep their order.
[[nodiscard]] std::string event_command_key(const OutgoingEvent& event);

// After NOSCRIPT: loads what that command runs, ahead of sending it again. False: not connected.
[[nodiscard]] bool load_event_script(ngx_http_request_t* r, const OutgoingEvent& event, const LimitCharge* charge);

// What Redis made of it.
enum class EventFate : std::uint8_t {
    kStored,
    kReplayed,  // an event with this key and these bytes was stored before
    kConflict,  // one with this key and other bytes was
    kUnknown,   // not stored, or not known to be; the reason has been logged
};
struct EventReply {
    EventFate fate = EventFate::kUnknown;
    std::string_view first_id{};  // of kReplayed; lies in the reply
};
// The reply to that command; with a charge, after read_charge_reply() has granted it.
[[nodiscard]] EventReply read_event_reply(ngx_http_request_t* r, const OutgoingEvent& event, const LimitCharge* charge,
                                          const redisReply* reply) noexcept;

}  // namespace headgate::edge
