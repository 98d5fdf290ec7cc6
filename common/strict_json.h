// JSON as tokens and key sets may use it, on jansson.
#pragma once

#include <jansson.h>

#include <memory>
#include <string_view>

namespace headgate {

struct JsonDeleter {
    void operator()(json_t* value) const noexcept { json_decref(value); }
};
using Json = std::unique_ptr<json_t, JsonDeleter>;

// An object, or null. Refused: duplicate members, depth over limits::kTokenJsonDepthMax, invalid UTF-8, NUL (escaped
// too), lone surrogates, trailing bytes. Numbers are reals, so that one of 20 digits is no syntax error.
[[nodiscard]] Json parse_strict_object(std::string_view text) noexcept;

// Of a string; empty for anything else and for null.
[[nodiscard]] std::string_view json_text(const json_t* value) noexcept;

}  // namespace headgate
