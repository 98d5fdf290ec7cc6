// Below the event scanner: how to pass over runs of JSON bytes, sixteen at a time where the processor
// can (SSE2, which every x86-64 has), eight or one at a time elsewhere.
//
// Pure functions over [p, end); none reads a byte outside it. Both forms are always compiled, so
// that the tests can hold one against the other.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

namespace headgate::json_bytes {

[[nodiscard]] constexpr bool is_space(char c) noexcept { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }
[[nodiscard]] constexpr bool is_digit(char c) noexcept { return static_cast<unsigned char>(c - '0') < 10; }
[[nodiscard]] constexpr bool is_hex(char c) noexcept {
    return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}
[[nodiscard]] constexpr bool is_ascii(char c) noexcept { return static_cast<unsigned char>(c) < 0x80; }

// What a string may hold without further thought: printable ASCII, DEL, but no quote and no backslash.
[[nodiscard]] constexpr bool is_plain(char c) noexcept {
    return static_cast<unsigned char>(c) >= 0x20 && is_ascii(c) && c != '"' && c != '\\';
}

// One character of UTF-8 (RFC 3629), byte by byte: no overlong form, no surrogate, nothing above U+10FFFF.
struct Utf8State {
    std::uint8_t missing = 0;  // continuation bytes still to come
    std::uint8_t least = 0x80;
    std::uint8_t most = 0xbf;

    // False when `c` cannot stand here. A character is whole when `missing` is 0.
    [[nodiscard]] constexpr bool accept(char c) noexcept {
        const auto byte = static_cast<std::uint8_t>(c);
        if (missing == 0) {
            return begin(byte);
        }
        const bool fits = byte >= least && byte <= most;
        *this = {static_cast<std::uint8_t>(missing - 1), 0x80, 0xbf};
        return fits;
    }

 private:
    constexpr bool begin(std::uint8_t byte) noexcept {
        if (byte < 0x80) {
            return true;
        }
        if (byte < 0xc2 || byte > 0xf4) {
            return false;
        }
        missing = byte < 0xe0 ? 1 : byte < 0xf0 ? 2 : 3;
        least = byte == 0xe0 ? 0xa0 : byte == 0xf0 ? 0x90 : 0x80;
        most = byte == 0xed ? 0x9f : byte == 0xf4 ? 0x8f : 0xbf;
        return true;
    }
};

namespace portable {

// To the first byte that is not plain.
[[nodiscard]] inline const char* skip_plain(const char* p, const char* end) noexcept {
    constexpr std::uint64_t kOnes = 0x0101010101010101;
    constexpr std::uint64_t kHighs = 0x8080808080808080;
    while (end - p >= 8) {
        std::uint64_t word;
        std::memcpy(&word, p, 8);
        // The high bit of each sum tells whether a byte below 0x80 is below 0x20, or equals the character. A
        // borrow can only cry wolf above a true hit, and then the loop below looks at each byte.
        const std::uint64_t quote = (word ^ (kOnes * '"')) - kOnes;
        const std::uint64_t backslash = (word ^ (kOnes * '\\')) - kOnes;
        const std::uint64_t control = word - kOnes * 0x20;
        if (((quote | backslash | control | word) & kHighs) != 0) {
            break;
        }
        p += 8;
    }
    while (p != end && is_plain(*p)) {
        ++p;
    }
    return p;
}

// Past white space (RFC 8259, section 2).
[[nodiscard]] inline const char* skip_space(const char* p, const char* end) noexcept {
    while (p != end && is_space(*p)) {
        ++p;
    }
    return p;
}

// Past plain bytes and whole, valid UTF-8 characters: to the first byte that is neither, or to the
// beginning of a character that `end` cuts or that is wrong.
[[nodiscard]] inline const char* skip_text(const char* p, const char* end) noexcept {
    while (p != end) {
        Utf8State state;
        const char* next = p;
        do {
            if (!is_plain(*next) && is_ascii(*next)) {
                return p;
            }
            if (!state.accept(*next)) {
                return p;
            }
            ++next;
        } while (state.missing != 0 && next != end);
        if (state.missing != 0) {
            return p;
        }
        p = next;
    }
    return p;
}

}  // namespace portable

#ifdef __SSE2__
namespace sse2 {

inline constexpr std::ptrdiff_t kBlock = 16;

[[nodiscard]] inline __m128i load(const char* p) noexcept {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
}
[[nodiscard]] inline __m128i each(int byte) noexcept { return _mm_set1_epi8(static_cast<char>(byte)); }
[[nodiscard]] inline std::uint32_t bits(__m128i lanes) noexcept {
    return static_cast<std::uint32_t>(_mm_movemask_epi8(lanes));
}

[[nodiscard]] inline const char* skip_plain(const char* p, const char* end) noexcept {
    while (end - p >= kBlock) {
        const __m128i v = load(p);
        // Signed, the bytes of UTF-8 are negative: one comparison finds them and the control characters.
        const __m128i low = _mm_cmplt_epi8(v, each(0x20));
        const __m128i mark = _mm_or_si128(_mm_cmpeq_epi8(v, each('"')), _mm_cmpeq_epi8(v, each('\\')));
        const std::uint32_t stop = bits(_mm_or_si128(low, mark));
        if (stop != 0) {
            return p + std::countr_zero(stop);
        }
        p += kBlock;
    }
    return portable::skip_plain(p, end);
}

[[nodiscard]] inline const char* skip_space(const char* p, const char* end) noexcept {
    while (end - p >= kBlock) {
        const __m128i v = load(p);
        const __m128i line = _mm_or_si128(_mm_cmpeq_epi8(v, each('\n')), _mm_cmpeq_epi8(v, each('\r')));
        const __m128i blank = _mm_or_si128(_mm_cmpeq_epi8(v, each(' ')), _mm_cmpeq_epi8(v, each('\t')));
        const std::uint32_t stop = bits(_mm_or_si128(line, blank)) ^ 0xffff;
        if (stop != 0) {
            return p + std::countr_zero(stop);
        }
        p += kBlock;
    }
    return portable::skip_space(p, end);
}

// The lead bytes in `v` after which not every continuation byte is good, where `next` has a bad one: E0,
// ED, F0, F4; and those that never are good: C0, C1, F5 and above.
[[nodiscard]] inline __m128i forbidden_leads(__m128i v, __m128i next) noexcept {
    const auto pair = [&](int lead, __m128i wrong) { return _mm_and_si128(_mm_cmpeq_epi8(v, each(lead)), wrong); };
    const __m128i three =
        _mm_or_si128(pair(0xe0, _mm_cmplt_epi8(next, each(0xa0))), pair(0xed, _mm_cmpgt_epi8(next, each(0x9f))));
    const __m128i four =
        _mm_or_si128(pair(0xf0, _mm_cmplt_epi8(next, each(0x90))), pair(0xf4, _mm_cmpgt_epi8(next, each(0x8f))));
    const __m128i never = _mm_or_si128(_mm_cmpeq_epi8(_mm_and_si128(v, each(0xfe)), each(0xc0)),
                                       _mm_cmpeq_epi8(_mm_max_epu8(v, each(0xf5)), v));
    return _mm_or_si128(_mm_or_si128(three, four), never);
}

// Back from `p`, before which all is valid but perhaps cut, to the beginning of the cut character.
[[nodiscard]] inline const char* before_cut(const char* begin, const char* p) noexcept {
    for (std::ptrdiff_t back = 1; back <= 3 && back <= p - begin; ++back) {
        const auto byte = static_cast<unsigned char>(p[-back]);
        if (byte >= 0xc0) {
            const std::ptrdiff_t length = byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : 4;
            return length > back ? p - back : p;
        }
    }
    return p;
}

[[nodiscard]] inline const char* skip_text(const char* p, const char* end) noexcept {
    const char* begin = p;
    // A bit for each place where a character of the last block must go on in this one.
    std::uint32_t carried = 0;
    while (end - p > kBlock) {
        const __m128i v = load(p);
        const std::uint32_t continuation = bits(_mm_cmplt_epi8(v, each(0xc0)));
        const std::uint32_t high = bits(v);
        const std::uint32_t lead = high & ~continuation;
        const std::uint32_t lead3 = bits(_mm_cmpgt_epi8(v, each(0xdf))) & high;
        const std::uint32_t lead4 = bits(_mm_cmpgt_epi8(v, each(0xef))) & high;
        const std::uint32_t expected = carried | lead << 1 | lead3 << 2 | lead4 << 3;
        const __m128i mark = _mm_or_si128(_mm_cmpeq_epi8(v, each('"')), _mm_cmpeq_epi8(v, each('\\')));
        const __m128i control = _mm_cmpeq_epi8(_mm_min_epu8(v, each(0x1f)), v);
        const __m128i forbidden = forbidden_leads(v, load(p + 1));
        const std::uint32_t stop =
            ((expected ^ continuation) & 0xffff) | bits(_mm_or_si128(_mm_or_si128(mark, control), forbidden));
        if (stop != 0) {
            p += std::countr_zero(stop);
            break;
        }
        carried = expected >> kBlock;
        p += kBlock;
    }
    return portable::skip_text(before_cut(begin, p), end);
}

}  // namespace sse2
namespace native = sse2;
#else
namespace native = portable;
#endif

[[nodiscard]] inline const char* skip_space(const char* p, const char* end) noexcept {
    // Most JSON between machines has no white space: the first byte settles it.
    return p == end || static_cast<unsigned char>(*p) > ' ' ? p : native::skip_space(p, end);
}

[[nodiscard]] inline const char* skip_digits(const char* p, const char* end) noexcept {
    while (p != end && is_digit(*p)) {
        ++p;
    }
    return p;
}

}  // namespace headgate::json_bytes
