// A naive evaluator of subscriptions, written from what filter.h and event_pattern.h promise and sharing nothing with
// them: its own JSON, no compiling, no index. It says what every webhook must answer to an event; the property test and
// the fuzzer hold the matcher against it. Filters are taken to be valid.
#pragma once

#include <cmath>
#include <compare>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace headgate::test {

// ---- JSON, as RFC 8259 has it: any depth up to 64, no half of a surrogate pair ------------------

struct OracleMember;

struct OracleValue {
    enum class Kind : std::uint8_t { kNull, kFalse, kTrue, kNumber, kString, kArray, kObject };
    Kind kind = Kind::kNull;
    std::string text;                 // of a number as written, of a string as meant
    std::vector<OracleMember> items;  // of an array without names

    [[nodiscard]] bool is(Kind wanted) const { return kind == wanted; }
    [[nodiscard]] bool is_container() const { return is(Kind::kArray) || is(Kind::kObject); }
    // Of members with one name the last counts.
    [[nodiscard]] const OracleValue* member(std::string_view name) const;
};

struct OracleMember {
    std::string name;
    OracleValue value;
};

inline const OracleValue* OracleValue::member(std::string_view name) const {
    for (auto at = items.rbegin(); is(Kind::kObject) && at != items.rend(); ++at) {
        if (at->name == name) return &at->value;
    }
    return nullptr;
}

class OracleParser {
 public:
    static std::optional<OracleValue> parse(std::string_view text) {
        OracleParser parser(text);
        OracleValue value;
        bool is_good = parser.value(value, 0);
        parser.space();
        if (!is_good || parser.at_ != text.size()) return std::nullopt;
        return value;
    }

 private:
    using Kind = OracleValue::Kind;
    static constexpr int kDepthMax = 64;

    explicit OracleParser(std::string_view text) : text_(text) {}

    [[nodiscard]] char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
    void space() {
        while (peek() == ' ' || peek() == '\t' || peek() == '\n' || peek() == '\r') ++at_;
    }
    bool take(std::string_view word) {
        if (!text_.substr(at_).starts_with(word)) return false;
        at_ += word.size();
        return true;
    }

    bool value(OracleValue& out, int depth) {
        space();
        if (take("null")) return true;
        if (take("true")) return out.kind = Kind::kTrue, true;
        if (take("false")) return out.kind = Kind::kFalse, true;
        if (peek() == '"') return out.kind = Kind::kString, string(out.text);
        if (peek() == '[' || peek() == '{') return depth < kDepthMax && container(out, depth + 1);
        return number(out);
    }

    bool container(OracleValue& out, int depth) {
        const bool is_object = text_[at_++] == '{';
        const char end = is_object ? '}' : ']';
        out.kind = is_object ? Kind::kObject : Kind::kArray;
        space();
        if (peek() == end) return ++at_, true;
        for (;;) {
            auto& [name, item] = out.items.emplace_back();
            space();
            if (is_object && (peek() != '"' || !string(name))) return false;
            space();
            if (is_object && !take(":")) return false;
            if (!value(item, depth)) return false;
            space();
            if (peek() == end) return ++at_, true;
            if (!take(",")) return false;
        }
    }

    bool digits() {
        const std::size_t from = at_;
        while (peek() >= '0' && peek() <= '9') ++at_;
        return at_ > from;
    }

    bool number(OracleValue& out) {
        const std::size_t from = at_;
        take("-");
        if (!take("0") && !digits()) return false;
        if (take(".") && !digits()) return false;
        if (peek() == 'e' || peek() == 'E') {
            ++at_;
            if (!take("+")) take("-");
            if (!digits()) return false;
        }
        out.kind = Kind::kNumber;
        out.text = text_.substr(from, at_ - from);
        return true;
    }

    static void append_utf8(std::string& out, std::uint32_t code) {
        if (code < 0x80) {
            out += static_cast<char>(code);
        } else if (code < 0x800) {
            out += static_cast<char>(0xc0 | code >> 6);
            out += static_cast<char>(0x80 | (code & 0x3f));
        } else {
            if (code < 0x10000) {
                out += static_cast<char>(0xe0 | code >> 12);
            } else {
                out += static_cast<char>(0xf0 | code >> 18);
                out += static_cast<char>(0x80 | (code >> 12 & 0x3f));
            }
            out += static_cast<char>(0x80 | (code >> 6 & 0x3f));
            out += static_cast<char>(0x80 | (code & 0x3f));
        }
    }

    bool hex4(std::uint32_t& code) {
        code = 0;
        for (int i = 0; i < 4; ++i) {
            const std::size_t digit = std::string_view("0123456789abcdef").find(static_cast<char>(peek() | 0x20));
            if (digit == std::string_view::npos || (peek() < '0')) return false;
            code = code << 4 | static_cast<std::uint32_t>(digit);
            ++at_;
        }
        return true;
    }

    bool string(std::string& out) {
        ++at_;
        for (;;) {
            if (at_ >= text_.size() || static_cast<unsigned char>(peek()) < 0x20) return false;
            const char c = text_[at_++];
            if (c == '"') return true;
            if (c != '\\') {
                out += c;
                continue;
            }
            const char escape = peek();
            ++at_;
            const std::size_t simple = std::string_view("\"\\/bfnrt").find(escape);
            if (escape != '\0' && simple != std::string_view::npos) {
                out += "\"\\/\b\f\n\r\t"[simple];
                continue;
            }
            std::uint32_t code = 0;
            if (escape != 'u' || !hex4(code) || (code >= 0xdc00 && code < 0xe000)) return false;
            if (code >= 0xd800 && code < 0xdc00) {
                std::uint32_t low = 0;
                if (!take("\\u") || !hex4(low) || low < 0xdc00 || low >= 0xe000) return false;
                code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
            }
            append_utf8(out, code);
        }
    }

    std::string_view text_;
    std::size_t at_ = 0;
};

// ---- comparing ----------------------------------------------------------------------------------

enum class Truth : std::uint8_t { kNo, kYes, kUnknown };
inline Truth truth(bool value) { return value ? Truth::kYes : Truth::kNo; }
inline Truth opposite(Truth of) { return of == Truth::kUnknown ? of : truth(of == Truth::kNo); }

// What is known of a number: all of it, or that it rounds to `rounded`. Exact are integers of 64 bits, and what is
// written with a point or an exponent and smaller than 2^53.
struct OracleNumber {
    bool is_exact = true, is_integer = false;
    __int128 integer = 0;
    double rounded = 0;

    explicit OracleNumber(const std::string& text) : rounded(std::strtod(text.c_str(), nullptr)) {
        const bool is_negative = text.starts_with('-');
        if (text.find_first_of(".eE") == std::string::npos && text.size() <= 20u + (is_negative ? 1 : 0)) {
            for (const char digit : text) {
                if (digit != '-') integer = integer * 10 + (digit - '0');
            }
            if (is_negative) integer = -integer;
            is_integer = integer >= INT64_MIN && integer <= static_cast<__int128>(UINT64_MAX);
        }
        is_exact = is_integer || std::fabs(rounded) < 9007199254740992.0;
    }
};

// kUnknown in place of an order when rounding may have hidden a difference.
struct OracleOrder {
    bool is_known = true;
    int order = 0;
};

inline int sign_of(bool is_less, bool is_greater) { return is_less ? -1 : is_greater ? 1 : 0; }

inline OracleOrder compare_numbers(const OracleNumber& a, const OracleNumber& b) {
    if (!a.is_exact || !b.is_exact) {
        const int order = sign_of(a.rounded<b.rounded, a.rounded> b.rounded);
        return {order != 0, order};
    }
    if (a.is_integer && b.is_integer) return {true, sign_of(a.integer<b.integer, a.integer> b.integer)};
    if (!a.is_integer && !b.is_integer) return {true, sign_of(a.rounded<b.rounded, a.rounded> b.rounded)};
    if (b.is_integer) return {true, -compare_numbers(b, a).order};
    // An integer beside a fraction: the fraction lies between its floor and the next integer.
    const double floor = std::floor(b.rounded);
    const auto below = static_cast<__int128>(floor);
    if (a.integer != below) return {true, a.integer < below ? -1 : 1};
    return {true, floor == b.rounded ? 0 : -1};
}

inline Truth equals(const OracleValue& field, const OracleValue& operand) {
    if (field.kind != operand.kind || field.is_container()) return Truth::kNo;
    if (!field.is(OracleValue::Kind::kNumber)) return truth(field.text == operand.text);
    const OracleNumber a(field.text);
    const OracleNumber b(operand.text);
    // Two numbers that are not known exactly are neither equal nor different.
    if (!a.is_exact || !b.is_exact) return Truth::kUnknown;
    return truth(compare_numbers(a, b).order == 0);
}

inline Truth is_in(const OracleValue& field, const OracleValue& list) {
    Truth found = Truth::kNo;
    for (const auto& [ignored, operand] : list.items) {
        const Truth each = equals(field, operand);
        if (each == Truth::kYes) return each;
        if (each == Truth::kUnknown) found = each;
    }
    return found;
}

// `less` etc.: which orders are wanted.
inline Truth is_ordered(const OracleValue& field, const OracleValue& operand, bool less, bool same, bool greater) {
    using Kind = OracleValue::Kind;
    OracleOrder found;
    if (field.is(Kind::kNumber) && operand.is(Kind::kNumber)) {
        found = compare_numbers(OracleNumber(field.text), OracleNumber(operand.text));
    } else if (field.is(Kind::kString) && operand.is(Kind::kString)) {
        found.order = field.text.compare(operand.text);
    } else {
        return Truth::kNo;
    }
    if (!found.is_known) return Truth::kUnknown;
    return truth(found.order < 0 ? less : found.order > 0 ? greater : same);
}

// ---- conditions ---------------------------------------------------------------------------------

// `field` is null when it is missing: then only `$exists: false` holds.
inline Truth operator_holds(std::string_view name, const OracleValue& operand, const OracleValue* field) {
    using Kind = OracleValue::Kind;
    if (name == "$exists") return truth((field != nullptr) == operand.is(Kind::kTrue));
    if (field == nullptr) return Truth::kNo;
    if (name == "$eq") return equals(*field, operand);
    if (name == "$ne") return opposite(equals(*field, operand));
    if (name == "$in") return is_in(*field, operand);
    if (name == "$nin") return opposite(is_in(*field, operand));
    if (name == "$gt") return is_ordered(*field, operand, false, false, true);
    if (name == "$gte") return is_ordered(*field, operand, false, true, true);
    if (name == "$lt") return is_ordered(*field, operand, true, false, false);
    if (name == "$lte") return is_ordered(*field, operand, true, true, false);
    if (!field->is(Kind::kString)) return Truth::kNo;
    if (name == "$startsWith") return truth(field->text.substr(0, operand.text.size()) == operand.text);
    return truth(field->text.size() >= operand.text.size() &&
                 field->text.substr(field->text.size() - operand.text.size()) == operand.text);
}

// Unknown parts decide only what the others leave open.
inline Truth all_of(const std::vector<Truth>& parts) {
    Truth whole = Truth::kYes;
    for (const Truth part : parts) {
        if (part == Truth::kNo) return part;
        if (part == Truth::kUnknown) whole = part;
    }
    return whole;
}
inline Truth any_of(const std::vector<Truth>& parts) {
    std::vector<Truth> opposites;
    for (const Truth part : parts) opposites.push_back(opposite(part));
    return opposite(all_of(opposites));
}

// `filter` on the object `base` (null: missing), which may be a field's own operators when `is_field`.
inline Truth filter_holds(const OracleValue& filter, const OracleValue* base, bool is_field);

inline Truth member_holds(std::string_view name, const OracleValue& wanted, const OracleValue* base, bool is_field) {
    using Kind = OracleValue::Kind;
    if (name == "$not") {
        return is_field && base == nullptr ? Truth::kNo : opposite(filter_holds(wanted, base, is_field));
    }
    if (name == "$and" || name == "$or") {
        std::vector<Truth> parts;
        for (const auto& [ignored, item] : wanted.items) parts.push_back(filter_holds(item, base, is_field));
        return name == "$and" ? all_of(parts) : any_of(parts);
    }
    if (name.starts_with('$')) return operator_holds(name, wanted, base);
    // A field: down the dotted path, to its last segment.
    const OracleValue* field = base;
    for (std::size_t dot = name.find('.'); dot != std::string_view::npos; dot = name.find('.')) {
        field = field == nullptr ? nullptr : field->member(name.substr(0, dot));
        name.remove_prefix(dot + 1);
    }
    const bool is_bound =
        !wanted.is_container() && name.size() > 4 && (name.starts_with("min_") || name.starts_with("max_"));
    const std::string_view op = !is_bound ? "$eq" : name.starts_with("min_") ? "$gte" : "$lte";
    if (is_bound) name.remove_prefix(4);
    field = field == nullptr ? nullptr : field->member(name);
    if (wanted.is(Kind::kArray)) return operator_holds("$in", wanted, field);
    return wanted.is(Kind::kObject) ? filter_holds(wanted, field, true) : operator_holds(op, wanted, field);
}

inline Truth filter_holds(const OracleValue& filter, const OracleValue* base, bool is_field) {
    std::vector<Truth> parts;
    for (const auto& [name, wanted] : filter.items) {
        if (filter.member(name) == &wanted) parts.push_back(member_holds(name, wanted, base, is_field));
    }
    return all_of(parts);
}

// A filter without conditions takes everything; one with conditions only objects that can be read.
inline bool oracle_takes(std::string_view filter_text, std::string_view payload_text) {
    const auto filter = filter_text.empty() ? OracleValue{} : OracleParser::parse(filter_text);
    if (!filter) return false;
    if (filter->items.empty()) return true;
    const auto payload = OracleParser::parse(payload_text);
    if (!payload || !payload->is(OracleValue::Kind::kObject)) return false;
    return filter_holds(*filter, &*payload, false) == Truth::kYes;
}

// ---- patterns -----------------------------------------------------------------------------------

inline bool oracle_pattern_is_valid(std::string_view pattern) {
    if (pattern == "*") return true;
    if (pattern == "webhook.*") return false;  // operational events are named exactly
    if (pattern.ends_with(".*")) pattern.remove_suffix(2);
    if (pattern.empty() || pattern.size() > 128) return false;
    for (const char c : pattern) {
        if (std::string_view("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.:-").find(c) ==
            std::string_view::npos)
            return false;
    }
    return true;
}

// A valid one. What the system says of itself is only for those who name it.
inline bool oracle_names(std::string_view pattern, std::string_view type, bool is_operational) {
    if (pattern == type && pattern != "*") return true;
    if (is_operational) return false;
    if (pattern == "*") return true;
    if (!pattern.ends_with(".*")) return false;
    pattern.remove_suffix(1);
    return type.substr(0, pattern.size()) == pattern && type.size() > pattern.size();
}

}  // namespace headgate::test
