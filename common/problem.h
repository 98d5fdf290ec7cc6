// application/problem+json (RFC 9457), the one shape of every error on both sides. Clients of
// older shapes find `detail`, `success: false` and `error` in it as well.
#pragma once

#include <string>
#include <string_view>

namespace headgate {

inline constexpr std::string_view kProblemContentType = "application/problem+json";
inline constexpr std::string_view kQuotaExceededType = "https://iana.org/assignments/http-problem-types#quota-exceeded";

// {"type":…,"title":…,"status":…,"detail":…,"success":false,"error":<detail>[,"errors":…]}.
// An empty type means "about:blank". `extra_members` is valid JSON members without a leading comma, or empty.
[[nodiscard]] std::string problem_json(int status, std::string_view type, std::string_view detail,
                                       std::string_view extra_members = {});
[[nodiscard]] std::string_view status_title(int status) noexcept;  // the reason phrase of RFC 9110, 6585
// Appends text as a JSON string with quotes; invalid UTF-8 becomes U+FFFD.
void append_json_string(std::string& out, std::string_view text);

}  // namespace headgate
