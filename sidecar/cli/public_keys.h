// The public keys of webhooks, as somebody who verifies has them.
#pragma once

#include <string>

#include "common/jwks.h"
#include "common/result.h"

namespace headgate {

// `where`: "whpk_" and base64; an http or https URL of a JWK set; else a file with a PEM, JWK, JWK set or whpk_ text.
// Only Ed25519 keys are kept. Waits for a URL at most 10 s. kInvalidArgument, kNotFound, kUnavailable.
[[nodiscard]] Result<KeySet> read_public_keys(const std::string& where);

}  // namespace headgate
