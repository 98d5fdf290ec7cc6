// The digests of texts that this worker met lately. Hashing half a KiB of token costs more than everything else about a
// token that is known; the key of a limit is short, and its digest still the dearest part of looking the limit up. It
// remembers sha256(prefix, text) and nothing about whether the text is good. Texts are compared whole: who finds two
// for one slot makes them be hashed each time, and no more.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string_view>

#include "common/hmac.h"

namespace headgate::edge {

// `TextBytes`: longer texts are hashed each time.
template <std::size_t PrefixBytes, std::size_t TextBytes>
class DigestMemo {
 public:
    using Prefix = std::array<unsigned char, PrefixBytes>;
    static constexpr std::size_t kSlots = 256;
    static constexpr std::size_t kTextBytesMax = TextBytes;

    DigestMemo() : slots_(new Slot[kSlots]) {}

    // sha256(prefix, text).
    [[nodiscard]] Sha256Digest key_of(std::string_view text, const Prefix& prefix) noexcept {
        if (text.empty() || text.size() > kTextBytesMax) {
            return hash(text, prefix);
        }
        Slot& slot = slots_[crc32c(text) % kSlots];
        if (slot.bytes == text.size() && slot.prefix == prefix && is_equal(slot.text.data(), text)) {
            return slot.key;
        }
        slot.key = hash(text, prefix);
        slot.prefix = prefix;
        slot.bytes = static_cast<std::uint32_t>(text.size());
        std::memcpy(slot.text.data(), text.data(), text.size());
        return slot.key;
    }

 private:
    struct Slot {
        std::uint32_t bytes = 0;
        Prefix prefix;
        Sha256Digest key;
        std::array<char, kTextBytesMax> text;
    };
    static Sha256Digest hash(std::string_view text, const Prefix& prefix) noexcept {
        return sha256({reinterpret_cast<const char*>(prefix.data()), prefix.size()}, text);
    }
    // In a time that says nothing about how much of another client's token was guessed.
    static bool is_equal(const char* a, std::string_view b) noexcept {
        std::uint64_t difference = 0;
        std::size_t at = 0;
        for (; at + 8 <= b.size(); at += 8) {
            std::uint64_t x, y;
            std::memcpy(&x, a + at, 8);
            std::memcpy(&y, b.data() + at, 8);
            difference |= x ^ y;
        }
        for (; at < b.size(); ++at) {
            difference |= static_cast<unsigned char>(a[at] ^ b[at]);
        }
        return difference == 0;
    }

    std::unique_ptr<Slot[]> slots_;
};

// 280 KiB when all slots are in use.
using TokenMemo = DigestMemo<sizeof(Sha256Digest), 1024>;

}  // namespace headgate::edge
