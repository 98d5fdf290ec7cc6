// See strict_json.h.
#include "common/strict_json.h"

#include <algorithm>
#include <cstddef>

#include "common/limits.h"

namespace headgate {

namespace {

// Counted before parsing, because the parser's own limit is far away and its recursion is real.
bool is_too_deep(std::string_view text) noexcept {
    const auto opens = [](char c) { return c == '{' || c == '['; };
    if (std::count_if(text.begin(), text.end(), opens) <= limits::kTokenJsonDepthMax) {
        return false;  // most texts: nothing else need be looked at
    }
    int depth = 0;
    bool in_string = false;
    for (std::size_t i = 0; i < text.size(); ++i) {
        const char c = text[i];
        if (in_string) {
            i += c == '\\' ? 1 : 0;
            in_string = c != '"';
        } else if (c == '"') {
            in_string = true;
        } else if (opens(c)) {
            if (++depth > limits::kTokenJsonDepthMax) {
                return true;
            }
        } else if (c == '}' || c == ']') {
            --depth;
        }
    }
    return false;
}

}  // namespace

Json parse_strict_object(std::string_view text) noexcept {
    if (is_too_deep(text)) {
        return nullptr;
    }
    json_error_t error;
    Json value(json_loadb(text.data(), text.size(), JSON_REJECT_DUPLICATES | JSON_DECODE_INT_AS_REAL, &error));
    return value && json_is_object(value.get()) ? std::move(value) : nullptr;
}

std::string_view json_text(const json_t* value) noexcept {
    return json_is_string(value) ? std::string_view(json_string_value(value), json_string_length(value))
                                 : std::string_view();
}

}  // namespace headgate
