// See member_reader.h.
#include "sidecar/api/member_reader.h"

#include <algorithm>
#include <boost/json.hpp>
#include <cmath>

#include "common/event_record.h"
#include "sidecar/base/text.h"

namespace headgate {
namespace json = boost::json;

std::string_view view(const json::string& text) { return {text.data(), text.size()}; }

void MemberReader::error(std::vector<std::string> loc, std::string msg) {
    loc.insert(loc.begin(), "body");
    errors_.push_back({std::move(loc), std::move(msg)});
}

bool MemberReader::has(std::string_view name) const { return members_.contains(name); }

const json::value* MemberReader::take(std::string_view name) {
    if (std::find(known_.begin(), known_.end(), name) == known_.end()) known_.push_back(name);
    const json::value* value = members_.if_contains(name);
    return value == nullptr || value->is_null() ? nullptr : value;
}

void MemberReader::read_text(std::string_view name, std::string& out, std::size_t bytes_max) {
    const json::value* value = take(name);
    if (value == nullptr) return;
    std::string member(name);
    if (!value->is_string()) return error({member}, member + " must be a string");
    std::string_view text = view(value->get_string());
    if (text.size() > bytes_max)
        return error({member}, member + " is longer than " + std::to_string(bytes_max) + " bytes");
    if (has_control_characters(text)) return error({member}, member + " has control characters");
    if (name == "name" && text.empty()) return error({member}, "name is empty");
    out = text;
}

void MemberReader::read_bool(std::string_view name, bool& out) {
    const json::value* value = take(name);
    if (value == nullptr) return;
    if (!value->is_bool()) return error({std::string(name)}, std::string(name) + " must be true or false");
    out = value->get_bool();
}

std::optional<double> MemberReader::number(const json::value* value, std::vector<std::string> loc, double fallback) {
    if (value == nullptr) return fallback;
    if (!value->is_number()) {
        error(loc, loc.back() + " must be a number");
        return std::nullopt;
    }
    return value->to_number<double>();
}

std::optional<std::int64_t> MemberReader::integer(const json::value* value, std::vector<std::string> loc,
                                                  std::int64_t fallback, std::int64_t min, std::int64_t max) {
    auto found = number(value, loc, static_cast<double>(fallback));
    if (!found) return std::nullopt;
    if (*found != std::floor(*found) || *found < static_cast<double>(min) || *found > static_cast<double>(max)) {
        error(loc, loc.back() + " must be a whole number from " + std::to_string(min) + " to " + std::to_string(max));
        return std::nullopt;
    }
    return static_cast<std::int64_t>(*found);
}

void MemberReader::refuse_unknown() {
    for (const auto& [name, ignored] : members_) {
        std::string_view member(name.data(), name.size());
        if (std::find(known_.begin(), known_.end(), member) == known_.end())
            error({std::string(member)},
                  "no such member; the nearest known one is " + std::string(nearest(member.substr(0, 64), known_)));
    }
}

}  // namespace headgate
