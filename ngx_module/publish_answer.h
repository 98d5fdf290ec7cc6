// Stage 3, the words: what clients are told about events, alone and in a batch, and what is counted of them.
#pragma once

#include "common/event_scanner.h"
#include "ngx_module/outgoing_event.h"
#include "ngx_module/respond.h"

namespace headgate::edge {

inline constexpr std::string_view kNotStored = "The event was not stored, or is not known to be; send it again";
inline constexpr std::string_view kBacklogFull = "Too many events are waiting already; send it again later";
inline constexpr std::string_view kKeyConflict = "This Idempotency-Key was used for another body";
inline constexpr std::string_view kBadKey =
    "An Idempotency-Key is 1 to 255 visible ASCII characters, and there is one at most";
inline constexpr std::string_view kWrongShape = "The event has the wrong shape";

// "not valid JSON at byte 17: expected a colon", behind "The body is" or "The event is".
[[nodiscard]] std::string invalid_json_text(std::string_view subject, std::string_view message, std::uint64_t offset);

// Appends "errors":[{"loc":["body","type"],"msg":…},…] for ShapeProblem bits. `where`: what stands in front of the
// member in `loc`, as JSON: "body" in quotes, and of a batch the index behind it.
void append_shape_errors(std::string& out, std::uint32_t problems, std::string_view where);

// 503 to the whole request, counted.
[[nodiscard]] ngx_int_t respond_not_stored(ngx_http_request_t* r, std::string_view detail = kNotStored);

void count_stored(ngx_http_request_t* r, const OutgoingEvent& event) noexcept;

// Why nothing of this body can be sent now; empty: it can. Redis is known not to take events, or too many bytes are
// in flight already.
[[nodiscard]] std::string_view publish_obstacle(ngx_http_request_t* r, std::uint64_t body_bytes) noexcept;
// After that: does the event's shard hold too many already?
[[nodiscard]] bool shard_is_full(ngx_http_request_t* r, const OutgoingEvent& event) noexcept;

}  // namespace headgate::edge
