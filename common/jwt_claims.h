// The claims of a token, read and checked; verify_jwt() is what callers use.
#pragma once

#include <jansson.h>

#include <cstdint>

#include "common/jwt.h"

namespace headgate {

// `result` must be fresh; its status, claims (but kid) and claim are set. iss is looked at first: kBadIssuer says that
// the token belongs to another source and that nothing else was read. Claims may be half filled when the status is not
// kOk.
void read_jwt_claims(const json_t* payload, const JwtSource& source, const JwtPolicy& policy, std::int64_t now_seconds,
                     JwtVerification& result);

}  // namespace headgate
