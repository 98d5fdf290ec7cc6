// A page of events: where it begins and what is on it, for every engine. Pure.
#pragma once

#include <limits>
#include <string>
#include <string_view>

#include "sidecar/base/text.h"
#include "sidecar/store/store.h"

namespace headgate {

// The place of an event among those of its organization: newest first, by time and number.
struct EventPlace {
    TimeMs created_at = 0;
    std::int64_t seq = 0;
};

inline constexpr int kEventsSeenMax = 10'000;  // of one page

[[nodiscard]] inline std::string event_place_text(EventPlace place) {
    return std::to_string(place.created_at) + "-" + std::to_string(place.seq);
}

// The place before which a page begins. kInvalidArgument: a cursor that no page gave.
[[nodiscard]] inline Result<EventPlace> event_page_start(const EventQuery& query) {
    constexpr TimeMs kMax = std::numeric_limits<TimeMs>::max();
    if (query.after.empty()) return EventPlace{query.until.value_or(kMax), 0};
    const auto dash = query.after.find('-');
    const auto at = parse_integer(std::string_view(query.after).substr(0, dash), 0, kMax);
    const auto seq = dash == std::string::npos ? std::nullopt
                                               : parse_integer(std::string_view(query.after).substr(dash + 1), 0, kMax);
    if (!at || !seq) return fail(ErrorCode::kInvalidArgument, "cursor is not one that a page of events has given");
    if (query.until && *query.until <= *at) return EventPlace{*query.until, 0};
    return EventPlace{*at, *seq};
}

[[nodiscard]] inline bool is_on_event_page(const EventQuery& query, std::string_view type, std::string_view source) {
    if (!query.source.empty() && query.source != source) return false;
    if (query.type.empty() || query.type == "*") return true;
    const std::string_view wanted = query.type;
    if (!wanted.ends_with(".*")) return wanted == type;
    const std::string_view prefix = wanted.substr(0, wanted.size() - 1);
    return type.size() > prefix.size() && type.starts_with(prefix);
}

}  // namespace headgate
