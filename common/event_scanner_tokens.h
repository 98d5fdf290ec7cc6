// The tokens of the event scanner: strings, numbers, literals, each resumable after every byte. Included
// by event_scanner.cpp alone, whose two loops call in here and judge what stands between tokens.
#pragma once

#include <algorithm>
#include <cstring>

#include "common/event_scanner.h"

namespace headgate {

namespace scanner_text {

inline constexpr const char* kWantsValue = "expected a value";
inline constexpr const char* kLoneSurrogate = "a surrogate escape without its other half";
inline constexpr const char* kBadEscape = "an unknown escape in a string";
inline constexpr const char* kTrue = "true";
inline constexpr const char* kFalse = "false";
inline constexpr const char* kNull = "null";

[[nodiscard]] constexpr int hex_value(char c) noexcept {
    if (json_bytes::is_digit(c)) {
        return c - '0';
    }
    const char lower = static_cast<char>(c | 0x20);
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

// What a backslash and `c` stand for (RFC 8259, section 7); NUL for what is no escape of one character.
[[nodiscard]] constexpr char unescaped(char c) noexcept {
    switch (c) {
        case '"':
        case '\\':
        case '/':
            return c;
        case 'b':
            return '\b';
        case 'f':
            return '\f';
        case 'n':
            return '\n';
        case 'r':
            return '\r';
        case 't':
            return '\t';
        default:
            return '\0';
    }
}

// One past a number that ends within [p, end). Null when it is malformed or reaches `end`: then
// scan_number, byte by byte, says where or remembers how far.
[[nodiscard]] inline const char* whole_number_end(const char* p, const char* end) noexcept {
    p += *p == '-' ? 1 : 0;
    const char* digits = p;
    p = json_bytes::skip_digits(p, end);
    if (p == digits || p == end || (*digits == '0' && p - digits > 1)) {
        return nullptr;
    }
    if (*p == '.') {
        digits = ++p;
        p = json_bytes::skip_digits(p, end);
        if (p == digits || p == end) {
            return nullptr;
        }
    }
    if ((*p | 0x20) == 'e') {
        ++p;
        p += p != end && (*p == '+' || *p == '-') ? 1 : 0;
        digits = p;
        p = json_bytes::skip_digits(p, end);
        if (p == digits || p == end) {
            return nullptr;
        }
    }
    return p;
}

}  // namespace scanner_text

inline const char* EventScanner::begin_scalar(const char* p, const char* end) noexcept {
    switch (*p) {
        case '"':
            return begin_string(p + 1, end, Sink::kNowhere);
        case 't':
        case 'f':
        case 'n':
            token_ = Token::kLiteral;
            literal_ = *p == 't' ? scanner_text::kTrue : *p == 'f' ? scanner_text::kFalse : scanner_text::kNull;
            token_bytes_ = 0;
            return scan_literal(p, end);
        default:
            if (!json_bytes::is_digit(*p) && *p != '-') {
                return fail(scanner_text::kWantsValue, p);
            }
            token_ = Token::kNumber;
            number_ = Number::kBegin;
            return scan_number(p, end);
    }
}

inline const char* EventScanner::resume_token(const char* p, const char* end) noexcept {
    switch (token_) {
        case Token::kNumber:
            return scan_number(p, end);
        case Token::kLiteral:
            return scan_literal(p, end);
        default:
            return scan_string(p, end);
    }
}

inline const char* EventScanner::begin_string(const char* p, const char* end, Sink sink) noexcept {
    token_ = Token::kString;
    text_ = Text::kPlain;
    sink_ = sink;
    return scan_string(p, end);
}

// To one past the closing quote, and token_ is kNone; or to `end`, or to what is wrong.
inline const char* EventScanner::scan_string(const char* p, const char* end) noexcept {
    while (p != end && error_message_ == nullptr) {
        if (text_ != Text::kPlain) {
            p = scan_escape(p, end);
            continue;
        }
        const char* begin = p;
        p = scan_text(p, end);
        keep(begin, p);
        if (p == end || error_message_ != nullptr) {
            return p;
        }
        if (*p == '"') {
            token_ = Token::kNone;
            return p + 1;
        }
        if (*p != '\\') {
            return fail("a control character in a string", p);
        }
        text_ = Text::kEscape;
        ++p;
    }
    return p;
}

// To the quote, backslash or control character that ends a run of characters that stand for themselves.
inline const char* EventScanner::scan_text(const char* p, const char* end) noexcept {
    while (p != end) {
        if (utf8_.missing == 0) {
            p = json_bytes::native::skip_plain(p, end);
            if (p == end || json_bytes::is_ascii(*p)) {
                return p;
            }
            p = json_bytes::native::skip_text(p, end);
            if (p == end || json_bytes::is_ascii(*p)) {
                return p;
            }
        }
        // One character: cut by a piece, near the end of one, or wrong.
        do {
            if (!utf8_.accept(*p)) {
                return fail("the body is not valid UTF-8", p);
            }
            ++p;
        } while (utf8_.missing != 0 && p != end);
    }
    return p;
}

// One step of an escape; `p` is not `end`.
inline const char* EventScanner::scan_escape(const char* p, const char* end) noexcept {
    switch (text_) {
        case Text::kPairBackslash:
            return scan_pair(p, '\\', Text::kPairU);
        case Text::kPairU:
            return scan_pair(p, 'u', Text::kPairHex);
        case Text::kHex:
        case Text::kPairHex:
            while (p != end && (text_ == Text::kHex || text_ == Text::kPairHex) && error_message_ == nullptr) {
                p = scan_hex(p);
            }
            return p;
        default:
            break;
    }
    if (*p == 'u') {
        token_bytes_ = 0;
        unit_ = 0;
        text_ = Text::kHex;
        return p + 1;
    }
    const char character = scanner_text::unescaped(*p);
    if (character == '\0') {
        return fail(scanner_text::kBadEscape, p);
    }
    text_ = Text::kPlain;
    keep_character(static_cast<unsigned char>(character));
    return p + 1;
}

inline const char* EventScanner::scan_pair(const char* p, char wanted, Text next) noexcept {
    if (*p != wanted) {
        return fail(scanner_text::kLoneSurrogate, p);
    }
    token_bytes_ = 0;
    unit_ = 0;
    text_ = next;
    return p + 1;
}

// One of the four digits of \uXXXX (RFC 8259, section 7).
inline const char* EventScanner::scan_hex(const char* p) noexcept {
    const int value = scanner_text::hex_value(*p);
    if (value < 0) {
        return fail("expected four hexadecimal digits after \\u", p);
    }
    unit_ = unit_ << 4 | static_cast<std::uint32_t>(value);
    if (++token_bytes_ < 4) {
        return p + 1;
    }
    const bool is_high = unit_ >= 0xd800 && unit_ < 0xdc00;
    const bool is_low = unit_ >= 0xdc00 && unit_ < 0xe000;
    if (is_low != (text_ == Text::kPairHex)) {
        return fail(scanner_text::kLoneSurrogate, p);
    }
    if (is_high) {
        high_ = unit_;
        text_ = Text::kPairBackslash;
        return p + 1;
    }
    text_ = Text::kPlain;
    keep_character(is_low ? 0x10000 + ((high_ - 0xd800) << 10) + (unit_ - 0xdc00) : unit_);
    return p + 1;
}

// To the first byte behind the number, which the caller's grammar judges; or to `end`.
inline const char* EventScanner::scan_number(const char* p, const char* end) noexcept {
    for (; p != end; ++p) {
        const char c = *p;
        Number next = number_;  // every case sets it; g++ cannot see that: NOLINT(clang-analyzer-deadcode.DeadStores)
        switch (number_) {
            case Number::kBegin:
                next = c == '-' ? Number::kMinus : c == '0' ? Number::kZero : Number::kInteger;
                number_ = next;
                continue;
            case Number::kMinus:
                next = c == '0' ? Number::kZero : Number::kInteger;
                break;
            case Number::kInteger:
                if (json_bytes::is_digit(c)) {
                    continue;
                }
                [[fallthrough]];
            case Number::kZero:
                if (c == '.') {
                    number_ = Number::kPoint;
                    continue;
                }
                [[fallthrough]];
            case Number::kFraction:
                if (number_ == Number::kFraction && json_bytes::is_digit(c)) {
                    continue;
                }
                if (c == 'e' || c == 'E') {
                    number_ = Number::kE;
                    continue;
                }
                token_ = Token::kNone;
                return p;
            case Number::kExponent:
                if (json_bytes::is_digit(c)) {
                    continue;
                }
                token_ = Token::kNone;
                return p;
            case Number::kPoint:
                next = Number::kFraction;
                break;
            case Number::kE:
                if (c == '+' || c == '-') {
                    number_ = Number::kESign;
                    continue;
                }
                [[fallthrough]];
            case Number::kESign:
                next = Number::kExponent;
                break;
        }
        // Where we are, only a digit will do.
        if (!json_bytes::is_digit(c)) {
            return fail("expected a digit in a number", p);
        }
        number_ = next;
    }
    return p;
}

inline const char* EventScanner::scan_literal(const char* p, const char* end) noexcept {
    while (p != end) {
        if (*p != literal_[token_bytes_]) {
            return fail(scanner_text::kWantsValue, p);
        }
        ++p;
        if (literal_[++token_bytes_] == '\0') {
            token_ = Token::kNone;
            break;
        }
    }
    return p;
}

// ---- What is kept of strings.

inline void EventScanner::keep(const char* begin, const char* end) noexcept {
    const std::string_view part(begin, static_cast<std::size_t>(end - begin));
    if (sink_ == Sink::kName) {
        name_.append(part, hash_key_);
    } else if (sink_ == Sink::kMember) {
        texts_[member_].append(part);
    }
}

inline void EventScanner::keep_character(std::uint32_t code_point) noexcept {
    if (sink_ == Sink::kNowhere) {
        return;
    }
    char bytes[4] = {};
    char* p = bytes;
    const auto put = [&](std::uint32_t byte) { *p++ = static_cast<char>(byte); };
    if (code_point < 0x80) {
        put(code_point);
    } else {
        if (code_point < 0x800) {
            put(0xc0 | code_point >> 6);
        } else {
            if (code_point < 0x10000) {
                put(0xe0 | code_point >> 12);
            } else {
                put(0xf0 | code_point >> 18);
                put(0x80 | (code_point >> 12 & 0x3f));
            }
            put(0x80 | (code_point >> 6 & 0x3f));
        }
        put(0x80 | (code_point & 0x3f));
    }
    keep(bytes, p);
}

inline void EventScanner::MemberText::clear() noexcept {
    length = 0;
    kept = 0;
    has_control = false;
    last = 0;
}

inline void EventScanner::MemberText::append(std::string_view part) noexcept {
    length += part.size();
    const std::size_t taken = std::min(part.size(), kMemberBytesMax - kept);
    std::memcpy(bytes.data() + kept, part.data(), taken);
    kept += taken;
    for (const char c : part) {
        const auto byte = static_cast<unsigned char>(c);
        // U+0080 to U+009F are C2 80 to C2 9F.
        has_control |= byte < 0x20 || byte == 0x7f || (last == 0xc2 && byte < 0xa0);
        last = byte;
    }
}

}  // namespace headgate
