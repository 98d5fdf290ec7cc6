// What a webhook's `events` may hold: an exact event type, `*`, or a name that ends in `.*`, which
// stands for one or more further segments. Pure. Used at write time (validation) and by
// subscriptions.cpp (the index).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/result.h"

namespace headgate {

struct EventPattern {
    enum class Kind : std::uint8_t { kExact, kPrefix, kAll };
    Kind kind = Kind::kExact;
    std::string text;  // kExact: the type; kPrefix: up to and including the last dot; kAll: empty
};

// kUnprocessable says what is wrong. `webhook.*` is refused: operational events reach only those
// who name them exactly, so that pattern could never match.
[[nodiscard]] Result<EventPattern> parse_event_pattern(std::string_view text);

// Write-time check of the whole list: 1 to kWebhookEventsMax patterns, each of them valid.
[[nodiscard]] Result<void> validate_event_patterns(const std::vector<std::string>& patterns);

// Operational events (`via` = system) match only exact names.
[[nodiscard]] bool event_pattern_matches(const EventPattern& pattern, std::string_view type,
                                         bool is_operational) noexcept;

}  // namespace headgate
