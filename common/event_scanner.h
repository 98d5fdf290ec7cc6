// The in-place scanner of POST /events bodies: one pass over the bytes as they lie, in any number
// of pieces, at least 1 GB/s on one core.
//
// It checks the whole body as RFC 8259 JSON in UTF-8 (RFC 3629; depth at most limits::kJsonDepthMax, no BOM, no
// lone surrogates, no member twice at the top level after unescaping) and finds `type`, `source`,
// `payload` and `ordering_key`. The payload is never copied: it is reported as offsets into the
// body. The three short strings are unescaped into the scanner's own bounded arrays.
//
// No allocation, no exceptions. Trivially destructible, so that it may live in pool memory. About
// 11 KiB, of which an ordinary event touches one; reset() clears only what is used.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <type_traits>

#include "common/json_bytes.h"
#include "common/limits.h"
#include "common/member_names.h"

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
    // The hashes of unknown member names are keyed: by default with a key that this process draws from
    // the kernel when it first needs one.
    EventScanner() noexcept : EventScanner(process_hash_key()) {}
    explicit EventScanner(MemberHashKey key) noexcept : hash_key_(key) { reset(); }
    void reset() noexcept;
    // The next piece, of any length, 0 included. Returns false once the body is known to be
    // invalid: further pieces need not be fed.
    bool feed(const char* data, std::size_t bytes) noexcept;
    // For a value inside a larger text: takes the next piece up to the end of the value, and says how much of it
    // that was. What follows a whole value is the caller's. Offsets count from the first byte fed since reset().
    [[nodiscard]] std::size_t feed_value(const char* data, std::size_t bytes) noexcept;
    // The value has been read to its end: finish() has its verdict. A number ends before the byte behind it.
    [[nodiscard]] bool value_complete() const noexcept {
        return expect_ == Expect::kEnd && token_ == Token::kNone && error_message_ == nullptr;
    }
    [[nodiscard]] bool failed() const noexcept { return error_message_ != nullptr; }
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
    enum Member : std::uint8_t { kType, kSource, kOrderingKey, kPayload, kUnknown };

    // What may stand next, where no token is being read.
    enum class Expect : std::uint8_t {
        kBody,
        kValue,
        kValueOrClose,  // after '['
        kName,
        kNameOrClose,  // after '{'
        kColon,
        kCommaOrClose,
        kEnd,  // white space only
    };

    // The token that the last piece ended in.
    enum class Token : std::uint8_t { kNone, kString, kNumber, kLiteral };

    enum class Number : std::uint8_t { kBegin, kMinus, kZero, kInteger, kPoint, kFraction, kE, kESign, kExponent };

    // Where in a string: \uXXXX twice for a surrogate pair.
    enum class Text : std::uint8_t { kPlain, kEscape, kHex, kPairBackslash, kPairU, kPairHex };

    // Where the characters of the string go.
    enum class Sink : std::uint8_t { kNowhere, kName, kMember };

    static constexpr std::size_t kMemberBytesMax = limits::kEventSourceBytesMax;
    static_assert(limits::kEventTypeBytesMax <= kMemberBytesMax && limits::kOrderingKeyBytesMax <= kMemberBytesMax);

    // The unescaped value of type, source or ordering_key.
    struct MemberText {
        void clear() noexcept;
        void append(std::string_view part) noexcept;
        [[nodiscard]] std::string_view view() const noexcept { return {bytes.data(), kept}; }

        std::uint64_t length;  // all bytes, of which `kept` are in `bytes`
        std::size_t kept;
        bool has_control;    // U+0000 to U+001F, U+007F to U+009F
        unsigned char last;  // of the bytes appended
        std::array<char, kMemberBytesMax> bytes;
    };

    [[nodiscard]] static MemberHashKey process_hash_key() noexcept;

    template <bool kOneValue>
    const char* advance(const char* data, std::size_t bytes) noexcept;
    const char* scan_outer(const char* p, const char* end) noexcept;
    const char* scan_nested(const char* p, const char* end) noexcept;
    const char* begin_body(const char* p, const char* end) noexcept;
    const char* begin_member_value(const char* p, const char* end) noexcept;
    bool end_member_name(const char* p) noexcept;
    void end_floor_container(const char* p) noexcept;

    const char* begin_scalar(const char* p, const char* end) noexcept;
    const char* resume_token(const char* p, const char* end) noexcept;
    const char* begin_string(const char* p, const char* end, Sink sink) noexcept;
    const char* scan_string(const char* p, const char* end) noexcept;
    const char* scan_text(const char* p, const char* end) noexcept;
    const char* scan_escape(const char* p, const char* end) noexcept;
    const char* scan_pair(const char* p, char wanted, Text next) noexcept;
    const char* scan_hex(const char* p) noexcept;
    const char* scan_number(const char* p, const char* end) noexcept;
    const char* scan_literal(const char* p, const char* end) noexcept;
    void keep(const char* begin, const char* end) noexcept;
    void keep_character(std::uint32_t code_point) noexcept;

    const char* fail(const char* message, const char* p) noexcept;
    [[nodiscard]] std::uint64_t offset_of(const char* p) const noexcept {
        return consumed_bytes_ + static_cast<std::uint64_t>(p - piece_);
    }
    [[nodiscard]] std::uint32_t text_problems(Member member, std::uint32_t not_string) const noexcept;
    [[nodiscard]] std::uint32_t type_problems() const noexcept;
    [[nodiscard]] std::uint32_t shape_problems() const noexcept;

    // The position.
    const char* piece_;  // of the caller, during feed() only
    std::uint64_t consumed_bytes_;
    std::uint64_t containers_;  // a bit for each open container, the innermost lowest: 1 for an object
    std::uint8_t depth_;
    std::uint8_t floor_;  // the depth that scan_outer looks after: 1 in an object, 0 otherwise
    Expect expect_;
    Token token_;

    // The token.
    Sink sink_;
    Text text_;
    Number number_;
    std::uint8_t token_bytes_;  // hexadecimal digits or bytes of the literal so far
    json_bytes::Utf8State utf8_;
    std::uint32_t unit_;  // the \u escape so far
    std::uint32_t high_;  // the first half of a surrogate pair
    const char* literal_;

    // The top-level members.
    Member member_;
    std::uint8_t seen_;     // a bit for each known member
    std::uint8_t strings_;  // of these, which are strings
    std::uint32_t member_count_;
    std::uint64_t name_offset_;
    ByteRange payload_;  // end 0: no payload, or no object

    // The outcome.
    const char* error_message_;  // static text; null while all is well
    std::uint64_t error_offset_;
    std::uint32_t problems_;

    MemberHashKey hash_key_;
    MemberName name_;
    std::array<MemberText, 3> texts_;  // by Member
    MemberSet unknown_members_;
};

static_assert(std::is_trivially_destructible_v<EventScanner>);

}  // namespace headgate
