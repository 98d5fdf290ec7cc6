// Base64 and base64url (RFC 4648, sections 4 and 5), strict: no white space, no other
// alphabet, no missing or extra padding, no non-zero trailing bits.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace headgate {

// base64url without padding, as JOSE uses it (RFC 7515, appendix C).
[[nodiscard]] std::string base64url_encode(std::string_view bytes);
// Empty optional when the text is not canonical. An empty text decodes to empty bytes.
[[nodiscard]] std::optional<std::string> base64url_decode(std::string_view text);
// Decodes into `out` (capacity `out_bytes`); returns the length, or nullopt when it is not
// canonical or does not fit. No allocation: the edge's token path uses this one.
[[nodiscard]] std::optional<std::size_t> base64url_decode_into(std::string_view text, char* out,
                                                               std::size_t out_bytes) noexcept;

// Standard base64 with padding, as Standard Webhooks secrets and signatures use it.
[[nodiscard]] std::string base64_encode(std::string_view bytes);
[[nodiscard]] std::optional<std::string> base64_decode(std::string_view text);

}  // namespace headgate
