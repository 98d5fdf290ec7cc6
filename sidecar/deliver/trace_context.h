// The trace of an event, carried on to endpoints (W3C Trace Context, version 00). Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace headgate {

// `traceparent` for one attempt: the trace and the flags of `received`, and `span` as the parent that the endpoint
// sees. Empty when there is no valid one: a request that nobody traced is not given a trace that nobody asked for. A
// version above 00 is read as far as 00 goes, and written as 00 (section 4.3 of the recommendation).
[[nodiscard]] std::string child_traceparent(std::string_view received, std::uint64_t span);

// The 32 digits of the trace's id in a valid traceparent; empty otherwise.
[[nodiscard]] std::string_view trace_id(std::string_view traceparent) noexcept;

}  // namespace headgate
