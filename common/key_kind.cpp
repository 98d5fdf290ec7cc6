// Input: text that is said to be a secret. Output: what else it looks like. Next: jwks.cpp and key_jwk.cpp.
#include <array>
#include <cstddef>
#include <string>

#include "common/api_key.h"
#include "common/base64url.h"
#include "common/key_formats.h"

namespace headgate {

namespace {

constexpr std::string_view kTextSpace = " \t\r\n\v\f";

bool has_unprintable(std::string_view text) noexcept {
    for (const char c : text) {
        if (c < ' ' || c > '~') {
            return true;
        }
    }
    return false;
}

// An ASN.1 SEQUENCE (X.690, section 8.1) whose length spans the text: how every DER key begins. `bytes_min` is how
// much of it is left when what may be white space after a key, or a key's own last bytes, is removed.
// Printable text is no DER: a key's INTEGERs and tags are control characters.
bool looks_like_der(std::string_view text, std::size_t bytes_min) noexcept {
    const auto at = [text](std::size_t i) { return static_cast<unsigned char>(text[i]); };
    if (text.size() < 2 || at(0) != 0x30) {
        return false;
    }
    std::size_t header_bytes = 2;
    std::size_t content_bytes = at(1);
    if (at(1) >= 0x80) {
        const std::size_t length_bytes = at(1) & 0x7fu;
        if (length_bytes == 0 || length_bytes > 4 || text.size() < 2 + length_bytes) {
            return false;
        }
        content_bytes = 0;
        for (std::size_t i = 0; i < length_bytes; ++i) {
            content_bytes = content_bytes << 8 | at(2 + i);
        }
        header_bytes += length_bytes;
    }
    const std::size_t total_bytes = header_bytes + content_bytes;
    return total_bytes >= bytes_min && total_bytes <= text.size() && has_unprintable(text.substr(0, bytes_min));
}

// A public key is also shown as PEM's base64 without its first and last line.
bool looks_like_base64_der(std::string_view text) {
    std::string characters;
    for (const char c : text) {
        if (kTextSpace.find(c) == std::string_view::npos) {
            characters += c;
        }
    }
    const auto der = base64_decode(characters);
    return der && looks_like_der(*der, der->size());
}

bool looks_like_ssh(std::string_view text) noexcept {
    for (const std::string_view prefix : {"ssh-", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-sha2-", "---- BEGIN SSH2"}) {
        if (text.starts_with(prefix)) {
            return true;
        }
    }
    return false;
}

}  // namespace

std::string_view key_text_start(std::string_view text) noexcept {
    constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";
    if (text.starts_with(kByteOrderMark)) {
        text.remove_prefix(kByteOrderMark.size());
    }
    const std::size_t first = text.find_first_not_of(kTextSpace);
    return first == std::string_view::npos ? std::string_view() : text.substr(first);
}

std::string_view key_text_kind_name(KeyTextKind kind) noexcept {
    static constexpr std::array<std::string_view, 5> kNames = {"a secret", "a PEM file", "a JWK or JWKS", "an SSH key",
                                                               "a DER file"};
    return kNames[static_cast<std::size_t>(kind)];
}

KeyTextKind key_text_kind(std::string_view text) {
    const std::string_view untrimmed = key_text_start(text);
    const std::string_view value = secret_file_value(untrimmed);
    if (looks_like_pem(value)) {
        return KeyTextKind::kPem;
    }
    if (value.starts_with("{") || value.starts_with("[")) {
        return KeyTextKind::kJson;
    }
    if (looks_like_ssh(value)) {
        return KeyTextKind::kSsh;
    }
    if (looks_like_der(untrimmed, value.size()) || looks_like_base64_der(value)) {
        return KeyTextKind::kDer;
    }
    return KeyTextKind::kOther;
}

}  // namespace headgate
