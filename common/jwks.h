// Verification keys. A key source (a file, the answer of a JWKS URL) yields one KeySet; each key knows
// the algorithms that it may serve, so that a token's header never chooses how a key is used
// (RFC 8725, section 3.1).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/hmac.h"
#include "common/jwt_algorithm.h"
#include "common/key_material.h"
#include "common/result.h"

namespace headgate {

struct VerificationKey {
    std::string kid;          // RFC 7638 SHA-256 thumbprint when the source gave none
    AlgorithmSet algorithms;  // those that this key serves, never empty
    std::shared_ptr<const KeyMaterial> material;
};

struct KeySet {
    std::vector<VerificationKey> keys;  // never empty in a set that was read; kids may repeat
    // One line for each key of the source that is left out and why; shows no key material. At most
    // limits::kKeySetKeysMax of them.
    std::vector<std::string> skipped;
};

// The text of a secret file, for an explicit alg=HS256, HS384 or HS512. Refused: shorter than the hash, or
// looking like a PEM, DER, JWK or SSH key (leading white space included).
[[nodiscard]] Result<KeySet> key_set_from_secret(std::string_view file_text, JwtAlgorithm algorithm);

// The text of a key file of any kind, told apart by what it looks like, never by its name:
//   JSON: a JWKS or one JWK; symmetric keys are accepted;
//   PEM: any number of public keys (SPKI, RSA PUBLIC KEY, EC) and X.509 certificates, of which only the key
//     counts; a private key in it refuses the whole file;
//   anything else: a raw secret, only with `algorithm` HS256, HS384 or HS512.
// `algorithm` restricts every key to it; keys that it does not fit are left out. A key without an algorithm of its
// own serves all that its type and size allow. Errors are kInvalidArgument: nothing usable is left, and why.
// At most limits::kKeySetBytesMax bytes and limits::kKeySetKeysMax keys.
[[nodiscard]] Result<KeySet> key_set_from_file(std::string_view text,
                                               std::optional<JwtAlgorithm> algorithm = std::nullopt);

// Whether keys of kty `oct` are accepted: a secret that comes over the network is none.
enum class SymmetricKeys : std::uint8_t { kRefuse, kAccept };

// A JWKS (RFC 7517, section 5) or one JWK, strict JSON. Keys for something else (`use`, `key_ops`, `alg`, kty or
// curve), private, malformed or weak ones are left out, so that one foreign key does not take down a set; an error
// only when none remains.
[[nodiscard]] Result<KeySet> key_set_from_jwks(std::string_view text, SymmetricKeys symmetric = SymmetricKeys::kRefuse);

// SHA-256 over kid, algorithms and thumbprint of every key, in whatever order the set has them: what a cache of
// verified tokens is bound to. Equal sets have equal digests across processes.
[[nodiscard]] Sha256Digest key_set_digest(const KeySet& set);

}  // namespace headgate
