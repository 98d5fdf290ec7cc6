// Signing webhook bodies: Standard Webhooks (https://www.standardwebhooks.com) `v1`, and the older
// `sha256=` header. A secret is one key: its decoded bytes key both.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "common/hmac.h"

namespace headgate {

// "whsec_" + base64(32 random bytes).
[[nodiscard]] std::string make_webhook_secret();
// `whsec_<base64>` gives the decoded bytes; any other string of at least
// limits::kWebhookSecretBytesMin bytes gives its UTF-8 bytes. nullopt: too short, too long, or bad base64.
[[nodiscard]] std::optional<std::string> webhook_secret_bytes(std::string_view secret);
// The form in which a secret is shown: "whsec_" + base64(bytes).
[[nodiscard]] std::string webhook_secret_text(std::string_view key_bytes);
// "v1,<base64 HMAC-SHA-256 of id.timestamp.body>".
[[nodiscard]] std::string sign_standard_v1(const HmacSha256Key& key, std::string_view id,
                                           std::int64_t timestamp_seconds, std::string_view body);
// "sha256=<hex HMAC-SHA-256 of body>".
[[nodiscard]] std::string sign_sha256_hex(const HmacSha256Key& key, std::string_view body);
// Verifies a `webhook-signature` header (several values separated by spaces) against one key.
// The timestamp must be within tolerance of now.
[[nodiscard]] bool verify_standard(const HmacSha256Key& key, std::string_view id, std::string_view timestamp,
                                   std::string_view signature_header, std::string_view body, std::int64_t now_seconds,
                                   std::int64_t tolerance_seconds);
[[nodiscard]] bool verify_sha256_hex(const HmacSha256Key& key, std::string_view signature_header,
                                     std::string_view body);

}  // namespace headgate
