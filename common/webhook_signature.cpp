// Input: a webhook's key and a body. Output: the signature headers, or whether they are right.
// Next: the dispatcher (signs), `headgate receive` and `headgate verify` (verify).
#include "common/webhook_signature.h"

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/rand.h>

#include <array>
#include <charconv>
#include <stdexcept>

#include "common/base64url.h"
#include "common/limits.h"

namespace headgate {

namespace {

constexpr std::string_view kSecretPrefix = "whsec_";
constexpr std::string_view kPublicKeyPrefix = "whpk_";
constexpr std::string_view kPrivateKeyPrefix = "whsk_";
constexpr std::string_view kVersionPrefix = "v1,";
constexpr std::string_view kAsymmetricPrefix = "v1a,";
constexpr std::string_view kHexPrefix = "sha256=";
constexpr int kSignaturesTriedMax = 16;  // each of them costs a verification

// Digits only, as a signer writes them: what was signed is the text, so it must have one form.
std::optional<std::int64_t> parse_timestamp(std::string_view text) noexcept {
    std::int64_t seconds = 0;
    const char* const end = text.data() + text.size();
    if (text.empty() || text[0] < '0' || text[0] > '9') {
        return std::nullopt;
    }
    const auto [at, error] = std::from_chars(text.data(), end, seconds);
    if (error != std::errc() || at != end) {
        return std::nullopt;
    }
    return seconds;
}

std::string standard_v1(const HmacSha256Key& key, std::string_view id, std::string_view timestamp,
                        std::string_view body) {
    // sign() takes four parts and five are needed: the id with its dot, the time with its dot.
    std::string head;
    head.reserve(id.size() + timestamp.size() + 2);
    head.append(id).append(".").append(timestamp).append(".");
    const Sha256Digest mac = key.sign(head, body);
    return std::string(kVersionPrefix).append(base64_encode({reinterpret_cast<const char*>(mac.data()), mac.size()}));
}

bool is_signable(std::string_view id) noexcept { return id.find('.') == std::string_view::npos; }

// now - tolerance <= sent <= now + tolerance, in differences that cannot overflow: both are >= 0.
bool is_timely(std::string_view id, std::string_view timestamp, std::int64_t now_seconds,
               std::int64_t tolerance_seconds) noexcept {
    const auto sent_seconds = parse_timestamp(timestamp);
    return sent_seconds && is_signable(id) && now_seconds >= 0 &&
           (*sent_seconds < now_seconds ? now_seconds - *sent_seconds : *sent_seconds - now_seconds) <=
               tolerance_seconds;
}

// Of a `webhook-signature` header, which is shortened by it.
std::string_view next_signature(std::string_view& header) noexcept {
    const std::size_t space = header.find(' ');
    const std::string_view next = header.substr(0, space);
    header.remove_prefix(space == std::string_view::npos ? header.size() : space + 1);
    return next;
}

// UTF-8 (RFC 3629) without control characters.
bool is_readable(std::string_view bytes) noexcept {
    for (std::size_t i = 0; i < bytes.size();) {
        const auto first = static_cast<unsigned char>(bytes[i]);
        const std::size_t length = first < 0x80                    ? 1
                                   : first >= 0xc2 && first < 0xe0 ? 2
                                   : first >= 0xe0 && first < 0xf0 ? 3
                                   : first >= 0xf0 && first < 0xf5 ? 4
                                                                   : 0;
        if (first < 0x20 || first == 0x7f || length == 0 || i + length > bytes.size()) {
            return false;
        }
        for (std::size_t k = 1; k < length; ++k) {
            const auto next = static_cast<unsigned char>(bytes[i + k]);
            const unsigned char low = k == 1 && first == 0xe0 ? 0xa0 : k == 1 && first == 0xf0 ? 0x90 : 0x80;
            const unsigned char high = k == 1 && first == 0xed ? 0x9f : k == 1 && first == 0xf4 ? 0x8f : 0xbf;
            if (next < low || next > high) {
                return false;
            }
        }
        i += length;
    }
    return true;
}

}  // namespace

std::string make_webhook_secret() {
    std::array<unsigned char, 32> random;
    if (RAND_priv_bytes(random.data(), static_cast<int>(random.size())) != 1) {
        ERR_clear_error();
        throw std::runtime_error("OpenSSL has no random bytes for a webhook secret");
    }
    std::string text = webhook_secret_text({reinterpret_cast<const char*>(random.data()), random.size()});
    OPENSSL_cleanse(random.data(), random.size());
    return text;
}

std::optional<std::string> webhook_secret_bytes(std::string_view secret) {
    std::optional<std::string> bytes;
    if (secret.starts_with(kSecretPrefix)) {
        bytes = base64_decode(secret.substr(kSecretPrefix.size()));
    } else {
        bytes = std::string(secret);
    }
    if (bytes && (bytes->size() < limits::kWebhookSecretBytesMin || bytes->size() > limits::kWebhookSecretBytesMax)) {
        return std::nullopt;
    }
    return bytes;
}

std::string webhook_secret_text(std::string_view key_bytes) {
    return std::string(kSecretPrefix).append(base64_encode(key_bytes));
}

std::string webhook_secret_as_text(std::string_view key_bytes) {
    return is_readable(key_bytes) ? std::string(key_bytes) : webhook_secret_text(key_bytes);
}

std::string webhook_public_key_text(const Ed25519Key& key) {
    return std::string(kPublicKeyPrefix).append(base64_encode(key.public_key()));
}

std::optional<std::string> webhook_public_key_bytes(std::string_view text) {
    if (!text.starts_with(kPublicKeyPrefix)) {
        return std::nullopt;
    }
    auto bytes = base64_decode(text.substr(kPublicKeyPrefix.size()));
    return bytes && bytes->size() == kEd25519PublicKeyBytes ? bytes : std::nullopt;
}

std::optional<std::string> webhook_private_key_seed(std::string_view text) {
    if (!text.starts_with(kPrivateKeyPrefix)) {
        return std::nullopt;
    }
    auto bytes = base64_decode(text.substr(kPrivateKeyPrefix.size()));
    if (!bytes || (bytes->size() != kEd25519SeedBytes && bytes->size() != kEd25519SeedBytes + kEd25519PublicKeyBytes)) {
        return std::nullopt;
    }
    const auto key = Ed25519Key::from_seed(std::string_view(*bytes).substr(0, kEd25519SeedBytes));
    if (!key || (bytes->size() > kEd25519SeedBytes && bytes->substr(kEd25519SeedBytes) != key->public_key())) {
        return std::nullopt;
    }
    bytes->resize(kEd25519SeedBytes);
    return bytes;
}

std::string sign_standard_v1(const HmacSha256Key& key, std::string_view id, std::int64_t timestamp_seconds,
                             std::string_view body) {
    if (!is_signable(id)) {
        return {};
    }
    return standard_v1(key, id, std::to_string(timestamp_seconds), body);
}

std::string sign_standard_v1a(const Ed25519Key& key, std::string_view id, std::int64_t timestamp_seconds,
                              std::string_view body) {
    if (!is_signable(id)) {
        return {};
    }
    std::string message;
    message.reserve(id.size() + body.size() + 24);
    message.append(id).append(".").append(std::to_string(timestamp_seconds)).append(".").append(body);
    const std::string signature = key.sign(message);
    return signature.empty() ? signature : std::string(kAsymmetricPrefix) + base64_encode(signature);
}

std::string sign_sha256_hex(const HmacSha256Key& key, std::string_view body) {
    return std::string(kHexPrefix).append(hex_encode(key.sign(body)));
}

bool verify_standard(const HmacSha256Key& key, std::string_view id, std::string_view timestamp,
                     std::string_view signature_header, std::string_view body, std::int64_t now_seconds,
                     std::int64_t tolerance_seconds) {
    if (!is_timely(id, timestamp, now_seconds, tolerance_seconds)) {
        return false;
    }
    const std::string expected = standard_v1(key, id, timestamp, body);
    bool matched = false;
    while (!signature_header.empty()) {
        matched = equal_constant_time(next_signature(signature_header), expected) || matched;
    }
    return matched;
}

bool verify_standard_v1a(const KeySet& keys, std::string_view id, std::string_view timestamp,
                         std::string_view signature_header, std::string_view body, std::int64_t now_seconds,
                         std::int64_t tolerance_seconds) {
    if (!is_timely(id, timestamp, now_seconds, tolerance_seconds)) {
        return false;
    }
    std::string message;
    message.append(id).append(".").append(timestamp).append(".").append(body);
    for (int tries = 0; !signature_header.empty() && tries < kSignaturesTriedMax; ++tries) {
        const std::string_view signature = next_signature(signature_header);
        if (!signature.starts_with(kAsymmetricPrefix)) {
            continue;
        }
        const auto bytes = base64_decode(signature.substr(kAsymmetricPrefix.size()));
        for (const VerificationKey& key : keys.keys) {
            if (bytes && key.material->verify(JwtAlgorithm::kEdDsa, message, *bytes)) {
                return true;
            }
        }
    }
    return false;
}

bool verify_sha256_hex(const HmacSha256Key& key, std::string_view signature_header, std::string_view body) {
    return equal_constant_time(signature_header, sign_sha256_hex(key, body));
}

}  // namespace headgate
