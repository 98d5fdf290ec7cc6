// Input: nothing. Output: the texts of the scripts and their names. Next: limit and publish (at the edge), which fill
// in their keys and arguments.
#include "common/redis_scripts.h"

#include <openssl/evp.h>

#include <array>
#include <cstdlib>
#include <initializer_list>

#include "common/hmac.h"

namespace headgate {

namespace {

// ---- The parts.

// The limiting scripts share their arithmetic: kDecide leaves `granted`, `ret`, `count`, `reply`,
// `fields`, `now` and `latest` behind.
//
// A unit's cost. A unit of at least kExactUnitUs µs costs a whole number of µs, rounded up, and n of
// them cost n times that: so n requests one by one cost exactly what n at once do, the free count is exact, and
// the rate is at most 0.1 % below what is written. Faster units are rounded per charge, so that the
// rate stays true: n units cost ceil(n·period/quota) µs. Either way nothing is ever undercharged.
// All numbers are whole and below 2^53, where doubles are exact; %.0f prints them, since Lua's `..`
// keeps 14 digits only.
constexpr std::string_view kDecide = R"lua(
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
constexpr std::string_view kStore = R"lua(
if granted > 0 or ret > 0 then
  redis.call('HSET', KEYS[1], unpack(fields))
  local left = redis.call('PTTL', KEYS[1])
  local expires = ceil(latest / 1000)
  if left < 0 or floor(now / 1000) + left < expires then
    redis.call('PEXPIREAT', KEYS[1], format('%.0f', expires))
  end
end
)lua";

// Where the parts below find their keys and their arguments: `first` is the index of the next one in ARGV. Without a
// limit everything is granted, and the reply begins empty.
constexpr std::string_view kBehindLimit = R"lua(
local stream, idem, first, at = KEYS[2], KEYS[3], 6 + 4 * count, 2 + 2 * count
)lua";
constexpr std::string_view kWithoutLimit = R"lua(
local stream, idem, first, at, granted, reply = KEYS[2], KEYS[1], 1, 0, 1, {}
)lua";

// Before the charge is written: an XADD that fails ends the script, and nothing has been charged.
constexpr std::string_view kPublish = R"lua(
if granted > 0 then
  reply[at + 1] = redis.call('XADD', stream, '*', unpack(ARGV, first))
end
)lua";

// What the key remembers is the event's id (36 characters), a space, and the digest of the body. The XADD comes
// first: Redis refuses it when it is full, and never refuses a script that has begun to write.
constexpr std::string_view kPublishOnce = R"lua(
if granted > 0 then
  local lifetime, value = ARGV[first], ARGV[first + 1]
  local number = tonumber(lifetime)
  if not (number and number >= 1 and number <= 9007199254740992 and number % 1 == 0) then
    return redis.error_reply('ERR headgate idempotency: bad lifetime')
  end
  local seen = redis.call('GET', idem)
  if not seen then
    reply[at + 1], reply[at + 2] = 1, redis.call('XADD', stream, '*', unpack(ARGV, first + 2))
    redis.call('SET', idem, value, 'PX', lifetime)
  elseif string.sub(seen, 38) == string.sub(value, 38) then
    reply[at + 1], reply[at + 2] = 0, string.sub(seen, 1, 36)
  else
    reply[at + 1], reply[at + 2] = -1, ''
  end
end
)lua";

constexpr std::string_view kReply = R"lua(
return reply
)lua";

// ---- The scripts.

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

constexpr std::size_t bytes_of(std::initializer_list<std::string_view> parts) {
    std::size_t bytes = 0;
    for (const std::string_view part : parts) {
        bytes += part.size();
    }
    return bytes;
}

constexpr auto kLimitParts = {kDecide, kStore, kReply};
constexpr auto kLimitPublishParts = {kDecide, kBehindLimit, kPublish, kStore, kReply};
constexpr auto kPublishIdempotentParts = {kWithoutLimit, kPublishOnce, kReply};
constexpr auto kLimitPublishIdempotentParts = {kDecide, kBehindLimit, kPublishOnce, kStore, kReply};

constexpr ScriptText<bytes_of(kLimitParts)> kLimitScript(kLimitParts);
constexpr ScriptText<bytes_of(kLimitPublishParts)> kLimitPublishScript(kLimitPublishParts);
constexpr ScriptText<bytes_of(kPublishIdempotentParts)> kPublishIdempotentScript(kPublishIdempotentParts);
constexpr ScriptText<bytes_of(kLimitPublishIdempotentParts)> kLimitPublishIdempotentScript(
    kLimitPublishIdempotentParts);

constexpr std::array<std::string_view, 4> kScripts = {kLimitScript.view(), kLimitPublishScript.view(),
                                                      kPublishIdempotentScript.view(),
                                                      kLimitPublishIdempotentScript.view()};

// Redis names a script by its SHA-1; nothing is protected by it.
std::array<char, 40> sha1_hex(std::string_view text) noexcept {
    unsigned char digest[20];
    if (EVP_Digest(text.data(), text.size(), digest, nullptr, EVP_sha1(), nullptr) != 1) {
        std::abort();
    }
    std::array<char, 40> hex;
    hex_encode_into(digest, hex.data());
    return hex;
}

template <std::size_t Script>
std::string_view sha1_of() noexcept {
    static const auto hex = sha1_hex(kScripts[Script]);
    return {hex.data(), hex.size()};
}

}  // namespace

std::string_view limit_script() noexcept { return kScripts[0]; }
std::string_view limit_publish_script() noexcept { return kScripts[1]; }
std::string_view publish_idempotent_script() noexcept { return kScripts[2]; }
std::string_view limit_publish_idempotent_script() noexcept { return kScripts[3]; }

std::string_view limit_script_sha1() noexcept { return sha1_of<0>(); }
std::string_view limit_publish_script_sha1() noexcept { return sha1_of<1>(); }
std::string_view publish_idempotent_script_sha1() noexcept { return sha1_of<2>(); }
std::string_view limit_publish_idempotent_script_sha1() noexcept { return sha1_of<3>(); }

std::span<const std::string_view> redis_scripts() noexcept { return kScripts; }

}  // namespace headgate
