// A principal as one run of bytes: how the zone keeps it, and how a request gets it in one allocation.
// The lengths first (16 bits each, the machine's order: it never leaves the machine), then the texts.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace headgate::edge {

enum class PrincipalField : std::uint8_t {
    kOrg,
    kKeyId,
    kKeyPrefix,
    kSub,
    kIss,
    kScope,
    kPlan,
    kLimits,
    kAllowedIps,
    kCount
};
inline constexpr std::size_t kPrincipalFieldCount = static_cast<std::size_t>(PrincipalField::kCount);

struct PrincipalTexts {
    std::array<std::string_view, kPrincipalFieldCount> texts{};
    std::string_view& operator[](PrincipalField field) noexcept { return texts[static_cast<std::size_t>(field)]; }
    std::string_view operator[](PrincipalField field) const noexcept { return texts[static_cast<std::size_t>(field)]; }
};

inline constexpr std::size_t kPrincipalHeadBytes = kPrincipalFieldCount * sizeof(std::uint16_t);
// No principal has more: a token has at most 8 KiB, and a record in Redis is refused beyond it.
inline constexpr std::size_t kPrincipalBytesMax = 16 * 1024;

// What pack_principal() writes; 0 when that would be more than kPrincipalBytesMax.
[[nodiscard]] inline std::size_t packed_bytes(const PrincipalTexts& principal) noexcept {
    std::size_t bytes = kPrincipalHeadBytes;
    for (const std::string_view text : principal.texts) {
        if (text.size() > kPrincipalBytesMax) {
            return 0;
        }
        bytes += text.size();
    }
    return bytes <= kPrincipalBytesMax ? bytes : 0;
}

// `out` has packed_bytes(principal) bytes, which are not 0.
inline void pack_principal(const PrincipalTexts& principal, unsigned char* out) noexcept {
    unsigned char* text_at = out + kPrincipalHeadBytes;
    for (const std::string_view text : principal.texts) {
        const auto length = static_cast<std::uint16_t>(text.size());
        std::memcpy(out, &length, sizeof length);
        out += sizeof length;
        if (!text.empty()) {
            std::memcpy(text_at, text.data(), text.size());
            text_at += text.size();
        }
    }
}

// Views into `packed`. False when the lengths lead beyond `bytes`: shared memory that a dying worker left half written.
[[nodiscard]] inline bool unpack_principal(const unsigned char* packed, std::size_t bytes,
                                           PrincipalTexts& out) noexcept {
    if (bytes < kPrincipalHeadBytes) {
        return false;
    }
    const unsigned char* text_at = packed + kPrincipalHeadBytes;
    std::size_t left = bytes - kPrincipalHeadBytes;
    for (std::string_view& text : out.texts) {
        std::uint16_t length;
        std::memcpy(&length, packed, sizeof length);
        packed += sizeof length;
        if (length > left) {
            return false;
        }
        text = {reinterpret_cast<const char*>(text_at), length};
        text_at += length;
        left -= length;
    }
    return left == 0;
}

}  // namespace headgate::edge
