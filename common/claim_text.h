// Claims as text, for nginx variables.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace headgate {

// The JSON in the second segment of a token; nullopt when there are not three segments or that one is not strict
// base64url. Verifies nothing: for tokens that verify_jwt() has accepted.
[[nodiscard]] std::optional<std::string> jwt_payload(std::string_view token);

// The value found by going from object to object along `path`, as text:
//   string   as it is; absent when it has control characters (a header that carries it could be split)
//   number   an integer without fraction or exponent, exact up to 2^53 (1e3 is 1000); longer ones and true fractions
//            as the token has them
//   bool     1 or 0, so that "non-empty and not 0" means true
//   array    its items joined with commas; absent when an item is an object, an array, null or an absent string.
//            Commas inside items are not escaped.
//   object, null, nothing at that path, an empty path: absent
// Names are compared after their escapes are resolved. `payload_json` is what jwt_payload() gave for a token that
// verify_jwt() has accepted (so: strict JSON of bounded depth); of other text the answer means nothing, but is safe.
[[nodiscard]] std::optional<std::string> claim_text(std::string_view payload_json,
                                                    std::span<const std::string_view> path);

}  // namespace headgate
