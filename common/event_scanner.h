// The in-place scanner of POST /events bodies: one pass over the bytes as they lie, in any number
// of pieces, at least 1 GB/s on one core.
//
// It checks the whole body as RFC 8259 JSON in UTF-8 (RFC 3629; depth at most limits::kJsonDepthMax, no BOM, no
// lone surrogates, no member twice at the top level after unescaping) and finds `type`, `source`,
// `payload` and `ordering_key`. The payload is never copied: it is reported as offsets into the
// body. The three short strings are unescaped into the scanner's own bounded arrays.
//
// No allocation, no exceptions. Trivially destructible, so that it may live in pool memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "common/limits.h"

namespace headgate {

// Half-open, in bytes from the start of the body.
struct ByteRange {
    std::uint64_t begin = 0;
    std::uint64_t end = 0;
    [[nodiscard]] std::uint64_t size() const noexcept { return end - begin; }
};

enum class ScanStatus : std::uint8_t {
    kOk,           // valid JSON of the right shape
    kEmpty,        // no byte but white space: 400
    kInvalidJson,  // 400; error_message() and error_offset() say what and where
    kWrongShape,   // valid JSON, wrong shape: 422; problems() has every problem at once
};

// What is wrong with the shape, as bits, so that all are reported at once.
enum ShapeProblem : std::uint32_t {
    kBodyNotObject = 1u << 0,
    kTypeMissing = 1u << 1,
    kTypeNotString = 1u << 2,
    kTypeEmpty = 1u << 3,
    kTypeInvalid = 1u << 4,   // does not match [A-Za-z0-9_.:-]{1,128}
    kTypeReserved = 1u << 5,  // begins with webhook.
    kSourceMissing = 1u << 6,
    kSourceNotString = 1u << 7,
    kSourceEmpty = 1u << 8,
    kSourceTooLong = 1u << 9,   // over 256 bytes
    kSourceControl = 1u << 10,  // control characters
    kPayloadMissing = 1u << 11,
    kPayloadNotObject = 1u << 12,
    kOrderingKeyNotString = 1u << 13,
    kOrderingKeyEmpty = 1u << 14,
    kOrderingKeyTooLong = 1u << 15,
    kOrderingKeyControl = 1u << 16,
};

struct ShapeProblemText {
    std::uint32_t bit;
    std::string_view member;   // "type", …; empty for the body itself
    std::string_view message;  // for errors[].msg
};
// Every ShapeProblem in the order of its bits; `count` entries.
[[nodiscard]] const ShapeProblemText* shape_problem_texts(std::size_t& count) noexcept;

class EventScanner {
 public:
    EventScanner() noexcept { reset(); }
    void reset() noexcept;
    // The next piece, of any length, 0 included. Returns false once the body is known to be
    // invalid: further pieces need not be fed.
    bool feed(const char* data, std::size_t bytes) noexcept;
    // No more pieces. Call once.
    ScanStatus finish() noexcept;

    // After finish() returned kOk.
    [[nodiscard]] ByteRange payload() const noexcept;  // from '{' to one past '}'
    [[nodiscard]] std::string_view type() const noexcept;
    [[nodiscard]] std::string_view source() const noexcept;
    [[nodiscard]] std::string_view ordering_key() const noexcept;  // empty when absent

    [[nodiscard]] std::uint32_t problems() const noexcept;          // after kWrongShape
    [[nodiscard]] std::string_view error_message() const noexcept;  // after kInvalidJson; static text
    [[nodiscard]] std::uint64_t error_offset() const noexcept;      // after kInvalidJson

 private:
    // Owned by the implementation of the scanner.
};

}  // namespace headgate
