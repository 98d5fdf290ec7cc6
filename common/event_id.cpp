// Input: a time and random bytes. Output: the text of an event id. Next: publish (at the edge)
// and whatever else makes rows with ids.
#include "common/event_id.h"

#include <openssl/err.h>
#include <openssl/rand.h>

#include <cstddef>
#include <span>
#include <stdexcept>

#include "common/hmac.h"

namespace headgate {

namespace {

constexpr bool is_dash_position(std::size_t i) noexcept { return i == 8 || i == 13 || i == 18 || i == 23; }

}  // namespace

void uuid7_format(std::int64_t epoch_ms, const std::array<unsigned char, 10>& random,
                  char (&out)[kEventIdBytes]) noexcept {
    unsigned char bytes[16];
    for (int i = 0; i < 6; ++i) {
        bytes[i] = static_cast<unsigned char>(epoch_ms >> (40 - 8 * i));
    }
    for (std::size_t i = 0; i < random.size(); ++i) {
        bytes[6 + i] = random[i];
    }
    bytes[6] = static_cast<unsigned char>(0x70 | (bytes[6] & 0x0f));  // version 7
    bytes[8] = static_cast<unsigned char>(0x80 | (bytes[8] & 0x3f));  // the variant of RFC 9562
    const std::span<const unsigned char> all(bytes);
    char* at = hex_encode_into(all.first(4), out);
    for (const std::size_t first : {4, 6, 8}) {
        *at++ = '-';
        at = hex_encode_into(all.subspan(first, 2), at);
    }
    *at++ = '-';
    hex_encode_into(all.subspan(10), at);
}

std::string uuid7(std::int64_t epoch_ms) {
    std::array<unsigned char, 10> random;
    if (RAND_bytes(random.data(), static_cast<int>(random.size())) != 1) {
        ERR_clear_error();
        throw std::runtime_error("OpenSSL has no random bytes for an event id");
    }
    char text[kEventIdBytes];
    uuid7_format(epoch_ms, random, text);
    return {text, sizeof text};
}

std::int64_t uuid7_epoch_ms(std::string_view id) noexcept {
    std::int64_t epoch_ms = 0;
    for (const char c : id.substr(0, 13)) {  // 12 digits and the first dash
        if (c != '-') {
            epoch_ms = epoch_ms << 4 | (c <= '9' ? c - '0' : c - 'a' + 10);
        }
    }
    return epoch_ms;
}

bool uuid_is_valid(std::string_view text) noexcept {
    if (text.size() != kEventIdBytes) {
        return false;
    }
    for (std::size_t i = 0; i < text.size(); ++i) {
        const char c = text[i];
        const bool is_hex = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
        if (is_dash_position(i) ? c != '-' : !is_hex) {
            return false;
        }
    }
    return true;
}

}  // namespace headgate
