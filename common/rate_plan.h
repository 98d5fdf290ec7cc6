// Rate plans as they are written: `60r/m`, `1000r/h:50`; joined by `+` or white space.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/result.h"

namespace headgate {

struct RateWindow {
    std::int64_t quota = 0;      // requests
    std::int64_t period_us = 0;  // 1 s, 1 m, 1 h or 1 d
    std::int64_t burst = 0;      // capacity; the quota unless written
    [[nodiscard]] bool operator==(const RateWindow&) const = default;
};

// "60r/m" or "60r/m:1".
[[nodiscard]] Result<RateWindow> parse_rate_window(std::string_view text);
// Several, separated by `+` or spaces. Two of one unit are an error.
[[nodiscard]] Result<std::vector<RateWindow>> parse_rate_plan(std::string_view text);
[[nodiscard]] std::string format_rate_plan(const std::vector<RateWindow>& windows);    // as it may be parsed again
[[nodiscard]] std::string_view window_policy_name(const RateWindow& window) noexcept;  // second, minute, hour, day
[[nodiscard]] char window_unit(const RateWindow& window) noexcept;                     // s, m, h, d

}  // namespace headgate
