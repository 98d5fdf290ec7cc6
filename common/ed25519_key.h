// Ed25519 key pairs (RFC 8032), for signing. Verifying is key_material.h's.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "common/openssl_handles.h"

namespace headgate {

inline constexpr std::size_t kEd25519SeedBytes = 32;
inline constexpr std::size_t kEd25519PublicKeyBytes = 32;
inline constexpr std::size_t kEd25519SignatureBytes = 64;

class Ed25519Key {
 public:
    // The private key of RFC 8032, section 5.1.5. nullopt: not 32 bytes, or OpenSSL fails.
    [[nodiscard]] static std::optional<Ed25519Key> from_seed(std::string_view seed);
    [[nodiscard]] const std::string& public_key() const noexcept { return public_key_; }  // 32 bytes
    // 64 bytes, always the same for the same message; empty if OpenSSL fails.
    [[nodiscard]] std::string sign(std::string_view message) const;

 private:
    Ed25519Key(EvpKey key, std::string public_key);

    EvpKey key_;
    std::string public_key_;
};

// 32 random bytes. Throws std::runtime_error when OpenSSL has none.
[[nodiscard]] std::string make_ed25519_seed();

}  // namespace headgate
