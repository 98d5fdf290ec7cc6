// Input: the payload of a verified token. Output: the text of one claim. Next: variables at the edge.
//
// Works on the text rather than on a parsed tree, because a parser turns long numbers into doubles.
#include "common/claim_text.h"

#include <jansson.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>

#include "common/base64url.h"
#include "common/event_record.h"
#include "common/strict_json.h"

namespace headgate {

namespace {

constexpr double kExactIntegerLimit = 9'007'199'254'740'992.0;  // 2^53: from here on doubles skip integers
constexpr std::string_view kJsonSpace = " \t\r\n";

// Takes JSON apart from the front. Each function removes what it returns; nullopt or false: not there.
class JsonText {
 public:
    explicit JsonText(std::string_view text) noexcept : text_(text) {}

    [[nodiscard]] bool take(char c) noexcept {
        skip_space();
        if (text_.empty() || text_[0] != c) {
            return false;
        }
        text_.remove_prefix(1);
        return true;
    }
    // One value of any kind, without the white space around it.
    [[nodiscard]] std::optional<std::string_view> value() noexcept {
        skip_space();
        const std::size_t bytes = value_bytes();
        if (bytes == 0) {
            return std::nullopt;
        }
        const std::string_view taken = text_.substr(0, bytes);
        text_.remove_prefix(bytes);
        return taken;
    }

 private:
    void skip_space() noexcept { text_.remove_prefix(std::min(text_.find_first_not_of(kJsonSpace), text_.size())); }

    // The length of a string at `from`, its quotes included; 0: it does not end.
    [[nodiscard]] std::size_t string_bytes(std::size_t from) const noexcept {
        for (std::size_t i = from + 1; i < text_.size(); ++i) {
            if (text_[i] == '"') {
                return i + 1 - from;
            }
            i += text_[i] == '\\' ? 1 : 0;
        }
        return 0;
    }
    [[nodiscard]] std::size_t value_bytes() const noexcept {
        if (text_.empty()) {
            return 0;
        }
        if (text_[0] == '"') {
            return string_bytes(0);
        }
        if (text_[0] != '{' && text_[0] != '[') {
            return std::min(text_.find_first_of(" \t\r\n,]}"), text_.size());
        }
        std::size_t depth = 0;
        for (std::size_t i = 0; i < text_.size(); ++i) {
            if (text_[i] == '"') {
                const std::size_t bytes = string_bytes(i);
                if (bytes == 0) {
                    return 0;
                }
                i += bytes - 1;
            } else if (text_[i] == '{' || text_[i] == '[') {
                ++depth;
            } else if ((text_[i] == '}' || text_[i] == ']') && --depth == 0) {
                return i + 1;
            }
        }
        return 0;
    }

    std::string_view text_;
};

std::optional<std::string> unquoted(std::string_view text) {
    if (text.size() >= 2 && text.find('\\') == std::string_view::npos) {
        return std::string(text.substr(1, text.size() - 2));
    }
    json_error_t error;
    const Json value(json_loadb(text.data(), text.size(), JSON_DECODE_ANY, &error));
    if (!json_is_string(value.get())) {
        return std::nullopt;
    }
    return std::string(json_text(value.get()));
}

std::string number_text(std::string_view text) {
    double value = 0;
    const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
    const bool is_exact = parsed.ec == std::errc() && parsed.ptr == text.data() + text.size() &&
                          std::abs(value) < kExactIntegerLimit && std::trunc(value) == value;
    return is_exact ? std::to_string(static_cast<std::int64_t>(value)) : std::string(text);
}

std::optional<std::string> scalar_text(std::string_view value) {
    const char first = value[0];
    if (first == '"') {
        auto text = unquoted(value);
        return text && !has_control_characters(*text) ? std::move(text) : std::nullopt;
    }
    if (value == "true" || value == "false") {
        return value == "true" ? "1" : "0";
    }
    if (first == '-' || (first >= '0' && first <= '9')) {
        return number_text(value);
    }
    return std::nullopt;
}

std::optional<std::string> array_text(std::string_view array) {
    JsonText rest(array);
    std::string joined;
    if (!rest.take('[')) {
        return std::nullopt;
    }
    if (rest.take(']')) {
        return joined;
    }
    do {
        const auto item = rest.value();
        const auto text = item ? scalar_text(*item) : std::nullopt;
        if (!text) {
            return std::nullopt;
        }
        joined.append(*text).append(",");
    } while (rest.take(','));
    joined.pop_back();
    return rest.take(']') ? std::optional(std::move(joined)) : std::nullopt;
}

std::optional<std::string_view> member(std::string_view object, std::string_view name) {
    JsonText rest(object);
    if (!rest.take('{')) {
        return std::nullopt;
    }
    do {
        const auto key = rest.value();
        if (!key || (*key)[0] != '"' || !rest.take(':')) {
            return std::nullopt;
        }
        const auto value = rest.value();
        if (!value) {
            return std::nullopt;
        }
        if (unquoted(*key) == name) {
            return value;
        }
    } while (rest.take(','));
    return std::nullopt;
}

}  // namespace

std::optional<std::string> jwt_payload(std::string_view token) {
    const std::size_t first_dot = token.find('.');
    const std::size_t last_dot = token.rfind('.');
    if (first_dot == last_dot) {
        return std::nullopt;
    }
    return base64url_decode(token.substr(first_dot + 1, last_dot - first_dot - 1));
}

std::optional<std::string> claim_text(std::string_view payload_json, std::span<const std::string_view> path) {
    std::optional<std::string_view> value = JsonText(payload_json).value();
    for (const std::string_view name : path) {
        value = value ? member(*value, name) : std::nullopt;
    }
    if (!value || path.empty()) {
        return std::nullopt;
    }
    return (*value)[0] == '[' ? array_text(*value) : scalar_text(*value);
}

}  // namespace headgate
