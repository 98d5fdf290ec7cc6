// AES-256-GCM at rest; see secret_box.h.
#include "sidecar/store/secret_box.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>

#include <memory>

#include "common/base64url.h"
#include "common/hmac.h"

namespace headgate {
namespace {

constexpr std::string_view kVersion = "v1:";
constexpr std::size_t kNonceBytes = 12;
constexpr std::size_t kTagBytes = 16;
constexpr std::size_t kKidBytes = 8;  // hexadecimal digits
constexpr std::size_t kHeadBytes = kVersion.size() + kKidBytes + 1;

struct CipherDeleter {
    void operator()(EVP_CIPHER_CTX* context) const noexcept { EVP_CIPHER_CTX_free(context); }
};
using CipherPtr = std::unique_ptr<EVP_CIPHER_CTX, CipherDeleter>;

unsigned char* bytes_of(std::string& text) { return reinterpret_cast<unsigned char*>(text.data()); }
const unsigned char* bytes_of(std::string_view text) { return reinterpret_cast<const unsigned char*>(text.data()); }

}  // namespace

Result<SecretBox> SecretBox::make(std::string_view current, const std::vector<std::string>& previous) {
    std::vector<Key> keys;
    keys.reserve(previous.size() + 1);
    auto add = [&keys](std::string_view bytes) {
        if (bytes.size() != kMasterKeyBytes) return false;
        HmacSha256Key mac(bytes);
        keys.push_back({hex_encode(mac.sign("headgate master key id")).substr(0, kKidBytes), std::string(bytes)});
        return true;
    };
    bool all_fit = add(current);
    for (const std::string& key : previous) all_fit = add(key) && all_fit;
    if (!all_fit) return fail(ErrorCode::kInvalidArgument, "a master key must have 32 bytes");
    return SecretBox(std::move(keys));
}

SecretBox::~SecretBox() {
    for (Key& key : keys_) OPENSSL_cleanse(key.bytes.data(), key.bytes.size());
}

std::string_view SecretBox::kid_of(std::string_view sealed) noexcept {
    if (!sealed.starts_with(kVersion) || sealed.size() < kHeadBytes || sealed[kHeadBytes - 1] != ':') return {};
    return sealed.substr(kVersion.size(), kKidBytes);
}

bool SecretBox::has_key(std::string_view kid) const noexcept {
    for (const Key& key : keys_) {
        if (key.kid == kid) return true;
    }
    return false;
}

Result<std::string> SecretBox::seal(std::string_view plain, std::string_view associated_data) const {
    std::string box(kNonceBytes + plain.size() + kTagBytes, '\0');
    unsigned char* nonce = bytes_of(box);
    unsigned char* cipher_text = nonce + kNonceBytes;
    unsigned char* tag = cipher_text + plain.size();
    CipherPtr context(EVP_CIPHER_CTX_new());
    int length = 0;
    bool ok =
        context && RAND_bytes(nonce, kNonceBytes) == 1 &&
        EVP_EncryptInit_ex(context.get(), EVP_aes_256_gcm(), nullptr, bytes_of(std::string_view(keys_[0].bytes)),
                           nonce) == 1 &&
        EVP_EncryptUpdate(context.get(), nullptr, &length, bytes_of(associated_data),
                          static_cast<int>(associated_data.size())) == 1 &&
        EVP_EncryptUpdate(context.get(), cipher_text, &length, bytes_of(plain), static_cast<int>(plain.size())) == 1 &&
        EVP_EncryptFinal_ex(context.get(), tag, &length) == 1 &&
        EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_GCM_GET_TAG, kTagBytes, tag) == 1;
    if (!ok) return fail(ErrorCode::kInternal, "OpenSSL could not encrypt a secret");
    return std::string(kVersion) + keys_[0].kid + ":" + base64_encode(box);
}

Result<std::string> SecretBox::open(std::string_view sealed, std::string_view associated_data) const {
    const std::string_view kid = kid_of(sealed);
    if (kid.empty()) return fail(ErrorCode::kCorrupt, "an encrypted column does not hold v1:<kid>:<base64>");
    const Key* key = nullptr;
    for (const Key& candidate : keys_) {
        if (candidate.kid == kid) key = &candidate;
    }
    if (key == nullptr) {
        return fail(ErrorCode::kNotFound,
                    "a secret is encrypted under master key " + std::string(kid) + ", which was not given");
    }
    std::optional<std::string> box = base64_decode(sealed.substr(kHeadBytes));
    if (!box || box->size() < kNonceBytes + kTagBytes) {
        return fail(ErrorCode::kCorrupt, "an encrypted column is not base64 or too short");
    }
    std::size_t plain_bytes = box->size() - kNonceBytes - kTagBytes;
    std::string plain(plain_bytes, '\0');
    unsigned char* nonce = bytes_of(*box);
    CipherPtr context(EVP_CIPHER_CTX_new());
    int length = 0;
    bool ok =
        context &&
        EVP_DecryptInit_ex(context.get(), EVP_aes_256_gcm(), nullptr, bytes_of(std::string_view(key->bytes)), nonce) ==
            1 &&
        EVP_DecryptUpdate(context.get(), nullptr, &length, bytes_of(associated_data),
                          static_cast<int>(associated_data.size())) == 1 &&
        EVP_DecryptUpdate(context.get(), bytes_of(plain), &length, nonce + kNonceBytes,
                          static_cast<int>(plain_bytes)) == 1 &&
        EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_GCM_SET_TAG, kTagBytes, nonce + kNonceBytes + plain_bytes) == 1 &&
        EVP_DecryptFinal_ex(context.get(), nonce, &length) == 1;
    if (!ok) return fail(ErrorCode::kCorrupt, "an encrypted column was altered or moved from another row");
    return plain;
}

}  // namespace headgate
