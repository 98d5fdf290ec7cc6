// See filter_set.h.
#include "sidecar/match/filter_set.h"

#include <boost/json.hpp>
#include <cmath>

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

// A condition that must hold for all of it to hold, and says what a field equals.
const Filter::Node* equality_in(const Filter::Node& node) {
    if (node.op == FilterOp::kEq || node.op == FilterOp::kIn) {
        return &node;
    }
    if (node.op != FilterOp::kAnd) {
        return nullptr;
    }
    for (const Filter::Node& child : node.children) {
        if (const Filter::Node* found = equality_in(child); found != nullptr) {
            return found;
        }
    }
    return nullptr;
}

}  // namespace

FilterSet::Field& FilterSet::field_of(const Filter::Node& condition) {
    const auto [found, is_new] = field_by_slot_.try_emplace(condition.slot, fields_.size());
    if (is_new) {
        fields_.push_back({condition.path, condition.slot, {}});
    }
    return fields_[found->second];
}

void FilterSet::add(std::uint32_t id, Filter filter) {
    const auto place = static_cast<std::uint32_t>(entries_.size());
    const Filter::Node* condition = equality_in(*filter.root());
    if (condition == nullptr) {
        others_.push_back(place);
    } else {
        Field& field = field_of(*condition);
        for (const json::value& operand : condition->operands) {
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
    const auto evaluate = [&](const Places& places) {
        for (const std::uint32_t place : places) {
            if (entries_[place].filter.matches(values)) {
                out.push_back(entries_[place].id);
            }
        }
    };
    for (const Field& field : fields_) {
        const json::value* value = values.find(field.slot, field.path);
        if (value == nullptr || !write_key(*value, key_)) {
            continue;
        }
        if (const auto found = field.by_value.find(key_); found != field.by_value.end()) {
            evaluate(found->second);
        }
    }
    evaluate(others_);
}

}  // namespace headgate
