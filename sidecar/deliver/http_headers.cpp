// Header lines, of requests as libcurl takes them and of responses as they are kept. Declared in http_client.h.
#include <strings.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "common/problem.h"
#include "sidecar/deliver/http_client.h"

namespace headgate {

namespace {

std::string_view trimmed_value(std::string_view text) noexcept {
    const std::size_t begin = text.find_first_not_of(" \t");
    const std::size_t end = text.find_last_not_of(" \t");
    return begin == std::string_view::npos ? std::string_view{} : text.substr(begin, end - begin + 1);
}

// Calls each(name, value) for every line until it returns false.
template <typename Each>
void for_each_header(std::string_view lines, Each each) {
    while (!lines.empty()) {
        const std::size_t end = lines.find('\n');
        const std::string_view line = lines.substr(0, end);
        const std::size_t colon = line.find(':');
        if (colon != std::string_view::npos && !each(line.substr(0, colon), trimmed_value(line.substr(colon + 1)))) {
            return;
        }
        lines.remove_prefix(end == std::string_view::npos ? lines.size() : end + 1);
    }
}

bool equal_ignoring_case(std::string_view a, std::string_view b) noexcept {
    return a.size() == b.size() && strncasecmp(a.data(), b.data(), a.size()) == 0;
}

}  // namespace

void HeaderLines::add(std::string_view name, std::string_view value) {
    const std::string_view text = trimmed_value(value);
    bytes_ += name;
    // To libcurl "Name:" means "leave this header out"; "Name;" is the one with an empty value.
    bytes_ += text.empty() ? ";" : ": ";
    bytes_ += text;
    bytes_ += '\0';
}

std::string_view find_header(std::string_view header_lines, std::string_view name) noexcept {
    std::string_view found;
    for_each_header(header_lines, [&](std::string_view each, std::string_view value) {
        if (!equal_ignoring_case(each, name)) {
            return true;
        }
        found = value;
        return false;
    });
    return found;
}

std::string headers_json(std::string_view header_lines) {
    std::vector<std::pair<std::string_view, std::string>> headers;
    std::unordered_map<std::string, std::size_t> index_of;
    for_each_header(header_lines, [&](std::string_view name, std::string_view value) {
        std::string key(name);
        std::transform(key.begin(), key.end(), key.begin(),
                       [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
        const auto [entry, is_new] = index_of.emplace(std::move(key), headers.size());
        if (is_new) {
            headers.emplace_back(name, value);
        } else {
            headers[entry->second].second.append(", ").append(value);
        }
        return true;
    });
    std::string json = "{";
    for (const auto& [name, value] : headers) {
        if (json.size() > 1) {
            json += ',';
        }
        append_json_string(json, name);
        json += ':';
        append_json_string(json, value);
    }
    json += '}';
    return json;
}

}  // namespace headgate
