// The generic cell rate algorithm over several windows at once: the arithmetic of the scripts that Redis runs
// (redis_scripts.h) in C++ for local use, and the response headers.
//
// A window of quota q per period p with capacity b admits at most b + q/p·t in any span of t.
// All windows are charged together or none is. Times are integers in µs; replies carry
// durations, never times, so that no two clocks are ever compared.
//
// n units cost ceil(n·period/quota) µs; where a unit costs 1 ms or more (rates up to 1000/s), n times
// ceil(period/quota), so that single requests and one of n units cost the same, and r counts down from
// the burst one by one. Free is the largest n, up to burst, whose cost fits between the arrival time and now +
// cost(burst).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "common/rate_plan.h"
#include "common/redis_scripts.h"

namespace headgate {

struct WindowState {
    std::int64_t free = 0;     // whole units that can be spent now
    std::int64_t full_us = 0;  // until the window is full again
};

struct LimitDecision {
    std::int64_t granted = 0;   // 0 = refused
    std::int64_t retry_us = 0;  // -1 = never
};

// The same arithmetic, in C++, on theoretical arrival times held by the caller (one per window;
// updated in place when something is granted or returned). now_us comes from a monotonic clock; no number is
// negative. tats.size() == states.size() == windows.size(), at least one.
LimitDecision gcra_charge(std::span<const RateWindow> windows, std::span<std::int64_t> tats, std::int64_t now_us,
                          std::int64_t need, std::int64_t ahead, std::int64_t ret, std::int64_t ret_age_us,
                          std::span<WindowState> states) noexcept;

// What n units cost in a window, in µs; n is at most its burst.
[[nodiscard]] std::int64_t gcra_cost_us(const RateWindow& window, std::int64_t n) noexcept;

// Values of the headers. The policy never changes, and is appended to `out`; what is left goes with every response: it
// is written to `out`, at most kRatelimitWindowBytesMax for each window, and the new end returned.
void append_ratelimit_policy(std::string& out, std::span<const RateWindow> windows);  // "minute";q=60;w=60, …
inline constexpr std::size_t kRatelimitWindowBytesMax = 16 + 2 * 20;                  // 20: of a number
char* write_ratelimit(char* out, std::span<const RateWindow> windows,
                      std::span<const WindowState> states) noexcept;  // "minute";r=59;t=1, …
// The window with the smallest share left: the one that X-RateLimit-* describe.
[[nodiscard]] std::size_t tightest_window(std::span<const RateWindow> windows,
                                          std::span<const WindowState> states) noexcept;
[[nodiscard]] constexpr std::int64_t ceil_seconds(std::int64_t us) noexcept { return (us + 999'999) / 1'000'000; }

}  // namespace headgate
