// Input: random bytes, or a key as a client sent it. Output: a new key, or the hash under which
// Redis and the store know it. Next: the edge's auth stage, the sidecar's keys.
#include "common/api_key.h"

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/rand.h>

#include <cstdint>
#include <stdexcept>

#include "common/base64url.h"

namespace headgate {

namespace {

constexpr char kBase62[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
constexpr std::size_t kIdBytes = 8;
constexpr std::size_t kSecretChars = 43;
constexpr std::size_t kSecretBytes = 32;
constexpr std::size_t kChecksumBytes = 6;  // 62^6 > 2^32
constexpr std::size_t kCheckedBytes = kApiKeyBytes - kChecksumBytes;

// The last `digits` base62 digits of a number, most significant first.
void append_base62(std::string& out, std::uint64_t number, std::size_t digits) {
    const std::size_t begin = out.size();
    out.resize(begin + digits);
    for (std::size_t i = begin + digits; i > begin; --i) {
        out[i - 1] = kBase62[number % 62];
        number /= 62;
    }
}

bool is_base62(std::string_view text) noexcept { return text.find_first_not_of(kBase62) == std::string_view::npos; }

}  // namespace

NewApiKey make_api_key(const std::array<unsigned char, 40>& random) {
    std::uint64_t id = 0;
    for (std::size_t i = 0; i < 8; ++i) {
        id = id << 8 | random[i];
    }
    NewApiKey key;
    key.prefix.reserve(kApiKeyPrefixBytes);
    key.prefix = "hg_";
    append_base62(key.prefix, id, kIdBytes);
    key.text.reserve(kApiKeyBytes);
    key.text.append(key.prefix).append("_");
    std::string secret = base64url_encode({reinterpret_cast<const char*>(random.data()) + 8, kSecretBytes});
    key.text.append(secret);
    OPENSSL_cleanse(secret.data(), secret.size());
    append_base62(key.text, crc32(key.text), kChecksumBytes);
    return key;
}

NewApiKey make_api_key() {
    std::array<unsigned char, 40> random;
    if (RAND_priv_bytes(random.data(), static_cast<int>(random.size())) != 1) {
        ERR_clear_error();
        throw std::runtime_error("OpenSSL has no random bytes for an API key");
    }
    NewApiKey key = make_api_key(random);
    OPENSSL_cleanse(random.data(), random.size());
    return key;
}

bool api_key_is_well_formed(std::string_view text) noexcept {
    if (text.size() != kApiKeyBytes || !text.starts_with("hg_") || text[kApiKeyPrefixBytes] != '_' ||
        !is_base62(text.substr(3, kIdBytes))) {
        return false;
    }
    char secret[kSecretBytes];
    const bool is_secret =
        base64url_decode_into(text.substr(kApiKeyPrefixBytes + 1, kSecretChars), secret, sizeof secret).has_value();
    OPENSSL_cleanse(secret, sizeof secret);
    if (!is_secret) {
        return false;
    }
    std::uint64_t checksum = 0;
    for (const char c : text.substr(kCheckedBytes)) {
        const std::size_t digit = std::string_view(kBase62).find(c);
        if (digit == std::string_view::npos) {
            return false;
        }
        checksum = checksum * 62 + digit;
    }
    return checksum == crc32(text.substr(0, kCheckedBytes));
}

std::string api_key_hash(const HmacSha256Key& pepper, std::string_view text) { return hex_encode(pepper.sign(text)); }

std::string pepper_fingerprint(const HmacSha256Key& pepper) {
    return hex_encode(pepper.sign("headgate pepper fingerprint")).substr(0, 16);
}

std::string_view secret_file_value(std::string_view file_text) noexcept {
    const std::size_t last = file_text.find_last_not_of(" \t\r\n\v\f");
    return last == std::string_view::npos ? std::string_view() : file_text.substr(0, last + 1);
}

}  // namespace headgate
