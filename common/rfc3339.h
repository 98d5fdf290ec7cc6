// Times: milliseconds since the epoch inside, RFC 3339 UTC `YYYY-MM-DDThh:mm:ss.mmmZ` outside.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace headgate {

inline constexpr int kRfc3339Bytes = 24;

void rfc3339_format_into(std::int64_t epoch_ms, char (&out)[kRfc3339Bytes]) noexcept;  // years 1970 to 9999, clamped
[[nodiscard]] std::string rfc3339_format(std::int64_t epoch_ms);
// Accepts any offset and 0 to 9 fraction digits (rounded down to ms).
[[nodiscard]] std::optional<std::int64_t> rfc3339_parse(std::string_view text) noexcept;

}  // namespace headgate
