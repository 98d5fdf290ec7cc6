// The parts of jwks.h that read one form of key each.
#pragma once

#include <jansson.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "common/jwks.h"
#include "common/result.h"

namespace headgate {

// How each reader of keys answers to what it does not take.
[[nodiscard]] inline tl::unexpected<Error> refuse(std::string message) {
    return fail(ErrorCode::kInvalidArgument, std::move(message));
}

// One member of a JWKS (RFC 7517, section 4; RFC 7518, section 6; RFC 8037, section 2). The error says why the key
// is left out. Members that are not known are ignored, as the RFC wants.
[[nodiscard]] Result<VerificationKey> key_from_jwk(const json_t* jwk, SymmetricKeys symmetric);

[[nodiscard]] bool looks_like_pem(std::string_view text) noexcept;
// Every block of a PEM text. An error only for a private key, a text that cannot be read or too many keys;
// blocks that are left out are in `skipped`, and `keys` may be empty.
[[nodiscard]] Result<KeySet> keys_from_pem(std::string_view text);

// What a text looks like. kOther is what can be a raw secret: a public key taken for a shared secret would let anybody
// sign (RFC 8725, section 2.1). White space and a byte order mark at the beginning change nothing.
enum class KeyTextKind : std::uint8_t { kOther, kPem, kJson, kSsh, kDer };
[[nodiscard]] std::string_view key_text_start(std::string_view text) noexcept;  // without those two
[[nodiscard]] KeyTextKind key_text_kind(std::string_view text);
[[nodiscard]] std::string_view key_text_kind_name(KeyTextKind kind) noexcept;  // "a PEM file"

}  // namespace headgate
