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

struct HmacStates;  // the inner and outer digest contexts, keyed; hmac.cpp

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
    std::unique_ptr<HmacStates> states_;
};

// The hashes that JWS algorithms are named after (RFC 7518, section 3.1).
enum class Sha2 : std::uint8_t { k256, k384, k512 };
[[nodiscard]] constexpr std::size_t hash_bytes(Sha2 hash) noexcept {
    return hash == Sha2::k256 ? 32 : hash == Sha2::k384 ? 48 : 64;
}
// Writes hash_bytes(hash) bytes and returns how many those are.
std::size_t digest_into(Sha2 hash, std::string_view text, unsigned char (&out)[64]) noexcept;

// HmacSha256Key for a hash that is chosen at run time; the same promises.
class HmacKey {
 public:
    HmacKey(Sha2 hash, std::string_view secret);  // throws std::runtime_error if OpenSSL fails
    ~HmacKey();
    HmacKey(HmacKey&&) noexcept;
    HmacKey& operator=(HmacKey&&) noexcept;
    [[nodiscard]] std::size_t mac_bytes() const noexcept { return hash_bytes(hash_); }
    // Writes mac_bytes() bytes.
    void sign_into(std::string_view text, unsigned char (&out)[64]) const noexcept;

 private:
    Sha2 hash_;
    std::unique_ptr<HmacStates> states_;
};

[[nodiscard]] std::string hex_encode(std::string_view bytes);  // lowercase
[[nodiscard]] std::string hex_encode(const Sha256Digest& digest);
// `out` has 64 bytes. Returns the new end.
char* hex_encode_into(const Sha256Digest& digest, char* out) noexcept;

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
