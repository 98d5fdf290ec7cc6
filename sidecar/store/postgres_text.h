// What PostgreSQL keeps as text: valid UTF-8 without NUL. JSON that was accepted at the edge is always so; what a
// receiver answers need not be.
#pragma once

#include <string>
#include <string_view>

#include "common/json_bytes.h"

namespace headgate {

[[nodiscard]] inline bool is_storable_text(std::string_view text) noexcept {
    json_bytes::Utf8State state;
    for (char c : text) {
        if (c == '\0' || !state.accept(c)) return false;
    }
    return state.missing == 0;
}

// The text itself, or a copy with U+FFFD for each byte that cannot stand there.
[[nodiscard]] inline std::string storable_text(std::string_view text) {
    if (is_storable_text(text)) return std::string(text);
    std::string out;
    out.reserve(text.size() + 16);
    while (!text.empty()) {
        json_bytes::Utf8State state;
        std::size_t length = 0;
        bool fits = text[0] != '\0';
        while (fits && length < text.size()) {
            fits = state.accept(text[length++]);
            if (state.missing == 0) break;
        }
        if (fits && state.missing == 0) {
            out += text.substr(0, length);
            text.remove_prefix(length);
        } else {
            out += "\xef\xbf\xbd";
            text.remove_prefix(1);
        }
    }
    return out;
}

}  // namespace headgate
