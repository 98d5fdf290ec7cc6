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
constexpr std::string_view kVersionPrefix = "v1,";
constexpr std::string_view kHexPrefix = "sha256=";

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

std::string sign_standard_v1(const HmacSha256Key& key, std::string_view id, std::int64_t timestamp_seconds,
                             std::string_view body) {
    return standard_v1(key, id, std::to_string(timestamp_seconds), body);
}

std::string sign_sha256_hex(const HmacSha256Key& key, std::string_view body) {
    return std::string(kHexPrefix).append(hex_encode(key.sign(body)));
}

bool verify_standard(const HmacSha256Key& key, std::string_view id, std::string_view timestamp,
                     std::string_view signature_header, std::string_view body, std::int64_t now_seconds,
                     std::int64_t tolerance_seconds) {
    const auto sent_seconds = parse_timestamp(timestamp);
    // now - tolerance <= sent <= now + tolerance, in differences that cannot overflow: both are >= 0.
    if (!sent_seconds || now_seconds < 0 ||
        (*sent_seconds < now_seconds ? now_seconds - *sent_seconds : *sent_seconds - now_seconds) > tolerance_seconds) {
        return false;
    }
    const std::string expected = standard_v1(key, id, timestamp, body);
    bool matched = false;
    while (!signature_header.empty()) {
        const std::size_t space = signature_header.find(' ');
        matched = equal_constant_time(signature_header.substr(0, space), expected) || matched;
        signature_header.remove_prefix(space == std::string_view::npos ? signature_header.size() : space + 1);
    }
    return matched;
}

bool verify_sha256_hex(const HmacSha256Key& key, std::string_view signature_header, std::string_view body) {
    return equal_constant_time(signature_header, sign_sha256_hex(key, body));
}

}  // namespace headgate
