// What goes into a Redis key from outside, so that no byte of it can be taken for a hash tag, a separator or a line
// end.
#pragma once

#include <cstddef>
#include <string_view>

namespace headgate {

[[nodiscard]] constexpr std::size_t percent_encoded_bytes_max(std::size_t bytes) noexcept { return 3 * bytes; }

// Writes `text` with all but the unreserved characters (RFC 3986, section 2.3) as %XX, in capitals. `out` has
// percent_encoded_bytes_max(text.size()) bytes. Returns the new end.
inline char* percent_encode(char* out, std::string_view text) noexcept {
    constexpr char kHex[] = "0123456789ABCDEF";
    for (const char c : text) {
        const auto byte = static_cast<unsigned char>(c);
        if ((byte >= '0' && byte <= '9') || (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
            byte == '.' || byte == '-' || byte == '_' || byte == '~') {
            *out++ = c;
        } else {
            *out++ = '%';
            *out++ = kHex[byte >> 4];
            *out++ = kHex[byte & 15];
        }
    }
    return out;
}

}  // namespace headgate
