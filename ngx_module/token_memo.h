// The digests of tokens that this worker met lately: hashing half a KiB costs more than everything else about a token
// that is known. It remembers sha256(verification digest, token) and nothing about whether the token is good.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string_view>

#include "common/hmac.h"

namespace headgate::edge {

class TokenMemo {
 public:
    static constexpr std::size_t kSlots = 256;           // one token each: 280 KiB when all are in use
    static constexpr std::size_t kTokenBytesMax = 1024;  // longer ones are hashed each time

    TokenMemo() : slots_(new Slot[kSlots]) {}

    // sha256(digest, token).
    [[nodiscard]] Sha256Digest key_of(std::string_view token, const Sha256Digest& digest) noexcept {
        if (token.empty() || token.size() > kTokenBytesMax) {
            return hash(token, digest);
        }
        Slot& slot = slots_[crc32c(token) % kSlots];
        if (slot.bytes == token.size() && slot.digest == digest && is_equal(slot.token.data(), token)) {
            return slot.key;
        }
        slot.key = hash(token, digest);
        slot.digest = digest;
        slot.bytes = static_cast<std::uint32_t>(token.size());
        std::memcpy(slot.token.data(), token.data(), token.size());
        return slot.key;
    }

 private:
    struct Slot {
        std::uint32_t bytes = 0;
        Sha256Digest digest, key;
        std::array<char, kTokenBytesMax> token;
    };
    static Sha256Digest hash(std::string_view token, const Sha256Digest& digest) noexcept {
        return sha256({reinterpret_cast<const char*>(digest.data()), digest.size()}, token);
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

}  // namespace headgate::edge
