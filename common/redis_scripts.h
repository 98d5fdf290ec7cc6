// The Lua scripts that the edge runs in Redis, made from named parts. Each is one atomic call; whoever runs one
// sends its SHA-1 (EVALSHA) and, on NOSCRIPT, loads it and sends it again: then nothing has run.
//
// The arguments of a part follow those of the part before. What a script does not write it has not done: an
// error reply, of an XADD too, leaves everything as it was.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace headgate {

// ---- Limits (see gcra.h).

// KEYS[1] = the limit key (a hash: one theoretical arrival time per window).
// ARGV: need, ahead, ret, ret_age_us, window count n, then for each window: field, period_us, quota, burst.
// With need = 0 the call only returns units: nothing is refused. A return counts even where the take is refused.
// Numbers that are not whole, or are negative, are an error reply, and nothing changes.
// Reply: an array of integers: granted (0 = refused, nothing charged), retry_us (until `need` fits; 0 when
// granted; -1 = never, need is above burst), then for each window: free units, µs until it is full.
[[nodiscard]] std::string_view limit_script() noexcept;
// The same, and an XADD in the same call when granted. KEYS[2] = the stream. After the windows, ARGV
// holds the XADD's field/value list. The reply has one more element: the stream entry's id (a bulk string), when
// granted.
[[nodiscard]] std::string_view limit_publish_script() noexcept;

// ---- Events with an Idempotency-Key.

// What was published under the key before decides. KEYS[1] = idempotency_key(), KEYS[2] = the stream, in one slot.
// ARGV: how long the key is remembered (ms, at least 1), idempotency_value() of this event, then the XADD's
// field/value list.
// Reply: an array of two, an IdempotencyOutcome and a text: of kStored the stream entry's id; of kReplayed
// the id of the event that was stored then; of kConflict nothing.
[[nodiscard]] std::string_view publish_idempotent_script() noexcept;
// A limit's charge first: refused, nothing is stored and nothing looked up. A replay and a conflict are charged as
// any other request. KEYS: the limit key, the stream, the idempotency key. ARGV: those of limit_script(), then those
// of publish_idempotent_script(). The reply of limit_script(), and its two elements behind that when granted.
[[nodiscard]] std::string_view limit_publish_idempotent_script() noexcept;

enum class IdempotencyOutcome : std::int8_t {
    kConflict = -1,  // the key has been used with another body
    kReplayed = 0,   // the same body again: nothing was stored now
    kStored = 1,
};

// ----

// Lowercase SHA-1 of the scripts, for EVALSHA; computed once.
[[nodiscard]] std::string_view limit_script_sha1() noexcept;
[[nodiscard]] std::string_view limit_publish_script_sha1() noexcept;
[[nodiscard]] std::string_view publish_idempotent_script_sha1() noexcept;
[[nodiscard]] std::string_view limit_publish_idempotent_script_sha1() noexcept;

// All of them, as a new connection loads them.
[[nodiscard]] std::span<const std::string_view> redis_scripts() noexcept;

}  // namespace headgate
