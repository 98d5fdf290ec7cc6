// Input: the text of a key file. Output: verification keys. Next: jwt.cpp.
#include "common/jwks.h"

#include <array>
#include <cstddef>

#include "common/api_key.h"
#include "common/base64url.h"
#include "common/limits.h"

namespace headgate {

namespace {

constexpr std::array<std::string_view, 13> kAlgorithmNames = {"HS256", "HS384", "HS512", "RS256", "RS384",
                                                              "RS512", "PS256", "PS384", "PS512", "ES256",
                                                              "ES384", "ES512", "EdDSA"};

constexpr std::string_view kSpace = " \t\r\n\v\f";

std::string_view without_leading_space(std::string_view text) noexcept {
    const std::size_t first = text.find_first_not_of(kSpace);
    return first == std::string_view::npos ? std::string_view() : text.substr(first);
}

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
        if (kSpace.find(c) == std::string_view::npos) {
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

// The name of what the text looks like, or nothing. A public key taken for a shared secret would let
// anybody sign (RFC 8725, section 2.1).
std::string_view asymmetric_kind(std::string_view file_text) {
    const std::string_view untrimmed = without_leading_space(file_text);
    const std::string_view text = secret_file_value(untrimmed);
    if (text.starts_with("-----BEGIN")) {
        return "a PEM file";
    }
    if (text.starts_with("{") || text.starts_with("[")) {
        return "a JWK or JWKS";
    }
    if (looks_like_ssh(text)) {
        return "an SSH key";
    }
    if (looks_like_der(untrimmed, text.size()) || looks_like_base64_der(text)) {
        return "a DER file";
    }
    return {};
}

}  // namespace

std::string_view jwt_algorithm_name(JwtAlgorithm algorithm) noexcept {
    return kAlgorithmNames[static_cast<std::size_t>(algorithm)];
}

bool parse_jwt_algorithm(std::string_view name, JwtAlgorithm& out) noexcept {
    for (std::size_t i = 0; i < kAlgorithmNames.size(); ++i) {
        if (kAlgorithmNames[i] == name) {
            out = static_cast<JwtAlgorithm>(i);
            return true;
        }
    }
    return false;
}

std::string thumbprint_of_secret(std::string_view secret) {
    const std::string encoded = base64url_encode(secret);
    const Sha256Digest digest = sha256(R"({"k":")" + encoded, R"(","kty":"oct"})");
    return base64url_encode({reinterpret_cast<const char*>(digest.data()), digest.size()});
}

Result<KeySet> key_set_from_secret(std::string_view file_text, JwtAlgorithm algorithm) {
    if (algorithm != JwtAlgorithm::kHs256) {
        return fail(ErrorCode::kInvalidArgument, "algorithm " + std::string(jwt_algorithm_name(algorithm)) +
                                                     " is not supported for a secret: use alg=HS256");
    }
    if (file_text.size() > limits::kSecretFileBytesMax) {
        return fail(ErrorCode::kInvalidArgument, "the secret is larger than 64 KiB");
    }
    const std::string_view secret = secret_file_value(file_text);
    if (const std::string_view kind = asymmetric_kind(file_text); !kind.empty()) {
        return fail(ErrorCode::kInvalidArgument,
                    "this looks like " + std::string(kind) + ": only a random secret can be an HS256 key");
    }
    if (secret.size() < limits::kSecretBytesMin) {
        return fail(ErrorCode::kInvalidArgument,
                    "the secret has " + std::to_string(secret.size()) + " bytes: HS256 needs at least 32");
    }
    KeySet set;
    set.keys.push_back({thumbprint_of_secret(secret), algorithm, std::make_shared<const HmacSha256Key>(secret)});
    return set;
}

}  // namespace headgate
