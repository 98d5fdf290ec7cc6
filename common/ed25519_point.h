// Whether 32 bytes can be an Ed25519 public key (RFC 8032, section 5.1.3), which OpenSSL asks only when it verifies.
#pragma once

#include <string_view>

namespace headgate {

// False for what is not the canonical encoding of a point on the curve, and for the eight points of small order:
// under one of those anybody can make signatures that verify for most texts.
[[nodiscard]] bool ed25519_point_is_proper(std::string_view encoded) noexcept;

}  // namespace headgate
