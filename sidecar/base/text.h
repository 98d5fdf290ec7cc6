// Small functions on text that the configuration, the API and the command line share. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace headgate {

// "90s", "24h", "90d"; units ms, s, m, h, d, w. nullopt: no number, no unit, or out of range.
[[nodiscard]] std::optional<std::int64_t> parse_duration_ms(std::string_view text) noexcept;
// In the largest unit that divides it: 86400000 -> "1d".
[[nodiscard]] std::string format_duration(std::int64_t ms);
// Whole text as a number from min to max.
[[nodiscard]] std::optional<std::int64_t> parse_integer(std::string_view text, std::int64_t min,
                                                        std::int64_t max) noexcept;
// Split at spaces and commas; empty parts are dropped.
[[nodiscard]] std::vector<std::string> split_list(std::string_view text);
// Is the word in a list separated by single spaces?
[[nodiscard]] bool list_has(std::string_view list, std::string_view word) noexcept;
[[nodiscard]] std::string join(const std::vector<std::string>& parts, std::string_view between);
[[nodiscard]] std::string to_lower(std::string_view text);  // ASCII
// As application/x-www-form-urlencoded has it, but a space is %20.
void append_form_encoded(std::string& out, std::string_view bytes);
// The name with the smallest edit distance; `names` is not empty.
[[nodiscard]] std::string_view nearest(std::string_view text, const std::vector<std::string_view>& names);
// host:port, [v6]:port; nullopt when a part is missing or the port is no number up to 65535.
struct HostPort {
    std::string host;  // without brackets
    std::uint16_t port = 0;
};
[[nodiscard]] std::optional<HostPort> parse_host_port(std::string_view text);

}  // namespace headgate
