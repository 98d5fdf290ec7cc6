// Compiles and evaluates filters. Input: the `filters` column and a parsed payload.
#include "sidecar/match/filter.h"

#include <boost/json.hpp>
#include <cmath>
#include <compare>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace headgate {

namespace json = boost::json;

enum class FilterOp : std::uint8_t {
    kAnd,
    kOr,
    kNot,  // negates its only child; with a path the field must be there
    kEq,
    kNe,
    kGt,
    kGte,
    kLt,
    kLte,
    kIn,
    kNin,
    kStartsWith,
    kEndsWith,
    kExists
};

struct Filter::Node {
    FilterOp op = FilterOp::kAnd;
    std::vector<std::string> path;      // of a condition on a field
    std::vector<json::value> operands;  // one, or several for kIn and kNin
    std::vector<Node> children;         // of kAnd, kOr and kNot
};

namespace {

using Node = Filter::Node;

// ---- compiling ------------------------------------------------------------------------------

struct Compiler {
    std::size_t conditions = 0;

    Result<Node> object(const json::object& members, const std::vector<std::string>& path, int depth);
    Result<Node> logical(std::string_view name, const json::value& value, const std::vector<std::string>& path,
                         int depth);
    Result<Node> field(std::string_view key, const json::value& value, std::vector<std::string> path, int depth);
    Result<Node> field_object(const json::object& members, const std::vector<std::string>& path, int depth);
    Result<Node> condition(std::string_view name, const json::value& value, const std::vector<std::string>& path);
};

tl::unexpected<Error> refuse(std::string_view member, std::string_view why) {
    return fail(ErrorCode::kUnprocessable, "filters: " + std::string(member) + ": " + std::string(why));
}

bool is_scalar(const json::value& value) { return !value.is_object() && !value.is_array(); }

bool is_logical(std::string_view name) { return name == "$and" || name == "$or" || name == "$not"; }

std::optional<FilterOp> comparison_named(std::string_view name) {
    static constexpr std::pair<std::string_view, FilterOp> kNames[] = {
        {"$eq", FilterOp::kEq},
        {"$ne", FilterOp::kNe},
        {"$gt", FilterOp::kGt},
        {"$gte", FilterOp::kGte},
        {"$lt", FilterOp::kLt},
        {"$lte", FilterOp::kLte},
        {"$in", FilterOp::kIn},
        {"$nin", FilterOp::kNin},
        {"$startsWith", FilterOp::kStartsWith},
        {"$endsWith", FilterOp::kEndsWith},
        {"$exists", FilterOp::kExists},
    };
    for (const auto& [known, op] : kNames) {
        if (known == name) {
            return op;
        }
    }
    return std::nullopt;
}

// Does the operand fit the operator? Returns what is expected instead, or nothing.
std::string_view operand_problem(FilterOp op, const json::value& value) {
    switch (op) {
        case FilterOp::kIn:
        case FilterOp::kNin: {
            if (!value.is_array() || value.get_array().empty()) {
                return "a list with at least one value is needed";
            }
            for (const json::value& item : value.get_array()) {
                if (!is_scalar(item)) {
                    return "a list may hold strings, numbers, true, false and null";
                }
            }
            return {};
        }
        case FilterOp::kGt:
        case FilterOp::kGte:
        case FilterOp::kLt:
        case FilterOp::kLte:
            return value.is_number() || value.is_string() ? "" : "a number or a string is needed";
        case FilterOp::kStartsWith:
        case FilterOp::kEndsWith:
            return value.is_string() ? "" : "a string is needed";
        case FilterOp::kExists:
            return value.is_bool() ? "" : "true or false is needed";
        default:
            return is_scalar(value) ? "" : "a string, a number, true, false or null is needed";
    }
}

Result<Node> Compiler::condition(std::string_view name, const json::value& value,
                                 const std::vector<std::string>& path) {
    const std::optional<FilterOp> op = comparison_named(name);
    if (!op) {
        return refuse(name, "no such operator");
    }
    if (const std::string_view problem = operand_problem(*op, value); !problem.empty()) {
        return refuse(name, problem);
    }
    if (++conditions > kFilterConditionsMax) {
        return refuse(name, "too many conditions");
    }
    Node node{*op, path, {}, {}};
    if (value.is_array()) {
        node.operands.assign(value.get_array().begin(), value.get_array().end());
    } else {
        node.operands.push_back(value);
    }
    return node;
}

// The object of a field: operators on it, or the fields below it; its first member tells which.
Result<Node> Compiler::field_object(const json::object& members, const std::vector<std::string>& path, int depth) {
    if (members.empty()) {
        return refuse(path.back(), "an empty object has no meaning");
    }
    if (!members.begin()->key().starts_with('$')) {
        return object(members, path, depth);
    }
    if (depth > kFilterDepthMax) {
        return refuse(path.back(), "nested too deeply");
    }
    Node all;
    for (const auto& member : members) {
        const std::string_view name = member.key();
        auto node =
            is_logical(name) ? logical(name, member.value(), path, depth) : condition(name, member.value(), path);
        if (!node) {
            return node;
        }
        all.children.push_back(std::move(*node));
    }
    return all;
}

// A key is a dotted path; `min_` or `max_` before its last segment makes a scalar a bound.
Result<Node> Compiler::field(std::string_view key, const json::value& value, std::vector<std::string> path, int depth) {
    std::string_view rest = key;
    for (;;) {
        const std::size_t dot = rest.find('.');
        const std::string_view segment = rest.substr(0, dot);
        if (segment.empty()) {
            return refuse(key.empty() ? "\"\"" : key, "a field name has an empty part");
        }
        path.emplace_back(segment);
        if (dot == std::string_view::npos) {
            break;
        }
        rest.remove_prefix(dot + 1);
    }
    if (value.is_array()) {
        return condition("$in", value, path);
    }
    if (!value.is_object()) {
        std::string& last = path.back();
        const bool is_bound = (last.starts_with("min_") || last.starts_with("max_")) && last.size() > 4;
        if (!is_bound) {
            return condition("$eq", value, path);
        }
        const std::string_view op = last.starts_with("min_") ? "$gte" : "$lte";
        last.erase(0, 4);
        auto node = condition(op, value, path);
        return node ? std::move(node) : Result<Node>(refuse(key, "a bound is a number or a string"));
    }
    return field_object(value.get_object(), path, depth + 1);
}

// $and, $or and $not, of the whole payload (no path) or of the field that they stand in.
Result<Node> Compiler::logical(std::string_view name, const json::value& value, const std::vector<std::string>& path,
                               int depth) {
    const auto part = [&](const json::value& item) -> Result<Node> {
        if (!item.is_object() || item.get_object().empty()) {
            return refuse(name, "an object with a condition is needed");
        }
        return path.empty() ? object(item.get_object(), path, depth + 1)
                            : field_object(item.get_object(), path, depth + 1);
    };
    Node node;
    node.op = name == "$not" ? FilterOp::kNot : name == "$or" ? FilterOp::kOr : FilterOp::kAnd;
    if (node.op == FilterOp::kNot) {
        node.path = path;
        auto inner = part(value);
        if (!inner) {
            return inner;
        }
        node.children.push_back(std::move(*inner));
        return node;
    }
    if (!value.is_array() || value.get_array().empty()) {
        return refuse(name, "a list of objects is needed");
    }
    for (const json::value& item : value.get_array()) {
        auto child = part(item);
        if (!child) {
            return child;
        }
        node.children.push_back(std::move(*child));
    }
    return node;
}

Result<Node> Compiler::object(const json::object& members, const std::vector<std::string>& path, int depth) {
    if (depth > kFilterDepthMax) {
        return refuse(members.begin()->key(), "nested too deeply");
    }
    Node all;
    for (const auto& member : members) {
        const std::string_view key = member.key();
        if (key.starts_with('$') && !is_logical(key)) {
            return refuse(key, "an operator belongs in the object of a field");
        }
        auto node =
            is_logical(key) ? logical(key, member.value(), path, depth) : field(key, member.value(), path, depth);
        if (!node) {
            return node;
        }
        all.children.push_back(std::move(*node));
    }
    return all;
}

// ---- evaluating -----------------------------------------------------------------------------

enum class Verdict : std::uint8_t { kNo, kYes, kUnreadable };

Verdict from_bool(bool value) { return value ? Verdict::kYes : Verdict::kNo; }

Verdict negate(Verdict verdict) {
    return verdict == Verdict::kUnreadable ? verdict : from_bool(verdict == Verdict::kNo);
}

// Beyond 2^53 a double may have lost digits of what the publisher wrote.
bool is_inexact(const json::value& value) {
    constexpr double kExactMax = 9007199254740992.0;
    return value.is_double() && !(std::fabs(value.get_double()) < kExactMax);
}

std::partial_ordering compare_integer_to_double(bool is_negative, std::uint64_t magnitude, double other) {
    // Every 64-bit integer is exact in x86's and quad long doubles; where long double is double, only beyond 2^53 is it
    // not.
    const long double integer =
        is_negative ? -static_cast<long double>(magnitude) : static_cast<long double>(magnitude);
    return integer <=> static_cast<long double>(other);
}

std::partial_ordering compare_numbers(const json::value& a, const json::value& b) {
    if (a.is_double() && b.is_double()) {
        return a.get_double() <=> b.get_double();
    }
    const auto magnitude = [](const json::value& v, bool& is_negative) -> std::uint64_t {
        is_negative = v.is_int64() && v.get_int64() < 0;
        if (v.is_uint64()) {
            return v.get_uint64();
        }
        return is_negative ? 0 - static_cast<std::uint64_t>(v.get_int64()) : static_cast<std::uint64_t>(v.get_int64());
    };
    bool a_negative = false;
    bool b_negative = false;
    if (b.is_double()) {
        const std::uint64_t size = magnitude(a, a_negative);
        return compare_integer_to_double(a_negative, size, b.get_double());
    }
    if (a.is_double()) {
        const std::uint64_t size = magnitude(b, b_negative);
        return 0 <=> compare_integer_to_double(b_negative, size, a.get_double());
    }
    const std::uint64_t a_size = magnitude(a, a_negative);
    const std::uint64_t b_size = magnitude(b, b_negative);
    if (a_negative != b_negative) {
        return a_negative ? std::partial_ordering::less : std::partial_ordering::greater;
    }
    return a_negative ? b_size <=> a_size : a_size <=> b_size;
}

Verdict equal(const json::value& field, const json::value& operand) {
    if (field.is_number() && operand.is_number()) {
        if (is_inexact(field) || is_inexact(operand)) {
            return Verdict::kUnreadable;
        }
        return from_bool(compare_numbers(field, operand) == 0);
    }
    return from_bool(is_scalar(field) && field == operand);
}

Verdict ordered(FilterOp op, const json::value& field, const json::value& operand) {
    std::partial_ordering order = std::partial_ordering::unordered;
    if (field.is_number() && operand.is_number()) {
        order = compare_numbers(field, operand);
    } else if (field.is_string() && operand.is_string()) {
        order = field.get_string().compare(operand.get_string()) <=> 0;
    }
    if (order == std::partial_ordering::unordered) {
        return Verdict::kNo;
    }
    switch (op) {
        case FilterOp::kGt:
            return from_bool(order > 0);
        case FilterOp::kGte:
            return from_bool(order >= 0);
        case FilterOp::kLt:
            return from_bool(order < 0);
        default:
            return from_bool(order <= 0);
    }
}

Verdict one_of(const json::value& field, const std::vector<json::value>& operands) {
    Verdict verdict = Verdict::kNo;
    for (const json::value& operand : operands) {
        const Verdict each = equal(field, operand);
        if (each == Verdict::kYes) {
            return each;
        }
        if (each == Verdict::kUnreadable) {
            verdict = each;
        }
    }
    return verdict;
}

const json::value* find_field(const json::value& payload, const std::vector<std::string>& path) {
    const json::value* value = &payload;
    for (const std::string& segment : path) {
        const json::object* object = value->if_object();
        value = object == nullptr ? nullptr : object->if_contains(segment);
        if (value == nullptr) {
            return nullptr;
        }
    }
    return value;
}

Verdict evaluate(const Node& node, const json::value& payload);

Verdict evaluate_condition(const Node& node, const json::value& field) {
    const json::value& operand = node.operands.front();
    switch (node.op) {
        case FilterOp::kEq:
            return equal(field, operand);
        case FilterOp::kNe:
            return negate(equal(field, operand));
        case FilterOp::kIn:
            return one_of(field, node.operands);
        case FilterOp::kNin:
            return negate(one_of(field, node.operands));
        case FilterOp::kStartsWith:
            return from_bool(field.is_string() && field.get_string().starts_with(operand.get_string()));
        case FilterOp::kEndsWith:
            return from_bool(field.is_string() && field.get_string().ends_with(operand.get_string()));
        default:
            return ordered(node.op, field, operand);
    }
}

// kAnd stops at the first no, kOr at the first yes; an unreadable part decides only what the others leave open.
Verdict evaluate_children(const Node& node, const json::value& payload) {
    const Verdict decisive = node.op == FilterOp::kOr ? Verdict::kYes : Verdict::kNo;
    Verdict verdict = negate(decisive);
    for (const Node& child : node.children) {
        const Verdict each = evaluate(child, payload);
        if (each == decisive) {
            return each;
        }
        if (each == Verdict::kUnreadable) {
            verdict = each;
        }
    }
    return verdict;
}

Verdict evaluate(const Node& node, const json::value& payload) {
    if (node.op == FilterOp::kAnd || node.op == FilterOp::kOr) {
        return evaluate_children(node, payload);
    }
    if (node.op == FilterOp::kNot && node.path.empty()) {
        return negate(evaluate(node.children.front(), payload));
    }
    const json::value* field = find_field(payload, node.path);
    if (node.op == FilterOp::kExists) {
        return from_bool((field != nullptr) == node.operands.front().get_bool());
    }
    if (field == nullptr) {
        return Verdict::kNo;
    }
    if (node.op == FilterOp::kNot) {
        return negate(evaluate(node.children.front(), payload));
    }
    return evaluate_condition(node, *field);
}

}  // namespace

Result<Filter> Filter::compile(std::string_view text) {
    if (text.empty()) {
        return Filter{};
    }
    if (text.size() > kFilterBytesMax) {
        return fail(ErrorCode::kUnprocessable, "filters: larger than " + std::to_string(kFilterBytesMax) + " bytes");
    }
    json::parse_options options;
    options.max_depth = 2 * kFilterDepthMax;
    boost::system::error_code error;
    const json::value value = json::parse(text, error, {}, options);
    if (error) {
        return fail(ErrorCode::kUnprocessable, "filters: not JSON, or nested too deeply: " + error.message());
    }
    if (!value.is_object()) {
        return fail(ErrorCode::kUnprocessable, "filters: an object is needed");
    }
    if (value.get_object().empty()) {
        return Filter{};
    }
    auto root = Compiler{}.object(value.get_object(), {}, 1);
    if (!root) {
        return tl::unexpected<Error>(std::move(root.error()));
    }
    Filter filter;
    filter.root_ = std::make_shared<const Node>(std::move(*root));
    return filter;
}

bool Filter::matches(const json::value& payload) const {
    return root_ == nullptr || (payload.is_object() && evaluate(*root_, payload) == Verdict::kYes);
}

}  // namespace headgate
