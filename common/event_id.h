// Event ids: UUIDv7 (RFC 9562, section 5.7), text form, lowercase.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace headgate {

inline constexpr int kEventIdBytes = 36;

// Pure: 48 bits of epoch_ms, then version, 74 bits taken from `random` (10 bytes), variant.
void uuid7_format(std::int64_t epoch_ms, const std::array<unsigned char, 10>& random,
                  char (&out)[kEventIdBytes]) noexcept;
// With randomness from OpenSSL's RAND_bytes. Throws std::runtime_error if there is none.
[[nodiscard]] std::string uuid7(std::int64_t epoch_ms);
// The time that uuid7_format() was given. `id` is uuid_is_valid().
[[nodiscard]] std::int64_t uuid7_epoch_ms(std::string_view id) noexcept;
[[nodiscard]] bool uuid_is_valid(std::string_view text) noexcept;  // 8-4-4-4-12 lowercase hex

}  // namespace headgate
