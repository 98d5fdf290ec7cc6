// The JOSE header of a token (RFC 7515, section 4); verify_jwt() is what callers use.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "common/base64url.h"
#include "common/jwt.h"
#include "common/limits.h"

namespace headgate {

// One decoded segment; a token is at most 8 KiB, so that it fits on the stack.
struct JwtSegment {
    std::array<char, limits::kTokenBytesMax / 4 * 3> bytes;
    std::size_t size = 0;
    [[nodiscard]] std::string_view view() const noexcept { return {bytes.data(), size}; }
    // False for an empty segment too.
    [[nodiscard]] bool decode(std::string_view text) noexcept {
        const auto decoded = base64url_decode_into(text, bytes.data(), bytes.size());
        size = decoded.value_or(0);
        return decoded && size > 0;
    }
};

struct JwtHeader {
    JwtAlgorithm algorithm = JwtAlgorithm::kHs256;
    bool has_kid = false;
    std::uint8_t kid_size = 0;
    std::array<char, limits::kKeyIdBytesMax> kid_bytes;
    [[nodiscard]] std::string_view kid() const noexcept { return {kid_bytes.data(), kid_size}; }
};

// `segment` is base64url. kOk, kMalformed or kAlgorithm; `header` is set only with kOk. Any thread.
[[nodiscard]] JwtStatus read_jwt_header(std::string_view segment, JwtHeader& header) noexcept;

}  // namespace headgate
