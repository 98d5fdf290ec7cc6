// application/x-www-form-urlencoded: bodies of POST /token and query strings. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/result.h"

namespace headgate {

// %XX; nullopt when a % is not followed by two hexadecimal digits.
[[nodiscard]] std::optional<std::string> percent_decode(std::string_view text);

class Form {
 public:
    // kInvalidArgument: bad percent-encoding, or more than 64 members.
    [[nodiscard]] static Result<Form> parse(std::string_view text);
    // nullptr when absent.
    [[nodiscard]] const std::string* find(std::string_view name) const noexcept;
    [[nodiscard]] std::string_view value(std::string_view name) const noexcept;  // empty when absent
    [[nodiscard]] bool has_repeated_member() const noexcept;
    // A whole number within bounds; `fallback` when absent.
    [[nodiscard]] Result<std::int64_t> integer(std::string_view name, std::int64_t fallback, std::int64_t min,
                                               std::int64_t max) const;

 private:
    std::vector<std::pair<std::string, std::string>> members_;
};

}  // namespace headgate
