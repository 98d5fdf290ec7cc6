// The contract between the edge and the sidecar in Redis: key names, the fields of a stream
// entry in their fixed order, and which shard an event belongs to.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/hmac.h"
#include "common/result.h"

namespace headgate {

inline constexpr std::string_view kDefaultKeyPrefix = "headgate:";
// What a limit's and a usage counter's keys begin with; behind it whose they are (percent_encode.h), and '}'.
inline constexpr std::string_view kLimitKeyHead = "headgate:limit:{";
inline constexpr std::string_view kUsageKeyHead = "headgate:usage:{";
inline constexpr std::string_view kConsumerGroup = "headgate";
inline constexpr std::string_view kConsumerName = "owner";

// Always all of these, in this order: Redis then stores the names of a stream's macro node once.
enum class EventField : std::uint8_t { kV, kId, kOrg, kKey, kType, kSource, kPayload, kOrd, kTp, kVia, kAt };
inline constexpr std::array<std::string_view, 11> kEventFieldNames = {"v",       "id",  "org", "key", "type", "source",
                                                                      "payload", "ord", "tp",  "via", "at"};

// An entry, borrowed from the reply it came in.
struct EventRecord {
    std::string_view id, org, key_id, type, source, payload, ordering_key, traceparent, via;
    std::int64_t at_ms = 0;
};

// Decodes a stream entry's field/value list (even count, any order accepted). kCorrupt names what
// is wrong: an unknown version, a missing or doubled field, an id that is no UUID, text that is out of bounds, not
// UTF-8 or holds control characters, a payload that is not one JSON value as the edge would take it, `at` not a number.
[[nodiscard]] Result<EventRecord> decode_event(
    const std::vector<std::pair<std::string_view, std::string_view>>& fields);

// Key names. `prefix` is `headgate:` unless configured.
// The hash tag of shard n, 0 <= n < kShardsMax: one fixed table (computed at compile time from the
// CRC-16 of decimal tags) whose slots spread evenly over 16384: tag n's slot lies in the n-th of
// the first 2^ceil(log2(n+1)) equal parts, bit-reversed, so that every prefix of the table is even.
[[nodiscard]] std::string_view shard_tag(int shard) noexcept;
[[nodiscard]] std::uint16_t redis_slot(std::string_view key) noexcept;  // CRC16 (XMODEM) mod 16384, hash tags honoured
[[nodiscard]] std::string stream_key(std::string_view prefix, int shard);                   // headgate:{<tag>}:events
[[nodiscard]] std::string api_key_key(std::string_view prefix, std::string_view hash_hex);  // headgate:key:<hex>
// headgate:{<tag>}:idem:<org>:<64 hex>, in the slot of the shard's stream whatever bytes org has: the digest, of
// ordering key NUL Idempotency-Key, has a fixed length at the end, so no two organizations share a key.
[[nodiscard]] std::string idempotency_key(std::string_view prefix, int shard, std::string_view org,
                                          std::string_view ordering_key, std::string_view key);
// What lies under it: the event's id, a space, and the SHA-256 of the raw body in hex.
[[nodiscard]] std::string idempotency_value(std::string_view event_id, const Sha256Digest& body);
[[nodiscard]] std::string meta_key(std::string_view prefix);
[[nodiscard]] std::string revoked_key(std::string_view prefix);
[[nodiscard]] std::string control_key(std::string_view prefix);

// CRC-32C of org NUL key, modulo shards; key = the ordering key, else the Idempotency-Key, else the event id.
[[nodiscard]] int shard_of(std::string_view org, std::string_view key, int shards) noexcept;

// The rules for what a client may publish; the scanner and the command line share them.
[[nodiscard]] bool event_type_is_valid(std::string_view type) noexcept;     // [A-Za-z0-9_.:-]{1,128}, not webhook.*
[[nodiscard]] bool has_control_characters(std::string_view text) noexcept;  // below 0x20, and 0x7f

}  // namespace headgate
