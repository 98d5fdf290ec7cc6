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

constexpr std::size_t kBlockBytesMax = 128;  // of SHA-384 and SHA-512; SHA-256's are 64
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

void finish_into(EVP_MD_CTX* context, unsigned char* out) noexcept {
    require(EVP_DigestFinal_ex(context, out, nullptr) == 1);
}

Sha256Digest finish(EVP_MD_CTX* context) noexcept {
    Sha256Digest digest;
    finish_into(context, digest.data());
    return digest;
}

const EVP_MD* algorithm_of(Sha2 hash) noexcept {
    if (hash == Sha2::k256) {
        return sha256_algorithm();
    }
    static const EVP_MD* const sha384 = EVP_MD_fetch(nullptr, "SHA384", nullptr);
    static const EVP_MD* const sha512 = EVP_MD_fetch(nullptr, "SHA512", nullptr);
    return hash == Sha2::k384 ? sha384 : sha512;
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

std::size_t digest_into(Sha2 hash, std::string_view text, unsigned char (&out)[64]) noexcept {
    EVP_MD_CTX* context = scratch_context();
    require(EVP_DigestInit_ex2(context, algorithm_of(hash), nullptr) == 1);
    update(context, text);
    finish_into(context, out);
    return hash_bytes(hash);
}

Sha256Digest sha256(std::string_view bytes) noexcept { return sha256(bytes, {}); }

Sha256Digest sha256(std::string_view first, std::string_view second) noexcept {
    EVP_MD_CTX* context = scratch_context();
    require(EVP_DigestInit_ex2(context, sha256_algorithm(), nullptr) == 1);
    update(context, first);
    update(context, second);
    return finish(context);
}

struct HmacStates {
    DigestContext inner{EVP_MD_CTX_new()};
    DigestContext outer{EVP_MD_CTX_new()};
};

namespace {

std::unique_ptr<HmacStates> make_states(Sha2 hash, std::string_view secret) {
    auto states = std::make_unique<HmacStates>();
    const EVP_MD* const algorithm = algorithm_of(hash);
    const std::size_t block_bytes = hash == Sha2::k256 ? 64 : kBlockBytesMax;
    // RFC 2104: a key longer than a block is replaced by its digest, a shorter one padded with zeros.
    std::array<unsigned char, kBlockBytesMax> block{};
    bool right = algorithm != nullptr && states->inner != nullptr && states->outer != nullptr;
    if (right && secret.size() > block_bytes) {
        right = EVP_Digest(secret.data(), secret.size(), block.data(), nullptr, algorithm, nullptr) == 1;
    } else if (!secret.empty() && secret.size() <= block_bytes) {
        std::memcpy(block.data(), secret.data(), secret.size());
    }
    const auto absorb = [&](EVP_MD_CTX* context, unsigned char pad) {
        for (unsigned char& byte : block) {
            byte ^= pad;
        }
        return EVP_DigestInit_ex2(context, algorithm, nullptr) == 1 &&
               EVP_DigestUpdate(context, block.data(), block_bytes) == 1;
    };
    right = right && absorb(states->inner.get(), 0x36) && absorb(states->outer.get(), 0x36 ^ 0x5c);
    OPENSSL_cleanse(block.data(), block.size());
    if (!right) {
        throw std::runtime_error("OpenSSL cannot compute a SHA-2 digest");
    }
    return states;
}

}  // namespace

HmacSha256Key::HmacSha256Key(std::string_view secret) : states_(make_states(Sha2::k256, secret)) {}
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

HmacKey::HmacKey(Sha2 hash, std::string_view secret) : hash_(hash), states_(make_states(hash, secret)) {}
HmacKey::~HmacKey() = default;
HmacKey::HmacKey(HmacKey&&) noexcept = default;
HmacKey& HmacKey::operator=(HmacKey&&) noexcept = default;

void HmacKey::sign_into(std::string_view text, unsigned char (&out)[64]) const noexcept {
    EVP_MD_CTX* context = scratch_context();
    require(EVP_MD_CTX_copy_ex(context, states_->inner.get()) == 1);
    update(context, text);
    finish_into(context, out);
    require(EVP_MD_CTX_copy_ex(context, states_->outer.get()) == 1);
    require(EVP_DigestUpdate(context, out, mac_bytes()) == 1);
    finish_into(context, out);
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

char* hex_encode_into(const Sha256Digest& digest, char* out) noexcept {
    for (const unsigned char byte : digest) {
        *out++ = kHexDigits[byte >> 4];
        *out++ = kHexDigits[byte & 15u];
    }
    return out;
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
