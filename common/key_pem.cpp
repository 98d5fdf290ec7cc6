// Input: PEM text. Output: the public keys in it. Next: jwks.cpp.
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <utility>

#include "common/key_formats.h"
#include "common/limits.h"
#include "common/openssl_handles.h"

namespace headgate {

namespace {

using Bio = std::unique_ptr<BIO, OpensslDeleter<BIO_free>>;
using Certificate = std::unique_ptr<X509, OpensslDeleter<X509_free>>;

// One block as PEM_read_bio() allocates it. Its bytes may be a private key's: they are cleared.
struct PemBlock {
    char* name = nullptr;
    char* header = nullptr;
    unsigned char* bytes = nullptr;
    long size = 0;

    PemBlock() = default;
    PemBlock(const PemBlock&) = delete;
    PemBlock& operator=(const PemBlock&) = delete;
    ~PemBlock() {
        OPENSSL_free(name);
        OPENSSL_free(header);
        OPENSSL_clear_free(bytes, static_cast<std::size_t>(size));
    }
};

// What the block holds, if all of its bytes are that.
EvpKey decode(const PemBlock& block) noexcept {
    const std::string_view name = block.name;
    const unsigned char* at = block.bytes;
    const unsigned char* const end = block.bytes + block.size;
    EvpKey key;
    if (name == PEM_STRING_PUBLIC || name == "EC PUBLIC KEY") {
        key.reset(d2i_PUBKEY(nullptr, &at, block.size));
    } else if (name == PEM_STRING_RSA_PUBLIC) {
        key.reset(d2i_PublicKey(EVP_PKEY_RSA, nullptr, &at, block.size));
    } else if (const Certificate certificate(d2i_X509(nullptr, &at, block.size)); certificate) {
        key.reset(X509_get_pubkey(certificate.get()));
    }
    return at == end ? std::move(key) : nullptr;
}

bool is_known_kind(std::string_view name) noexcept {
    return name == PEM_STRING_PUBLIC || name == "EC PUBLIC KEY" || name == PEM_STRING_RSA_PUBLIC ||
           name == PEM_STRING_X509 || name == PEM_STRING_X509_OLD;
}

Result<VerificationKey> key_of(const PemBlock& block) {
    if (!is_known_kind(block.name)) {
        return refuse("it is neither a public key nor a certificate");
    }
    const EvpKey key = decode(block);
    if (!key) {
        return refuse("OpenSSL cannot read the key");
    }
    auto material = KeyMaterial::from_public_key(key.get());
    if (!material) {
        return tl::unexpected(std::move(material.error()));
    }
    return VerificationKey{(*material)->thumbprint(), (*material)->algorithms(), *material};
}

}  // namespace

bool looks_like_pem(std::string_view text) noexcept {
    // Text may stand before the first block: `openssl x509 -text`, a comment.
    return text.starts_with("-----BEGIN") || text.find("\n-----BEGIN") != std::string_view::npos ||
           text.find("\r-----BEGIN") != std::string_view::npos;
}

Result<KeySet> keys_from_pem(std::string_view text) {
    const OpensslErrorMark mark;
    const Bio bio(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
    if (!bio) {
        return fail(ErrorCode::kInternal, "OpenSSL has no memory for a key file");
    }
    KeySet set;
    for (std::size_t number = 1;; ++number) {
        PemBlock block;
        if (PEM_read_bio(bio.get(), &block.name, &block.header, &block.bytes, &block.size) != 1) {
            if (ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE) {
                return refuse("PEM block " + std::to_string(number) + " cannot be read");
            }
            return set;
        }
        if (number > limits::kKeySetKeysMax) {
            return refuse("more than " + std::to_string(limits::kKeySetKeysMax) + " PEM blocks");
        }
        if (std::string_view(block.name).find("PRIVATE KEY") != std::string_view::npos) {
            return refuse("PEM block " + std::to_string(number) +
                          " is a private key: give the public half (openssl pkey -in FILE -pubout)");
        }
        if (auto key = key_of(block); key) {
            set.keys.push_back(std::move(*key));
        } else {
            set.skipped.push_back("PEM block " + std::to_string(number) + ": " + key.error().message);
        }
    }
}

}  // namespace headgate
