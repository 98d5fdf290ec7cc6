// Input: windows, and how much is asked for. Output: the decision, and the headers that tell the client. The
// scripts that decide the same in Redis are in redis_scripts.cpp. Next: limit (at the edge).
#include "common/gcra.h"

#include <algorithm>
#include <charconv>
#include <cmath>

namespace headgate {

namespace {

constexpr std::int64_t kExactUnitUs = 1'000;

// The arithmetic of the scripts' kDecide, line for line and in the same doubles where it divides, so that both always
// decide alike.
struct Window {
    std::int64_t quota, period_us, burst, unit_us;
    explicit Window(const RateWindow& window) noexcept
        : quota(window.quota),
          period_us(window.period_us),
          burst(window.burst),
          unit_us((window.period_us + window.quota - 1) / window.quota) {}

    [[nodiscard]] std::int64_t cost(std::int64_t n) const noexcept {
        if (unit_us >= kExactUnitUs) {
            return n * unit_us;
        }
        const std::int64_t rest = period_us % quota;
        const double rest_us =
            std::ceil(static_cast<double>(n) * static_cast<double>(rest) / static_cast<double>(quota));
        return n * (period_us / quota) + static_cast<std::int64_t>(rest_us);
    }
    // How many units fit into so many µs.
    [[nodiscard]] std::int64_t units_in(std::int64_t room_us) const noexcept {
        if (unit_us >= kExactUnitUs) {
            return room_us / unit_us;
        }
        const double rate = static_cast<double>(quota) / static_cast<double>(period_us);
        auto n = std::min(burst, static_cast<std::int64_t>(std::floor(static_cast<double>(room_us) * rate)) + 1);
        while (n > 0 && cost(n) > room_us) {
            --n;
        }
        return n;
    }
};

void append_number(std::string& out, std::int64_t number) { out += std::to_string(number); }

void append_policy_name(std::string& out, const RateWindow& window) {
    out.append(out.empty() ? "\"" : ", \"").append(window_policy_name(window)).append("\"");
}

}  // namespace

LimitDecision gcra_charge(std::span<const RateWindow> windows, std::span<std::int64_t> tats, std::int64_t now_us,
                          std::int64_t need, std::int64_t ahead, std::int64_t ret, std::int64_t ret_age_us,
                          std::span<WindowState> states) noexcept {
    LimitDecision decision;
    std::int64_t least = INT64_MAX;
    const auto room_us = [now_us](const Window& window, std::int64_t tat) {
        return now_us + window.cost(window.burst) - tat;
    };
    // The arrival times after the clamp and the return; written back only when something changes.
    const auto discounted = [&](std::size_t i, const Window& window) {
        const std::int64_t tat = std::clamp(tats[i], now_us, now_us + window.cost(window.burst));
        const std::int64_t back_us = window.cost(std::min(ret, window.burst)) - ret_age_us;
        return std::max(now_us, tat - std::max<std::int64_t>(0, back_us));
    };
    for (std::size_t i = 0; i < windows.size(); ++i) {
        const Window window(windows[i]);
        const std::int64_t tat = discounted(i, window);
        states[i] = {window.units_in(room_us(window, tat)), tat - now_us};
        least = std::min(least, states[i].free);
        if (need > window.burst) {
            decision.retry_us = -1;
        } else if (decision.retry_us >= 0 && need > states[i].free) {
            decision.retry_us = std::max(decision.retry_us, window.cost(need) - room_us(window, tat));
        }
    }
    if (least >= need) {
        decision.granted = need + std::min(ahead, least - need);
    }
    if (decision.granted > 0 || ret > 0) {
        for (std::size_t i = 0; i < windows.size(); ++i) {
            const Window window(windows[i]);
            tats[i] = discounted(i, window) + window.cost(decision.granted);
            states[i] = {window.units_in(room_us(window, tats[i])), tats[i] - now_us};
        }
    }
    return decision;
}

std::int64_t gcra_cost_us(const RateWindow& window, std::int64_t n) noexcept { return Window(window).cost(n); }

void append_ratelimit_policy(std::string& out, std::span<const RateWindow> windows) {
    std::string text;
    for (const RateWindow& window : windows) {
        append_policy_name(text, window);
        text += ";q=";
        append_number(text, window.quota);
        text += ";w=";
        append_number(text, window.period_us / 1'000'000);
    }
    out += text;
}

char* write_ratelimit(char* out, std::span<const RateWindow> windows, std::span<const WindowState> states) noexcept {
    const auto write = [&out](std::string_view text) { out = std::copy(text.begin(), text.end(), out); };
    const auto write_number = [&out](std::int64_t number) { out = std::to_chars(out, out + 20, number).ptr; };
    for (std::size_t i = 0; i < windows.size(); ++i) {
        write(i == 0 ? "\"" : ", \"");
        write(window_policy_name(windows[i]));
        write("\";r=");
        write_number(states[i].free);
        write(";t=");
        write_number(ceil_seconds(states[i].full_us));
    }
    return out;
}

std::size_t tightest_window(std::span<const RateWindow> windows, std::span<const WindowState> states) noexcept {
    std::size_t tightest = 0;
    for (std::size_t i = 1; i < windows.size(); ++i) {
        // free/burst compared by cross-multiplication: both are at most 1e9.
        if (states[i].free * windows[tightest].burst < states[tightest].free * windows[i].burst) {
            tightest = i;
        }
    }
    return tightest;
}

}  // namespace headgate
