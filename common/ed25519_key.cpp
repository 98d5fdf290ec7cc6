// What ed25519_key.h declares, on OpenSSL. Next file: webhook_signature.cpp.
#include "common/ed25519_key.h"

#include <openssl/rand.h>

#include <stdexcept>
#include <utility>

namespace headgate {

namespace {

const unsigned char* bytes(std::string_view text) noexcept {
    return reinterpret_cast<const unsigned char*>(text.data());
}

unsigned char* bytes(std::string& text) noexcept { return reinterpret_cast<unsigned char*>(text.data()); }

}  // namespace

Ed25519Key::Ed25519Key(EvpKey key, std::string public_key) : key_(std::move(key)), public_key_(std::move(public_key)) {}

std::optional<Ed25519Key> Ed25519Key::from_seed(std::string_view seed) {
    const OpensslErrorMark mark;
    if (seed.size() != kEd25519SeedBytes) {
        return std::nullopt;
    }
    EvpKey key(EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, nullptr, bytes(seed), seed.size()));
    std::string public_key(kEd25519PublicKeyBytes, '\0');
    std::size_t length = public_key.size();
    if (key == nullptr || EVP_PKEY_get_raw_public_key(key.get(), bytes(public_key), &length) != 1 ||
        length != kEd25519PublicKeyBytes) {
        return std::nullopt;
    }
    return Ed25519Key(std::move(key), std::move(public_key));
}

std::string Ed25519Key::sign(std::string_view message) const {
    const OpensslErrorMark mark;
    const EvpDigestContext context(EVP_MD_CTX_new());
    std::string signature(kEd25519SignatureBytes, '\0');
    std::size_t length = signature.size();
    if (context == nullptr || EVP_DigestSignInit(context.get(), nullptr, nullptr, nullptr, key_.get()) != 1 ||
        EVP_DigestSign(context.get(), bytes(signature), &length, bytes(message), message.size()) != 1 ||
        length != kEd25519SignatureBytes) {
        return {};
    }
    return signature;
}

std::string make_ed25519_seed() {
    const OpensslErrorMark mark;
    std::string seed(kEd25519SeedBytes, '\0');
    if (RAND_priv_bytes(bytes(seed), static_cast<int>(seed.size())) != 1) {
        throw std::runtime_error("OpenSSL has no random bytes for a key pair");
    }
    return seed;
}

}  // namespace headgate
