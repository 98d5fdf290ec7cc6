// See filter_set.h.
#include "sidecar/match/filter_set.h"

#include <algorithm>
#include <boost/json.hpp>
#include <cmath>
#include <functional>

#include "sidecar/match/filter_node.h"

namespace headgate {

namespace json = boost::json;

namespace {

// Two values that a filter calls equal have the same key. False: equal to nothing.
bool write_key(const json::value& value, std::string& key) {
    constexpr double kExactMax = 9007199254740992.0;
    key.clear();
    if (value.is_string()) {
        key.append("s").append(std::string_view(value.get_string()));
    } else if (value.is_bool()) {
        key.append(value.get_bool() ? "t" : "f");
    } else if (value.is_null()) {
        key.append("n");
    } else if (value.is_int64()) {
        key.append("i").append(std::to_string(value.get_int64()));
    } else if (value.is_uint64()) {
        key.append("i").append(std::to_string(value.get_uint64()));
    } else if (value.is_double() && std::fabs(value.get_double()) < kExactMax) {
        const double number = value.get_double();
        if (number == std::trunc(number)) {
            key.append("i").append(std::to_string(static_cast<std::int64_t>(number)));
        } else {
            key.append("d").append(reinterpret_cast<const char*>(&number), sizeof number);
        }
    } else {
        return false;
    }
    return true;
}

bool is_equality(const Filter::Node& node) { return node.op == FilterOp::kEq || node.op == FilterOp::kIn; }

bool is_lower_bound(const Filter::Node& node) { return node.op == FilterOp::kGt || node.op == FilterOp::kGte; }

bool is_bound(const Filter::Node& node) {
    const bool is_upper = node.op == FilterOp::kLt || node.op == FilterOp::kLte;
    return (is_upper || is_lower_bound(node)) && node.operands.front().is_number();
}

// A condition of that kind that must hold for all of it to hold.
template <typename Kind>
const Filter::Node* required(const Filter::Node& node, const Kind& is_kind) {
    if (is_kind(node)) {
        return &node;
    }
    if (node.op != FilterOp::kAnd) {
        return nullptr;
    }
    for (const Filter::Node& child : node.children) {
        if (const Filter::Node* found = required(child, is_kind); found != nullptr) {
            return found;
        }
    }
    return nullptr;
}

}  // namespace

FilterSet::Field& FilterSet::field_of(const Filter::Node& condition) {
    const auto [found, is_new] = field_by_slot_.try_emplace(condition.slot, fields_.size());
    if (is_new) {
        fields_.push_back({condition.path, condition.slot, {}, {}, {}, true});
    }
    return fields_[found->second];
}

void FilterSet::add(std::uint32_t id, Filter filter) {
    const auto place = static_cast<std::uint32_t>(entries_.size());
    const Filter::Node* equality = required(*filter.root(), is_equality);
    const Filter::Node* bound = equality != nullptr ? nullptr : required(*filter.root(), is_bound);
    if (bound != nullptr) {
        Field& field = field_of(*bound);
        Bounds& bounds = is_lower_bound(*bound) ? field.least : field.most;
        bounds.emplace_back(bound->operands.front().to_number<double>(), place);
        field.is_sorted = false;
    } else if (equality == nullptr) {
        others_.push_back(place);
    } else {
        Field& field = field_of(*equality);
        for (const json::value& operand : equality->operands) {
            if (!write_key(operand, key_)) {
                continue;
            }
            Places& places = field.by_value[key_];
            if (places.empty() || places.back() != place) {
                places.push_back(place);
            }
        }
    }
    entries_.push_back({id, std::move(filter)});
}

void FilterSet::match(FilterValues& values, std::vector<std::uint32_t>& out) {
    const auto evaluate = [&](std::uint32_t place) {
        if (entries_[place].filter.matches(values)) {
            out.push_back(entries_[place].id);
        }
    };
    for (Field& field : fields_) {
        if (!field.is_sorted) {
            std::sort(field.least.begin(), field.least.end());
            std::sort(field.most.begin(), field.most.end(), std::greater<>());
            field.is_sorted = true;
        }
        const json::value* value = values.find(field.slot, field.path);
        if (value == nullptr) {
            continue;
        }
        if (value->is_number()) {
            // Rounding keeps an order: whoever may match is among these.
            const auto number = value->to_number<double>();
            for (auto at = field.least.begin(); at != field.least.end() && at->first <= number; ++at) {
                evaluate(at->second);
            }
            for (auto at = field.most.begin(); at != field.most.end() && at->first >= number; ++at) {
                evaluate(at->second);
            }
        }
        if (field.by_value.empty() || !write_key(*value, key_)) {
            continue;
        }
        if (const auto found = field.by_value.find(key_); found != field.by_value.end()) {
            std::for_each(found->second.begin(), found->second.end(), evaluate);
        }
    }
    std::for_each(others_.begin(), others_.end(), evaluate);
}

}  // namespace headgate
