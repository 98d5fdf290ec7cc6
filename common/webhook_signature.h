// Signing webhook bodies: Standard Webhooks (https://www.standardwebhooks.com) `v1` and `v1a`, and the older
// `sha256=` header. A secret is one key: its decoded bytes key `v1` and `sha256=`. A key pair makes `v1a`.
//
// What Standard Webhooks signs is id.timestamp.body. With a dot in its id a message could be read as another one, whose
// id is longer and whose body begins later: an id with a dot is neither signed nor verified.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "common/ed25519_key.h"
#include "common/hmac.h"
#include "common/jwks.h"

namespace headgate {

// "whsec_" + base64(32 random bytes).
[[nodiscard]] std::string make_webhook_secret();
// `whsec_<base64>` gives the decoded bytes; any other string of at least
// limits::kWebhookSecretBytesMin bytes gives its UTF-8 bytes. nullopt: too short, too long, or bad base64.
[[nodiscard]] std::optional<std::string> webhook_secret_bytes(std::string_view secret);
// The form in which a secret is shown: "whsec_" + base64(bytes).
[[nodiscard]] std::string webhook_secret_text(std::string_view key_bytes);
// The secret as a provider's own library has to be given it, which takes it as text: what is readable text (UTF-8
// without control characters), so that a caller chose it, as it is; what is random bytes in the form that is shown.
[[nodiscard]] std::string webhook_secret_as_text(std::string_view key_bytes);
// "whpk_" + base64(public key).
[[nodiscard]] std::string webhook_public_key_text(const Ed25519Key& key);
// The 32 bytes of it. nullopt: not in that form.
[[nodiscard]] std::optional<std::string> webhook_public_key_bytes(std::string_view text);
// The seed in "whsk_" + base64 of 32 bytes (the seed) or 64 (the seed and its public key). nullopt: neither.
[[nodiscard]] std::optional<std::string> webhook_private_key_seed(std::string_view text);
// Empty for an id with a dot, as is sign_standard_v1a().
// "v1,<base64 HMAC-SHA-256 of id.timestamp.body>".
[[nodiscard]] std::string sign_standard_v1(const HmacSha256Key& key, std::string_view id,
                                           std::int64_t timestamp_seconds, std::string_view body);
// "v1a,<base64 Ed25519 signature of id.timestamp.body>". Empty also if OpenSSL fails.
[[nodiscard]] std::string sign_standard_v1a(const Ed25519Key& key, std::string_view id, std::int64_t timestamp_seconds,
                                            std::string_view body);
// "sha256=<hex HMAC-SHA-256 of body>".
[[nodiscard]] std::string sign_sha256_hex(const HmacSha256Key& key, std::string_view body);
// Verifies a `webhook-signature` header (several values separated by spaces) against one key.
// The timestamp must be within tolerance of now.
[[nodiscard]] bool verify_standard(const HmacSha256Key& key, std::string_view id, std::string_view timestamp,
                                   std::string_view signature_header, std::string_view body, std::int64_t now_seconds,
                                   std::int64_t tolerance_seconds);
// The same for `v1a` by any of the keys; keys that are no Ed25519 verify nothing.
[[nodiscard]] bool verify_standard_v1a(const KeySet& keys, std::string_view id, std::string_view timestamp,
                                       std::string_view signature_header, std::string_view body,
                                       std::int64_t now_seconds, std::int64_t tolerance_seconds);
[[nodiscard]] bool verify_sha256_hex(const HmacSha256Key& key, std::string_view signature_header,
                                     std::string_view body);

}  // namespace headgate
