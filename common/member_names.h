// Below the event scanner: the names of the top-level members of one body, in bounded memory. A name
// of any length is hashed as it comes; the set tells whether a hash was there before.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "common/limits.h"

namespace headgate {

// Secret of the process, so that nobody can choose names whose hashes collide.
struct MemberHashKey {
    std::uint64_t first = 0;
    std::uint64_t second = 0;
};

// SipHash-2-4 (Aumasson and Bernstein, 2012), fed in words of eight bytes, little-endian.
class SipHash24 {
 public:
    void begin(MemberHashKey key) noexcept {
        v_ = {key.first ^ 0x736f6d6570736575, key.second ^ 0x646f72616e646f6d, key.first ^ 0x6c7967656e657261,
              key.second ^ 0x7465646279746573};
    }
    void absorb(std::uint64_t word) noexcept {
        v_[3] ^= word;
        round();
        round();
        v_[0] ^= word;
    }
    // `rest`: the up to seven bytes that fill no word. `bytes`: the length of the whole message.
    [[nodiscard]] std::uint64_t finish(std::uint64_t rest, std::uint64_t bytes) noexcept {
        absorb(rest | bytes << 56);
        v_[2] ^= 0xff;
        for (int i = 0; i < 4; ++i) {
            round();
        }
        return v_[0] ^ v_[1] ^ v_[2] ^ v_[3];
    }

 private:
    void round() noexcept {
        v_[0] += v_[1];
        v_[2] += v_[3];
        v_[1] = std::rotl(v_[1], 13) ^ v_[0];
        v_[3] = std::rotl(v_[3], 16) ^ v_[2];
        v_[0] = std::rotl(v_[0], 32);
        v_[2] += v_[1];
        v_[0] += v_[3];
        v_[1] = std::rotl(v_[1], 17) ^ v_[2];
        v_[3] = std::rotl(v_[3], 21) ^ v_[0];
        v_[2] = std::rotl(v_[2], 32);
    }

    std::array<std::uint64_t, 4> v_;
};

// One name while it is read: its first bytes for the comparison with known names, its hash for the set.
class MemberName {
 public:
    void begin() noexcept { bytes_ = 0; }

    void append(std::string_view part, MemberHashKey key) noexcept {
        while (!part.empty()) {
            const std::size_t used = bytes_ % kWindow;
            const std::size_t taken = std::min(part.size(), kWindow - used);
            std::memcpy(window_.data() + used, part.data(), taken);
            bytes_ += taken;
            part.remove_prefix(taken);
            if (used + taken == kWindow) {
                if (bytes_ == kWindow) {
                    hash_.begin(key);
                }
                absorb(kWindow / 8);
            }
        }
    }

    // True for names shorter than the window only: longer ones have left it.
    [[nodiscard]] bool equals(std::string_view name) const noexcept {
        return bytes_ < kWindow && std::string_view(window_.data(), bytes_) == name;
    }

    // Once for each name.
    [[nodiscard]] std::uint64_t hash(MemberHashKey key) noexcept {
        if (bytes_ < kWindow) {
            hash_.begin(key);
        }
        const std::size_t used = bytes_ % kWindow;
        absorb(used / 8);
        std::uint64_t rest = 0;
        for (std::size_t i = used / 8 * 8; i < used; ++i) {
            rest |= std::uint64_t{static_cast<unsigned char>(window_[i])} << (i % 8 * 8);
        }
        return hash_.finish(rest, bytes_);
    }

 private:
    static constexpr std::size_t kWindow = 64;

    void absorb(std::size_t words) noexcept {
        for (std::size_t i = 0; i < words; ++i) {
            std::uint64_t word = 0;
            for (std::size_t j = 0; j < 8; ++j) {
                word |= std::uint64_t{static_cast<unsigned char>(window_[i * 8 + j])} << (j * 8);
            }
            hash_.absorb(word);
        }
    }

    std::uint64_t bytes_;
    std::array<char, kWindow> window_;
    SipHash24 hash_;
};

// Up to kEventTopLevelMembersMax hashes. A body has a handful of unknown members: the first few lie
// in a row, and only a body with more pays for clearing the table.
class MemberSet {
 public:
    void clear() noexcept { count_ = 0; }

    // False when `hash` was there before. The caller keeps the count below the maximum.
    [[nodiscard]] bool insert(std::uint64_t hash) noexcept {
        hash = hash == kVacant ? 1 : hash;
        const bool fresh = count_ < kRow ? insert_into_row(hash) : insert_into_table(hash);
        count_ += fresh ? 1 : 0;
        if (fresh && count_ == kRow) {
            turn_into_table();
        }
        return fresh;
    }

 private:
    static constexpr std::size_t kRow = 16;
    static constexpr std::size_t kSlots = limits::kEventTopLevelMembersMax + limits::kEventTopLevelMembersMax / 4;
    static constexpr std::uint64_t kVacant = 0;

    bool insert_into_row(std::uint64_t hash) noexcept {
        const auto last = slots_.begin() + static_cast<std::ptrdiff_t>(count_);
        if (std::find(slots_.begin(), last, hash) != last) {
            return false;
        }
        *last = hash;
        return true;
    }

    bool insert_into_table(std::uint64_t hash) noexcept {
        std::size_t slot = (hash >> 32) * kSlots >> 32;
        while (slots_[slot] != kVacant) {
            if (slots_[slot] == hash) {
                return false;
            }
            slot = slot + 1 == kSlots ? 0 : slot + 1;
        }
        slots_[slot] = hash;
        return true;
    }

    void turn_into_table() noexcept {
        std::array<std::uint64_t, kRow> row;
        std::copy_n(slots_.begin(), kRow, row.begin());
        slots_.fill(kVacant);
        for (const std::uint64_t hash : row) {
            insert_into_table(hash);
        }
    }

    std::size_t count_;
    std::array<std::uint64_t, kSlots> slots_;
};

}  // namespace headgate
