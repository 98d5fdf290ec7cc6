// SHA-256 and HMAC (FIPS 180-4, RFC 2104) on OpenSSL, hexadecimal, constant-time comparison.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace headgate {

using Sha256Digest = std::array<unsigned char, 32>;

[[nodiscard]] Sha256Digest sha256(std::string_view bytes) noexcept;
[[nodiscard]] Sha256Digest sha256(std::string_view first, std::string_view second) noexcept;

// HMAC-SHA-256 with the inner and outer states computed once, so that a call costs two state
// copies and no key set-up or algorithm fetch. Immutable after construction; safe to share
// between threads. Its copy of the key's bytes is cleared from memory once the states exist.
// Nothing fails after construction: if OpenSSL cannot compute a digest, the process aborts rather
// than compare a wrong MAC.
class HmacSha256Key {
 public:
    explicit HmacSha256Key(std::string_view secret);  // throws std::runtime_error if OpenSSL fails
    ~HmacSha256Key();
    HmacSha256Key(HmacSha256Key&&) noexcept;
    HmacSha256Key& operator=(HmacSha256Key&&) noexcept;
    // The MAC of the concatenation of up to four parts.
    [[nodiscard]] Sha256Digest sign(std::string_view a, std::string_view b = {}, std::string_view c = {},
                                    std::string_view d = {}) const noexcept;

 private:
    struct States;
    std::unique_ptr<States> states_;
};

[[nodiscard]] std::string hex_encode(std::string_view bytes);  // lowercase
[[nodiscard]] std::string hex_encode(const Sha256Digest& digest);
void hex_encode_into(const Sha256Digest& digest, char (&out)[64]) noexcept;

// True when equal; the time depends on the lengths only (CRYPTO_memcmp).
[[nodiscard]] bool equal_constant_time(std::string_view a, std::string_view b) noexcept;

// CRC-32C (Castagnoli, RFC 3720 appendix B.4), the shard hash. `seed` chains calls: pass the
// previous result to continue over a further part; 0 to begin.
[[nodiscard]] std::uint32_t crc32c(std::string_view bytes, std::uint32_t seed = 0) noexcept;
// The same without the processor's own instruction: what crc32c() uses where there is none.
[[nodiscard]] std::uint32_t crc32c_portable(std::string_view bytes, std::uint32_t seed = 0) noexcept;
// CRC-32 (ISO-HDLC), the checksum suffix of an API key.
[[nodiscard]] std::uint32_t crc32(std::string_view bytes) noexcept;

}  // namespace headgate
