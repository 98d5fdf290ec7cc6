// Input: bytes or text in base64. Output: the other, or nothing when the text is not canonical.
// Next: jwt.cpp (segments), api_key.cpp and webhook_signature.cpp (secrets and signatures).
#include "common/base64url.h"

#include <array>
#include <cstdint>

namespace headgate {

namespace {

constexpr char kUrlAlphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
constexpr char kStandardAlphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

// The six bits of each character; kInvalid has bits above them, so that four lookups can be checked with one test.
constexpr std::uint8_t kInvalid = 0x80;
using DecodeTable = std::array<std::uint8_t, 256>;

constexpr DecodeTable make_decode_table(const char (&alphabet)[65]) {
    DecodeTable table{};
    for (auto& entry : table) {
        entry = kInvalid;
    }
    for (std::uint8_t value = 0; value < 64; ++value) {
        table[static_cast<unsigned char>(alphabet[value])] = value;
    }
    return table;
}

constexpr DecodeTable kUrlTable = make_decode_table(kUrlAlphabet);
constexpr DecodeTable kStandardTable = make_decode_table(kStandardAlphabet);

std::string encode(std::string_view bytes, const char (&alphabet)[65], bool padded) {
    const std::size_t left = bytes.size() % 3;
    const std::size_t tail_chars = left == 0 ? 0 : padded ? 4 : left + 1;
    std::string text(bytes.size() / 3 * 4 + tail_chars, '=');
    const auto byte_at = [bytes](std::size_t i) { return std::uint32_t{static_cast<unsigned char>(bytes[i])}; };
    char* out = text.data();
    std::size_t i = 0;
    for (; i + 3 <= bytes.size(); i += 3) {
        const std::uint32_t bits = byte_at(i) << 16 | byte_at(i + 1) << 8 | byte_at(i + 2);
        *out++ = alphabet[bits >> 18];
        *out++ = alphabet[bits >> 12 & 63u];
        *out++ = alphabet[bits >> 6 & 63u];
        *out++ = alphabet[bits & 63u];
    }
    if (left > 0) {
        const std::uint32_t bits = byte_at(i) << 16 | (left == 2 ? byte_at(i + 1) << 8 : 0u);
        *out++ = alphabet[bits >> 18];
        *out++ = alphabet[bits >> 12 & 63u];
        if (left == 2) {
            *out = alphabet[bits >> 6 & 63u];
        }
    }
    return text;
}

constexpr std::size_t decoded_bytes(std::size_t text_bytes) {
    return text_bytes / 4 * 3 + (text_bytes % 4 == 0 ? 0 : text_bytes % 4 - 1);
}

// `text` has no padding. `out` has room for decoded_bytes(text.size()).
bool decode(std::string_view text, const DecodeTable& table, char* out) noexcept {
    const auto bits_of = [text, &table](std::size_t i) {
        return std::uint32_t{table[static_cast<unsigned char>(text[i])]};
    };
    std::size_t i = 0;
    for (; i + 4 <= text.size(); i += 4) {
        const std::uint32_t a = bits_of(i), b = bits_of(i + 1), c = bits_of(i + 2), d = bits_of(i + 3);
        if (((a | b | c | d) & kInvalid) != 0) {
            return false;
        }
        const std::uint32_t bits = a << 18 | b << 12 | c << 6 | d;
        *out++ = static_cast<char>(bits >> 16);
        *out++ = static_cast<char>(bits >> 8);
        *out++ = static_cast<char>(bits);
    }
    const std::size_t left = text.size() - i;
    if (left == 0) {
        return true;
    }
    if (left == 1) {
        return false;  // six bits are no byte
    }
    const std::uint32_t a = bits_of(i), b = bits_of(i + 1), c = left == 3 ? bits_of(i + 2) : 0;
    // Bits that stand for no byte must be zero, or several texts would mean the same bytes.
    const std::uint32_t unused = left == 3 ? c & 3u : b & 15u;
    if (((a | b | c) & kInvalid) != 0 || unused != 0) {
        return false;
    }
    const std::uint32_t bits = a << 18 | b << 12 | c << 6;
    *out++ = static_cast<char>(bits >> 16);
    if (left == 3) {
        *out = static_cast<char>(bits >> 8);
    }
    return true;
}

std::optional<std::string> decode(std::string_view text, const DecodeTable& table) {
    std::string bytes(decoded_bytes(text.size()), '\0');
    if (!decode(text, table, bytes.data())) {
        return std::nullopt;
    }
    return bytes;
}

}  // namespace

std::string base64url_encode(std::string_view bytes) { return encode(bytes, kUrlAlphabet, false); }

std::optional<std::string> base64url_decode(std::string_view text) { return decode(text, kUrlTable); }

std::optional<std::size_t> base64url_decode_into(std::string_view text, char* out, std::size_t out_bytes) noexcept {
    const std::size_t bytes = decoded_bytes(text.size());
    if (bytes > out_bytes || !decode(text, kUrlTable, out)) {
        return std::nullopt;
    }
    return bytes;
}

std::string base64_encode(std::string_view bytes) { return encode(bytes, kStandardAlphabet, true); }

std::optional<std::string> base64_decode(std::string_view text) {
    if (text.size() % 4 != 0) {
        return std::nullopt;
    }
    if (text.ends_with('=')) {
        text.remove_suffix(text.ends_with("==") ? 2 : 1);
    }
    return decode(text, kStandardTable);
}

}  // namespace headgate
