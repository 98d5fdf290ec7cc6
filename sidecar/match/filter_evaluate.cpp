// Evaluates compiled filters. Input: a filter_node.h and a parsed payload. Next file: subscriptions.cpp.
#include <boost/json.hpp>
#include <cmath>
#include <compare>
#include <string>
#include <vector>

#include "sidecar/match/filter_node.h"

namespace headgate {

namespace json = boost::json;

namespace {

using Node = Filter::Node;

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

// Rounding keeps an order and may hide it: two numbers of which one is inexact are told apart only when they still
// differ as doubles.
bool may_be_anything(const json::value& a, const json::value& b) {
    return (is_inexact(a) || is_inexact(b)) && a.to_number<double>() == b.to_number<double>();
}

Verdict ordered(FilterOp op, const json::value& field, const json::value& operand) {
    std::partial_ordering order = std::partial_ordering::unordered;
    if (field.is_number() && operand.is_number()) {
        if (may_be_anything(field, operand)) {
            return Verdict::kUnreadable;
        }
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

Verdict evaluate(const Node& node, FilterValues& values);

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
Verdict evaluate_children(const Node& node, FilterValues& values) {
    const Verdict decisive = node.op == FilterOp::kOr ? Verdict::kYes : Verdict::kNo;
    Verdict verdict = negate(decisive);
    for (const Node& child : node.children) {
        const Verdict each = evaluate(child, values);
        if (each == decisive) {
            return each;
        }
        if (each == Verdict::kUnreadable) {
            verdict = each;
        }
    }
    return verdict;
}

Verdict evaluate(const Node& node, FilterValues& values) {
    if (node.op == FilterOp::kAnd || node.op == FilterOp::kOr) {
        return evaluate_children(node, values);
    }
    if (node.op == FilterOp::kNot && node.path.empty()) {
        return negate(evaluate(node.children.front(), values));
    }
    const json::value* field = values.find(node.slot, node.path);
    if (node.op == FilterOp::kExists) {
        return from_bool((field != nullptr) == node.operands.front().get_bool());
    }
    if (field == nullptr) {
        return Verdict::kNo;
    }
    if (node.op == FilterOp::kNot) {
        return negate(evaluate(node.children.front(), values));
    }
    return evaluate_condition(node, *field);
}

}  // namespace

std::uint32_t FilterFields::slot_of(const std::vector<std::string>& path) {
    std::string name;  // no segment holds a dot
    for (const std::string& segment : path) {
        name.append(name.empty() ? "" : ".").append(segment);
    }
    return slots_.try_emplace(std::move(name), static_cast<std::uint32_t>(slots_.size())).first->second;
}

void FilterValues::begin(const json::value& payload, std::size_t fields) {
    payload_ = &payload;
    found_.assign(fields, {});
}

const json::value* FilterValues::find(std::uint32_t slot, const std::vector<std::string>& path) {
    Found& found = found_[slot];
    if (!found.is_known) {
        found = {true, find_field(*payload_, path)};
    }
    return found.value;
}

bool Filter::matches(FilterValues& values) const {
    return root_ == nullptr || (values.payload().is_object() && evaluate(*root_, values) == Verdict::kYes);
}

bool Filter::matches(const json::value& payload) const {
    FilterValues values;
    values.begin(payload, fields_);
    return matches(values);
}

}  // namespace headgate
