// Input: pieces of a body. Output: their digest. Next: publish (at the edge), which keeps it under an
// Idempotency-Key.
#include "common/sha256.h"

#include <openssl/evp.h>

#include <cstdlib>

namespace headgate {

namespace {

void require(bool succeeded) noexcept {
    if (!succeeded) {
        std::abort();
    }
}

const EVP_MD* algorithm() noexcept {
    static const EVP_MD* const fetched = EVP_MD_fetch(nullptr, "SHA256", nullptr);
    return fetched;
}

}  // namespace

Sha256::Sha256() noexcept : context_(EVP_MD_CTX_new()) {
    require(context_ != nullptr && EVP_DigestInit_ex2(context_, algorithm(), nullptr) == 1);
}

Sha256::~Sha256() { EVP_MD_CTX_free(context_); }

void Sha256::update(std::string_view bytes) noexcept {
    require(bytes.empty() || EVP_DigestUpdate(context_, bytes.data(), bytes.size()) == 1);
}

Sha256Digest Sha256::finish() noexcept {
    Sha256Digest digest;
    require(EVP_DigestFinal_ex(context_, digest.data(), nullptr) == 1);
    require(EVP_DigestInit_ex2(context_, nullptr, nullptr) == 1);
    return digest;
}

}  // namespace headgate
