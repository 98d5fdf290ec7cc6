// Input: bytes and secrets. Output: digests, MACs and checksums. Next: jwt.cpp, api_key.cpp and
// webhook_signature.cpp, which give them a meaning.
#include "common/hmac.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>

#if defined(__x86_64__)
#include <nmmintrin.h>
#endif

#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <utility>

namespace headgate {

namespace {

constexpr std::size_t kBlockBytes = 64;
constexpr char kHexDigits[] = "0123456789abcdef";

struct DigestContextDeleter {
    void operator()(EVP_MD_CTX* context) const noexcept { EVP_MD_CTX_free(context); }
};
using DigestContext = std::unique_ptr<EVP_MD_CTX, DigestContextDeleter>;

// Fetched once and never freed: the process keeps one reference, so that no order of destruction
// at exit matters.
const EVP_MD* sha256_algorithm() noexcept {
    static const EVP_MD* const algorithm = EVP_MD_fetch(nullptr, "SHA256", nullptr);
    return algorithm;
}

// A digest that could not be computed must never be compared with anything: out of memory or a
// broken OpenSSL ends the process.
void require(bool succeeded) noexcept {
    if (!succeeded) {
        std::abort();
    }
}

// One context for each thread, overwritten by every use: no allocation of contexts per call.
EVP_MD_CTX* scratch_context() noexcept {
    thread_local const DigestContext context{EVP_MD_CTX_new()};
    require(context != nullptr);
    return context.get();
}

void update(EVP_MD_CTX* context, std::string_view bytes) noexcept {
    if (!bytes.empty()) {
        require(EVP_DigestUpdate(context, bytes.data(), bytes.size()) == 1);
    }
}

Sha256Digest finish(EVP_MD_CTX* context) noexcept {
    Sha256Digest digest;
    require(EVP_DigestFinal_ex(context, digest.data(), nullptr) == 1);
    return digest;
}

// The table of a reflected CRC-32 polynomial (Sarwate's method: one entry per byte value).
constexpr std::array<std::uint32_t, 256> make_crc_table(std::uint32_t reflected_polynomial) {
    std::array<std::uint32_t, 256> table{};
    for (std::uint32_t byte = 0; byte < 256; ++byte) {
        std::uint32_t crc = byte;
        for (int bit = 0; bit < 8; ++bit) {
            crc = (crc & 1u) != 0 ? (crc >> 1) ^ reflected_polynomial : crc >> 1;
        }
        table[byte] = crc;
    }
    return table;
}

constexpr auto kCrc32Table = make_crc_table(0xEDB88320u);
constexpr auto kCrc32cTable = make_crc_table(0x82F63B78u);

std::uint32_t crc_by_table(const std::array<std::uint32_t, 256>& table, std::string_view bytes,
                           std::uint32_t seed) noexcept {
    std::uint32_t crc = ~seed;
    for (const char byte : bytes) {
        crc = (crc >> 8) ^ table[(crc ^ static_cast<unsigned char>(byte)) & 0xffu];
    }
    return ~crc;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) std::uint32_t crc32c_by_instruction(std::string_view bytes,
                                                                      std::uint32_t seed) noexcept {
    const char* at = bytes.data();
    std::size_t left = bytes.size();
    std::uint64_t crc = static_cast<std::uint32_t>(~seed);
    for (; left >= 8; at += 8, left -= 8) {
        std::uint64_t word;
        std::memcpy(&word, at, 8);
        crc = _mm_crc32_u64(crc, word);
    }
    auto crc32 = static_cast<std::uint32_t>(crc);
    for (; left > 0; ++at, --left) {
        crc32 = _mm_crc32_u8(crc32, static_cast<unsigned char>(*at));
    }
    return ~crc32;
}
#endif

}  // namespace

Sha256Digest sha256(std::string_view bytes) noexcept { return sha256(bytes, {}); }

Sha256Digest sha256(std::string_view first, std::string_view second) noexcept {
    EVP_MD_CTX* context = scratch_context();
    require(EVP_DigestInit_ex2(context, sha256_algorithm(), nullptr) == 1);
    update(context, first);
    update(context, second);
    return finish(context);
}

struct HmacSha256Key::States {
    DigestContext inner{EVP_MD_CTX_new()};
    DigestContext outer{EVP_MD_CTX_new()};
};

HmacSha256Key::HmacSha256Key(std::string_view secret) : states_(std::make_unique<States>()) {
    // RFC 2104: a key longer than a block is replaced by its digest, a shorter one padded with zeros.
    std::array<unsigned char, kBlockBytes> block{};
    if (secret.size() > kBlockBytes) {
        Sha256Digest digest = sha256(secret);
        std::memcpy(block.data(), digest.data(), digest.size());
        OPENSSL_cleanse(digest.data(), digest.size());
    } else if (!secret.empty()) {
        std::memcpy(block.data(), secret.data(), secret.size());
    }
    const auto absorb = [&block](EVP_MD_CTX* context, unsigned char pad) {
        for (unsigned char& byte : block) {
            byte ^= pad;
        }
        return context != nullptr && EVP_DigestInit_ex2(context, sha256_algorithm(), nullptr) == 1 &&
               EVP_DigestUpdate(context, block.data(), block.size()) == 1;
    };
    const bool absorbed = absorb(states_->inner.get(), 0x36) && absorb(states_->outer.get(), 0x36 ^ 0x5c);
    OPENSSL_cleanse(block.data(), block.size());
    if (!absorbed) {
        throw std::runtime_error("OpenSSL cannot compute SHA-256");
    }
}

HmacSha256Key::~HmacSha256Key() = default;
HmacSha256Key::HmacSha256Key(HmacSha256Key&&) noexcept = default;
HmacSha256Key& HmacSha256Key::operator=(HmacSha256Key&&) noexcept = default;

Sha256Digest HmacSha256Key::sign(std::string_view a, std::string_view b, std::string_view c,
                                 std::string_view d) const noexcept {
    EVP_MD_CTX* context = scratch_context();
    require(EVP_MD_CTX_copy_ex(context, states_->inner.get()) == 1);
    update(context, a);
    update(context, b);
    update(context, c);
    update(context, d);
    const Sha256Digest inner = finish(context);
    require(EVP_MD_CTX_copy_ex(context, states_->outer.get()) == 1);
    require(EVP_DigestUpdate(context, inner.data(), inner.size()) == 1);
    return finish(context);
}

std::string hex_encode(std::string_view bytes) {
    std::string text;
    text.reserve(bytes.size() * 2);
    for (const char signed_byte : bytes) {
        const auto byte = static_cast<unsigned char>(signed_byte);
        text += kHexDigits[byte >> 4];
        text += kHexDigits[byte & 15u];
    }
    return text;
}

std::string hex_encode(const Sha256Digest& digest) {
    char text[64];
    hex_encode_into(digest, text);
    return {text, sizeof text};
}

void hex_encode_into(const Sha256Digest& digest, char (&out)[64]) noexcept {
    char* at = out;
    for (const unsigned char byte : digest) {
        *at++ = kHexDigits[byte >> 4];
        *at++ = kHexDigits[byte & 15u];
    }
}

bool equal_constant_time(std::string_view a, std::string_view b) noexcept {
    return a.size() == b.size() && (a.empty() || CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0);
}

std::uint32_t crc32c(std::string_view bytes, std::uint32_t seed) noexcept {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("sse4.2")) {
        return crc32c_by_instruction(bytes, seed);
    }
#endif
    return crc32c_portable(bytes, seed);
}

std::uint32_t crc32c_portable(std::string_view bytes, std::uint32_t seed) noexcept {
    return crc_by_table(kCrc32cTable, bytes, seed);
}

std::uint32_t crc32(std::string_view bytes) noexcept { return crc_by_table(kCrc32Table, bytes, 0); }

}  // namespace headgate
