// Secrets at rest: AES-256-GCM (NIST SP 800-38D) under the master key.
//
// Sealed form: "v1:<kid>:<base64(nonce | ciphertext | tag)>", with a random nonce of 12 bytes. The
// associated data "table|column|id" binds a value to its place: copied into another row it does
// not open. The kid names the key without telling it, so that keys rotate: what an older key
// sealed opens as long as that key is given, and is sealed anew with the current one (reseal.h).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "common/result.h"

namespace headgate {

inline constexpr std::size_t kMasterKeyBytes = 32;

class SecretBox {
 public:
    // Every key has kMasterKeyBytes; kInvalidArgument otherwise.
    [[nodiscard]] static Result<SecretBox> make(std::string_view current, const std::vector<std::string>& previous);
    SecretBox(SecretBox&&) noexcept = default;
    SecretBox& operator=(SecretBox&&) noexcept = default;
    SecretBox(const SecretBox&) = delete;
    SecretBox& operator=(const SecretBox&) = delete;
    ~SecretBox();

    // kInternal when OpenSSL has no randomness or memory.
    [[nodiscard]] Result<std::string> seal(std::string_view plain, std::string_view associated_data) const;
    // kCorrupt: not of the sealed form, altered, or moved from another place; kNotFound: sealed under a key that
    // was not given.
    [[nodiscard]] Result<std::string> open(std::string_view sealed, std::string_view associated_data) const;
    [[nodiscard]] const std::string& kid() const noexcept { return keys_.front().kid; }
    // Was this key given, the current one or an older one?
    [[nodiscard]] bool has_key(std::string_view kid) const noexcept;
    // Under which key a text is sealed; empty: it is not of the sealed form.
    [[nodiscard]] static std::string_view kid_of(std::string_view sealed) noexcept;

 private:
    struct Key {
        std::string kid, bytes;
    };
    explicit SecretBox(std::vector<Key> keys) : keys_(std::move(keys)) {}
    std::vector<Key> keys_;  // the current one first
};

}  // namespace headgate
