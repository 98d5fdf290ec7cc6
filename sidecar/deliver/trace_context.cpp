// Reads and writes traceparent: 00-<32 digits: trace>-<16: parent>-<2: flags>; see trace_context.h.
#include "sidecar/deliver/trace_context.h"

#include <algorithm>

namespace headgate {
namespace {

constexpr std::size_t kTraceAt = 3, kTraceDigits = 32;
constexpr std::size_t kParentAt = 36, kParentDigits = 16;
constexpr std::size_t kFlagsAt = 53, kLength = 55;
constexpr std::string_view kDigits = "0123456789abcdef";

// Lower case only (section 3.2.2).
bool is_all_hex(std::string_view text) noexcept { return text.find_first_not_of(kDigits) == std::string_view::npos; }
bool is_zero(std::string_view text) noexcept { return text.find_first_not_of('0') == std::string_view::npos; }

bool is_valid(std::string_view text) noexcept {
    if (text.size() < kLength || text[2] != '-' || text[kParentAt - 1] != '-' || text[kFlagsAt - 1] != '-')
        return false;
    const std::string_view version = text.substr(0, 2);
    if (!is_all_hex(version) || version == "ff") return false;
    if (version == "00" ? text.size() != kLength : text.size() > kLength && text[kLength] != '-') return false;
    const std::string_view trace = text.substr(kTraceAt, kTraceDigits), parent = text.substr(kParentAt, kParentDigits);
    return is_all_hex(trace) && !is_zero(trace) && is_all_hex(parent) && !is_zero(parent) &&
           is_all_hex(text.substr(kFlagsAt, 2));
}

}  // namespace

std::string_view trace_id(std::string_view traceparent) noexcept {
    return is_valid(traceparent) ? traceparent.substr(kTraceAt, kTraceDigits) : std::string_view();
}

std::string child_traceparent(std::string_view received, std::uint64_t span) {
    if (!is_valid(received)) return {};
    if (span == 0) span = 1;  // all zeros is no span
    std::string text("00-");
    text += received.substr(kTraceAt, kTraceDigits);
    text += '-';
    for (int shift = 60; shift >= 0; shift -= 4) text += kDigits[(span >> shift) & 0xf];
    text += '-';
    // What version 00 does not know of the flags is not passed on (section 3.2.2.5): only `sampled` is.
    const bool is_sampled = (kDigits.find(received[kFlagsAt + 1]) & 1) != 0;
    return text += is_sampled ? "01" : "00";
}

}  // namespace headgate
