// Form decoding; see form.h.
#include "sidecar/api/form.h"

#include "sidecar/base/text.h"

namespace headgate {
namespace {

constexpr std::size_t kMembersMax = 64;

int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

std::optional<std::string> form_decode(std::string_view text) {
    std::string spaced(text);
    for (char& c : spaced)
        if (c == '+') c = ' ';
    return percent_decode(spaced);
}

}  // namespace

std::optional<std::string> percent_decode(std::string_view text) {
    std::string out;
    out.reserve(text.size());
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] != '%') {
            out += text[i];
            continue;
        }
        if (i + 2 >= text.size()) return std::nullopt;
        int high = hex_digit(text[i + 1]);
        int low = hex_digit(text[i + 2]);
        if (high < 0 || low < 0) return std::nullopt;
        out += static_cast<char>(high * 16 + low);
        i += 2;
    }
    return out;
}

Result<Form> Form::parse(std::string_view text) {
    Form form;
    while (!text.empty()) {
        auto end = text.find('&');
        std::string_view member = text.substr(0, end);
        text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
        if (member.empty()) continue;
        auto equals = member.find('=');
        auto name = form_decode(member.substr(0, equals));
        auto value = form_decode(equals == std::string_view::npos ? std::string_view() : member.substr(equals + 1));
        if (!name || !value)
            return fail(ErrorCode::kInvalidArgument, "A percent sign must be followed by two hexadecimal digits");
        if (form.members_.size() == kMembersMax)
            return fail(ErrorCode::kInvalidArgument, "There are more than 64 parameters");
        form.members_.emplace_back(std::move(*name), std::move(*value));
    }
    return form;
}

const std::string* Form::find(std::string_view name) const noexcept {
    for (const auto& [member, value] : members_)
        if (member == name) return &value;
    return nullptr;
}

std::string_view Form::value(std::string_view name) const noexcept {
    const std::string* found = find(name);
    return found == nullptr ? std::string_view() : std::string_view(*found);
}

bool Form::has_repeated_member() const noexcept {
    for (std::size_t i = 0; i < members_.size(); ++i)
        for (std::size_t j = i + 1; j < members_.size(); ++j)
            if (members_[i].first == members_[j].first) return true;
    return false;
}

Result<std::int64_t> Form::integer(std::string_view name, std::int64_t fallback, std::int64_t min,
                                   std::int64_t max) const {
    const std::string* text = find(name);
    if (text == nullptr) return fallback;
    auto number = parse_integer(*text, min, max);
    if (!number)
        return fail(ErrorCode::kUnprocessable,
                    "must be a whole number from " + std::to_string(min) + " to " + std::to_string(max));
    return *number;
}

}  // namespace headgate
