// Input: rate plans as people write them. Output: windows for gcra.cpp. Used by the edge's
// directives and by the sidecar's plans, keys and command line.
#include "common/rate_plan.h"

#include <charconv>

#include "common/limits.h"

namespace headgate {

namespace {

struct Unit {
    char letter;
    std::int64_t period_us;
    std::string_view policy_name;
};
constexpr Unit kUnits[] = {
    {'s', 1'000'000, "second"},
    {'m', 60'000'000, "minute"},
    {'h', 3'600'000'000, "hour"},
    {'d', 86'400'000'000, "day"},
};

// A window that takes longer than this to fill again is a mistake; and the bound keeps every
// theoretical arrival time far below 2^53, up to which Lua counts exactly.
constexpr std::int64_t kFillUsMax = 3'653LL * 86'400'000'000;  // 10 years
constexpr std::size_t kQuotedBytesMax = 64;

tl::unexpected<Error> refuse(std::string_view text, std::string_view reason) {
    std::string message = "rate \"";
    message.append(text.substr(0, kQuotedBytesMax));
    message.append(text.size() > kQuotedBytesMax ? "…\": " : "\": ").append(reason);
    return fail(ErrorCode::kInvalidArgument, std::move(message));
}

// A whole number from 1 to kRateQuotaMax, in plain digits; 0 when it is anything else.
std::int64_t parse_count(std::string_view digits) noexcept {
    std::int64_t value = 0;
    const char* const end = digits.data() + digits.size();
    if (digits.empty() || digits[0] < '0' || digits[0] > '9') {
        return 0;
    }
    const auto [at, error] = std::from_chars(digits.data(), end, value);
    return error == std::errc() && at == end && value <= limits::kRateQuotaMax ? value : 0;
}

const Unit* find_unit(std::int64_t period_us) noexcept {
    for (const Unit& unit : kUnits) {
        if (unit.period_us == period_us) {
            return &unit;
        }
    }
    return nullptr;
}

}  // namespace

Result<RateWindow> parse_rate_window(std::string_view text) {
    const std::size_t rate_end = text.find("r/");
    if (rate_end == std::string_view::npos || rate_end == 0) {
        return refuse(text, "expected a number, \"r/\" and a unit, as in 60r/m or 1000r/h:50");
    }
    RateWindow window;
    window.quota = parse_count(text.substr(0, rate_end));
    if (window.quota == 0) {
        return refuse(text, "the number of requests must be a whole number from 1 to 1000000000");
    }
    const std::string_view after = text.substr(rate_end + 2);
    for (const Unit& unit : kUnits) {
        if (!after.empty() && after[0] == unit.letter) {
            window.period_us = unit.period_us;
        }
    }
    if (window.period_us == 0 || (after.size() > 1 && after[1] != ':')) {
        return refuse(text, "the unit must be s, m, h or d");
    }
    window.burst = after.size() == 1 ? window.quota : parse_count(after.substr(2));
    if (window.burst == 0) {
        return refuse(text, "the burst must be a whole number from 1 to 1000000000");
    }
    const std::int64_t unit_us = (window.period_us + window.quota - 1) / window.quota;
    if (window.burst > kFillUsMax / unit_us) {
        return refuse(text, "so large a burst would take more than 10 years to be free again");
    }
    return window;
}

Result<std::vector<RateWindow>> parse_rate_plan(std::string_view text) {
    constexpr std::string_view kSeparators = "+ \t\r\n";
    std::vector<RateWindow> windows;
    bool wants_window = true;  // at the start and after each `+`
    std::size_t at = 0;
    while (at < text.size()) {
        if (text[at] == '+' && wants_window) {
            return refuse(text, "a rate is missing beside \"+\"");
        }
        if (kSeparators.find(text[at]) != std::string_view::npos) {
            wants_window = wants_window || text[at] == '+';
            ++at;
            continue;
        }
        std::size_t end = text.find_first_of(kSeparators, at);
        end = end == std::string_view::npos ? text.size() : end;
        if (windows.size() == limits::kWindowsPerPlanMax) {
            return refuse(text, "at most 4 rates");
        }
        auto window = parse_rate_window(text.substr(at, end - at));
        if (!window) {
            return tl::unexpected<Error>(std::move(window.error()));
        }
        for (const RateWindow& other : windows) {
            if (other.period_us == window->period_us) {
                return refuse(text, "two rates of one unit");
            }
        }
        windows.push_back(*window);
        wants_window = false;
        at = end;
    }
    if (wants_window) {
        return refuse(text, windows.empty() ? "no rate" : "a rate is missing beside \"+\"");
    }
    return windows;
}

std::string format_rate_plan(const std::vector<RateWindow>& windows) {
    std::string text;
    for (const RateWindow& window : windows) {
        if (!text.empty()) {
            text += '+';
        }
        text.append(std::to_string(window.quota)).append("r/");
        text += window_unit(window);
        if (window.burst != window.quota) {
            text.append(":").append(std::to_string(window.burst));
        }
    }
    return text;
}

std::string_view window_policy_name(const RateWindow& window) noexcept {
    const Unit* unit = find_unit(window.period_us);
    return unit == nullptr ? std::string_view() : unit->policy_name;
}

char window_unit(const RateWindow& window) noexcept {
    const Unit* unit = find_unit(window.period_us);
    return unit == nullptr ? '?' : unit->letter;
}

}  // namespace headgate
