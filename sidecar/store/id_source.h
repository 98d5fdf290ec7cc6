// UUIDv7 ids of one transaction, in ascending order: what is inserted first sorts first, also within a millisecond.
#pragma once

#include <openssl/rand.h>

#include <array>
#include <cstdint>
#include <stdexcept>
#include <string>

#include "common/event_id.h"

namespace headgate {

class IdSource {
 public:
    explicit IdSource(std::int64_t now) : now_(now) {}
    // Throws std::runtime_error when OpenSSL has no randomness.
    std::string next() { return next_at(now_); }
    std::string next_at(std::int64_t epoch_ms) {
        if (used_ == tails_.size()) refill();
        // 24 bits that all ids of this source share, 31 that count up from a random start, 24 of each id's own.
        std::array<unsigned char, 10> bits = {head_[0], head_[1], head_[2]};
        counter_++;
        for (int i = 0; i < 4; i++)
            bits[static_cast<std::size_t>(3 + i)] = static_cast<unsigned char>(counter_ >> (24 - 8 * i));
        for (std::size_t i = 0; i < 3; i++) bits[7 + i] = tails_[used_][i];
        used_++;
        char text[kEventIdBytes];
        uuid7_format(epoch_ms, bits, text);
        return {text, kEventIdBytes};
    }

 private:
    void refill() {
        if (RAND_bytes(tails_[0].data(), static_cast<int>(sizeof tails_)) != 1) {
            throw std::runtime_error("OpenSSL has no randomness");
        }
        if (head_[3] == 0) {
            if (RAND_bytes(head_.data(), static_cast<int>(head_.size())) != 1) {
                throw std::runtime_error("OpenSSL has no randomness");
            }
            counter_ =
                (static_cast<std::uint32_t>(head_[4]) << 16 | static_cast<std::uint32_t>(head_[5]) << 8 | head_[6])
                << 6;
            head_[3] = 1;  // from now on: is there a head?
        }
        used_ = 0;
    }
    std::int64_t now_;
    std::uint32_t counter_ = 0;  // starts below 2^30: no transaction makes enough to overflow
    std::array<unsigned char, 7> head_{};
    std::array<std::array<unsigned char, 3>, 64> tails_{};
    std::size_t used_ = 64;
};

}  // namespace headgate
