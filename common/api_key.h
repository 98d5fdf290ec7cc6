// API keys: `hg_<8 char id>_<43 char base64url secret><6 char base62 CRC-32>`.
//
// The secret is 256 random bits, so a plain keyed hash is enough to store it: the lookup key is
// HMAC-SHA-256 (pepper, the whole string). The checksum lets a scanner recognise a leaked key and
// lets the edge refuse a mistyped one without asking Redis.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>

#include "common/hmac.h"

namespace headgate {

inline constexpr std::size_t kApiKeyBytes = 3 + 8 + 1 + 43 + 6;
inline constexpr std::size_t kApiKeyPrefixBytes = 3 + 8;  // "hg_" and the 8 characters: may be shown

struct NewApiKey {
    std::string text;    // the whole key; shown once, never stored
    std::string prefix;  // hg_<8 char id>
};

// Pure: the 8 characters are base62 of the first bytes of `random`, the secret the last 32.
[[nodiscard]] NewApiKey make_api_key(const std::array<unsigned char, 40>& random);
// With randomness from OpenSSL.
[[nodiscard]] NewApiKey make_api_key();
// Length, alphabet and checksum are right. Says nothing about whether the key exists.
[[nodiscard]] bool api_key_is_well_formed(std::string_view text) noexcept;
[[nodiscard]] std::string api_key_hash(const HmacSha256Key& pepper, std::string_view text);  // 64 hex
// What `headgate:meta` says of the pepper, so that two sides with different peppers notice:
// the first 16 hex digits of HMAC-SHA-256 (pepper, "headgate pepper fingerprint").
[[nodiscard]] std::string pepper_fingerprint(const HmacSha256Key& pepper);
// The secret in the text of a secret file: trailing white space removed (`pepper`, `token.key`).
[[nodiscard]] std::string_view secret_file_value(std::string_view file_text) noexcept;

}  // namespace headgate
