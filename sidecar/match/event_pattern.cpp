// The grammar of event patterns. Input: one entry of a webhook's `events`. Next file: subscriptions.cpp.
#include "sidecar/match/event_pattern.h"

#include <algorithm>

#include "common/limits.h"

namespace headgate {

namespace {

bool is_type_character(char c) noexcept {
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '.' ||
           c == ':' || c == '-';
}

}  // namespace

Result<EventPattern> parse_event_pattern(std::string_view text) {
    if (text == "*") {
        return EventPattern{EventPattern::Kind::kAll, {}};
    }
    auto kind = EventPattern::Kind::kExact;
    std::string_view name = text;
    if (text.ends_with(".*")) {
        kind = EventPattern::Kind::kPrefix;
        name.remove_suffix(1);
    }
    const std::size_t name_bytes = kind == EventPattern::Kind::kPrefix ? name.size() - 1 : name.size();
    if (name_bytes == 0 || name_bytes > limits::kEventTypeBytesMax) {
        return fail(ErrorCode::kUnprocessable, "an event pattern has 1 to " +
                                                   std::to_string(limits::kEventTypeBytesMax) +
                                                   " characters, and `*` alone stands for every event");
    }
    if (!std::all_of(name.begin(), name.end(), is_type_character)) {
        return fail(ErrorCode::kUnprocessable,
                    "an event pattern is an event type, `*`, or a name that ends in `.*`; allowed are letters, digits "
                    "and _ . : -");
    }
    if (kind == EventPattern::Kind::kPrefix && name == "webhook.") {
        return fail(ErrorCode::kUnprocessable, "operational events (webhook.…) must be named exactly");
    }
    return EventPattern{kind, std::string(name)};
}

Result<void> validate_event_patterns(const std::vector<std::string>& patterns) {
    if (patterns.empty() || patterns.size() > limits::kWebhookEventsMax) {
        return fail(ErrorCode::kUnprocessable,
                    "events: 1 to " + std::to_string(limits::kWebhookEventsMax) + " patterns are needed");
    }
    for (const std::string& text : patterns) {
        if (auto pattern = parse_event_pattern(text); !pattern) {
            return tl::unexpected<Error>(std::move(pattern.error()));
        }
    }
    return {};
}

bool event_pattern_matches(const EventPattern& pattern, std::string_view type, bool is_operational) noexcept {
    switch (pattern.kind) {
        case EventPattern::Kind::kExact:
            return pattern.text == type;
        case EventPattern::Kind::kPrefix:
            return !is_operational && type.size() > pattern.text.size() && type.starts_with(pattern.text);
        case EventPattern::Kind::kAll:
            break;
    }
    return !is_operational;
}

}  // namespace headgate
