// Small functions on text; see text.h.
#include "sidecar/base/text.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <utility>

namespace headgate {
namespace {

constexpr std::array<std::pair<std::string_view, std::int64_t>, 6> kUnits = {{
    {"ms", 1},
    {"s", 1000},
    {"m", 60'000},
    {"h", 3'600'000},
    {"d", 86'400'000},
    {"w", 604'800'000},
}};

}  // namespace

std::optional<std::int64_t> parse_duration_ms(std::string_view text) noexcept {
    std::int64_t count = 0;
    auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), count);
    if (ec != std::errc() || count < 0) return std::nullopt;
    std::string_view unit(end, static_cast<std::size_t>(text.data() + text.size() - end));
    for (const auto& [name, ms] : kUnits) {
        std::int64_t product = 0;
        if (unit == name) {
            if (__builtin_mul_overflow(count, ms, &product)) return std::nullopt;
            return product;
        }
    }
    return std::nullopt;
}

std::string format_duration(std::int64_t ms) {
    for (auto unit = kUnits.rbegin() + 1; unit != kUnits.rend(); ++unit)  // days, not weeks
        if (ms % unit->second == 0 && (ms != 0 || unit->second == 1000))
            return std::to_string(ms / unit->second) + std::string(unit->first);
    return std::to_string(ms) + "ms";
}

std::optional<std::int64_t> parse_integer(std::string_view text, std::int64_t min, std::int64_t max) noexcept {
    std::int64_t value = 0;
    auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (ec != std::errc() || end != text.data() + text.size() || value < min || value > max) return std::nullopt;
    return value;
}

std::vector<std::string> split_list(std::string_view text) {
    std::vector<std::string> parts;
    std::string part;
    for (char c : text) {
        if (c != ' ' && c != ',' && c != '\t' && c != '\n') {
            part += c;
        } else if (!part.empty()) {
            parts.push_back(std::exchange(part, {}));
        }
    }
    if (!part.empty()) parts.push_back(std::move(part));
    return parts;
}

bool list_has(std::string_view list, std::string_view word) noexcept {
    while (!list.empty()) {
        auto space = list.find(' ');
        if (list.substr(0, space) == word) return true;
        if (space == std::string_view::npos) break;
        list.remove_prefix(space + 1);
    }
    return false;
}

std::string join(const std::vector<std::string>& parts, std::string_view between) {
    std::string text;
    for (const auto& part : parts) {
        if (!text.empty()) text += between;
        text += part;
    }
    return text;
}

std::string to_lower(std::string_view text) {
    std::string lower(text);
    for (char& c : lower)
        if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
    return lower;
}

void append_form_encoded(std::string& out, std::string_view bytes) {
    static constexpr char kHex[] = "0123456789ABCDEF";
    for (const char c : bytes) {
        const auto byte = static_cast<unsigned char>(c);
        const bool is_plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
                              c == '_' || c == '.' || c == '*';
        if (is_plain) {
            out += c;
        } else {
            out += '%';
            out += kHex[byte >> 4];
            out += kHex[byte & 15];
        }
    }
}

std::string_view nearest(std::string_view text, const std::vector<std::string_view>& names) {
    std::string_view best = names.front();
    std::size_t best_distance = SIZE_MAX;
    for (auto name : names) {
        // Levenshtein, one row at a time.
        std::vector<std::size_t> row(name.size() + 1);
        for (std::size_t j = 0; j <= name.size(); ++j) row[j] = j;
        for (std::size_t i = 1; i <= text.size(); ++i) {
            std::size_t diagonal = std::exchange(row[0], i);
            for (std::size_t j = 1; j <= name.size(); ++j) {
                std::size_t substitute = diagonal + (text[i - 1] == name[j - 1] ? 0 : 1);
                diagonal = row[j];
                row[j] = std::min({row[j] + 1, row[j - 1] + 1, substitute});
            }
        }
        if (row.back() < best_distance) {
            best_distance = row.back();
            best = name;
        }
    }
    return best;
}

std::optional<HostPort> parse_host_port(std::string_view text) {
    auto colon = text.rfind(':');
    if (colon == std::string_view::npos || colon == 0) return std::nullopt;
    auto port = parse_integer(text.substr(colon + 1), 0, 65535);
    std::string_view host = text.substr(0, colon);
    if (host.starts_with('[')) {
        if (!host.ends_with(']')) return std::nullopt;
        host = host.substr(1, host.size() - 2);
    } else if (host.find(':') != std::string_view::npos) {
        return std::nullopt;
    }
    if (!port || host.empty()) return std::nullopt;
    return HostPort{std::string(host), static_cast<std::uint16_t>(*port)};
}

}  // namespace headgate
