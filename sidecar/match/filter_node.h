// A compiled filter: what filter_compile.cpp makes of its text and filter_evaluate.cpp walks for each payload.
#pragma once

#include <boost/json.hpp>
#include <cstdint>
#include <string>
#include <vector>

#include "sidecar/match/filter.h"

namespace headgate {

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
    std::vector<std::string> path;             // of a condition on a field
    std::uint32_t slot = 0;                    // of the path, in the organization's FilterFields
    std::vector<boost::json::value> operands;  // one, or several for kIn and kNin
    std::vector<Node> children;                // of kAnd, kOr and kNot
};

// What can be compared; neither an object nor an array is equal to anything.
[[nodiscard]] inline bool is_scalar(const boost::json::value& value) noexcept {
    return !value.is_object() && !value.is_array();
}

}  // namespace headgate
