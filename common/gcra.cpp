// Input: windows, and how much is asked for. Output: the scripts that decide in Redis, the same
// decision in C++, and the headers that tell the client. Next: limit (at the edge).
#include "common/gcra.h"

#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>

namespace headgate {

namespace {

// The scripts share their arithmetic: kScriptDecide leaves `granted`, `ret`, `count`, `reply`,
// `fields`, `now` and `latest` behind.
//
// A unit's cost. A unit of at least kExactUnitUs µs costs a whole number of µs, rounded up, and n of
// them cost n times that: so n requests one by one cost exactly what n at once do, the free count is exact, and
// the rate is at most 0.1 % below what is written. Faster units are rounded per charge, so that the
// rate stays true: n units cost ceil(n·period/quota) µs. Either way nothing is ever undercharged.
// All numbers are whole and below 2^53, where doubles are exact; %.0f prints them, since Lua's `..`
// keeps 14 digits only.
constexpr std::string_view kScriptDecide = R"lua(
local ceil, floor, max, min, format = math.ceil, math.floor, math.max, math.min, string.format
local function whole(text)
  local number = tonumber(text)
  if number and number >= 0 and number <= 9007199254740992 and number % 1 == 0 then
    return number
  end
end
local need, ahead, ret, ret_age = whole(ARGV[1]), whole(ARGV[2]), whole(ARGV[3]), whole(ARGV[4])
local count = whole(ARGV[5])
if not (need and ahead and ret and ret_age and count and count >= 1 and count <= 16 and ARGV[5 + 4 * count]) then
  return redis.error_reply('ERR headgate limit: bad arguments')
end

local names, periods, quotas, bursts, units = {}, {}, {}, {}, {}
for i = 1, count do
  local at = 2 + 4 * i
  local period, quota, burst = whole(ARGV[at + 1]), whole(ARGV[at + 2]), whole(ARGV[at + 3])
  if not (period and quota and burst and period >= 1 and quota >= 1 and burst >= 1) then
    return redis.error_reply('ERR headgate limit: bad window')
  end
  names[i], periods[i], quotas[i], bursts[i] = ARGV[at], period, quota, burst
  units[i] = ceil(period / quota)
end

local function cost(i, n)
  if units[i] >= 1000 then
    return n * units[i]
  end
  local quota, rest = quotas[i], periods[i] % quotas[i]
  return n * ((periods[i] - rest) / quota) + ceil(n * rest / quota)
end

local function units_in(i, room)
  if units[i] >= 1000 then
    return floor(room / units[i])
  end
  local n = min(bursts[i], floor(room * (quotas[i] / periods[i])) + 1)
  while n > 0 and cost(i, n) > room do
    n = n - 1
  end
  return n
end

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local stored = redis.call('HMGET', KEYS[1], unpack(names))
local reply, fields, tats, rooms = { 0, 0 }, {}, {}, {}
local least, retry = math.huge, 0

for i = 1, count do
  local last = now + cost(i, bursts[i])
  local tat = min(max(tonumber(stored[i]) or now, now), last)
  if ret > 0 then
    tat = max(now, tat - max(0, cost(i, min(ret, bursts[i])) - ret_age))
  end
  local room = last - tat
  local free = units_in(i, room)
  tats[i], rooms[i] = tat, room
  reply[1 + 2 * i], reply[2 + 2 * i] = free, tat - now
  least = min(least, free)
  if need > bursts[i] then
    retry = -1
  elseif retry >= 0 and need > free then
    retry = max(retry, cost(i, need) - room)
  end
end

local granted, latest = 0, now
if least >= need then
  granted = need + min(ahead, least - need)
end
reply[1], reply[2] = granted, retry
if granted > 0 or ret > 0 then
  for i = 1, count do
    local charge = cost(i, granted)
    local tat = tats[i] + charge
    reply[1 + 2 * i], reply[2 + 2 * i] = units_in(i, rooms[i] - charge), tat - now
    fields[2 * i - 1], fields[2 * i] = names[i], format('%.0f', tat)
    latest = max(latest, tat)
  end
end
)lua";

// Writes the charge. The key may hold windows of other limits: its expiry is never brought forward.
// (PEXPIREAT's own GT is newer than Redis 6.2.)
constexpr std::string_view kScriptStore = R"lua(
if granted > 0 or ret > 0 then
  redis.call('HSET', KEYS[1], unpack(fields))
  local left = redis.call('PTTL', KEYS[1])
  local expires = ceil(latest / 1000)
  if left < 0 or floor(now / 1000) + left < expires then
    redis.call('PEXPIREAT', KEYS[1], format('%.0f', expires))
  end
end
return reply
)lua";

// Before the charge: an XADD that fails ends the script, and nothing has been charged.
constexpr std::string_view kScriptPublish = R"lua(
if granted > 0 then
  reply[3 + 2 * count] = redis.call('XADD', KEYS[2], '*', unpack(ARGV, 6 + 4 * count))
end
)lua";

template <std::size_t N>
struct ScriptText {
    std::array<char, N> bytes{};
    constexpr explicit ScriptText(std::initializer_list<std::string_view> parts) {
        std::size_t at = 0;
        for (const std::string_view part : parts) {
            for (const char c : part) {
                bytes[at++] = c;
            }
        }
    }
    [[nodiscard]] constexpr std::string_view view() const noexcept { return {bytes.data(), N}; }
};
constexpr ScriptText<kScriptDecide.size() + kScriptStore.size()> kLimitScript({kScriptDecide, kScriptStore});
constexpr ScriptText<kScriptDecide.size() + kScriptPublish.size() + kScriptStore.size()> kLimitPublishScript(
    {kScriptDecide, kScriptPublish, kScriptStore});

// Redis names a script by its SHA-1; nothing is protected by it.
std::array<char, 40> sha1_hex(std::string_view text) noexcept {
    unsigned char digest[20];
    if (EVP_Digest(text.data(), text.size(), digest, nullptr, EVP_sha1(), nullptr) != 1) {
        std::abort();
    }
    std::array<char, 40> hex;
    for (std::size_t i = 0; i < sizeof digest; ++i) {
        hex[2 * i] = "0123456789abcdef"[digest[i] >> 4];
        hex[2 * i + 1] = "0123456789abcdef"[digest[i] & 15u];
    }
    return hex;
}

constexpr std::int64_t kExactUnitUs = 1'000;

// The arithmetic of kScriptDecide, line for line and in the same doubles where it divides, so that both always decide
// alike.
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

std::string_view limit_script() noexcept { return kLimitScript.view(); }

std::string_view limit_publish_script() noexcept { return kLimitPublishScript.view(); }

std::string_view limit_script_sha1() noexcept {
    static const auto hex = sha1_hex(limit_script());
    return {hex.data(), hex.size()};
}

std::string_view limit_publish_script_sha1() noexcept {
    static const auto hex = sha1_hex(limit_publish_script());
    return {hex.data(), hex.size()};
}

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

void append_ratelimit(std::string& out, std::span<const RateWindow> windows, std::span<const WindowState> states) {
    std::string text;
    for (std::size_t i = 0; i < windows.size(); ++i) {
        append_policy_name(text, windows[i]);
        text += ";r=";
        append_number(text, states[i].free);
        text += ";t=";
        append_number(text, ceil_seconds(states[i].full_us));
    }
    out += text;
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
