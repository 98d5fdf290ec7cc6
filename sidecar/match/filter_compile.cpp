// Compiles filters: every mistake in their text is found here. Input: the `filters` column. Next file:
// filter_evaluate.cpp.
#include <boost/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "sidecar/base/json_read.h"
#include "sidecar/match/filter_node.h"

namespace headgate {

namespace json = boost::json;

namespace {

using Node = Filter::Node;

struct Compiler {
    FilterFields& fields;
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
    Node node{*op, path, fields.slot_of(path), {}, {}};
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
        if (!path.empty()) {
            node.slot = fields.slot_of(path);
        }
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

}  // namespace

Result<Filter> Filter::compile(std::string_view text, FilterFields& fields) {
    if (text.empty()) {
        return Filter{};
    }
    if (text.size() > kFilterBytesMax) {
        return fail(ErrorCode::kUnprocessable, "filters: larger than " + std::to_string(kFilterBytesMax) + " bytes");
    }
    boost::system::error_code error;
    const json::value value = read_json(text, 2 * kFilterDepthMax, error);
    if (error) {
        return fail(ErrorCode::kUnprocessable, "filters: not JSON, or nested too deeply: " + error.message());
    }
    if (!value.is_object()) {
        return fail(ErrorCode::kUnprocessable, "filters: an object is needed");
    }
    if (value.get_object().empty()) {
        return Filter{};
    }
    auto root = Compiler{fields}.object(value.get_object(), {}, 1);
    if (!root) {
        return tl::unexpected<Error>(std::move(root.error()));
    }
    Node top = std::move(*root);
    while (top.op == FilterOp::kAnd && top.children.size() == 1) {
        Node only = std::move(top.children.front());
        top = std::move(only);
    }
    Filter filter;
    filter.root_ = std::make_shared<const Node>(std::move(top));
    filter.fields_ = fields.size();
    return filter;
}

}  // namespace headgate
