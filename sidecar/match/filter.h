// A webhook's `filters`: a condition on the payload, compiled once and evaluated for each event
// whose type matched. Pure. Next file: subscriptions.h.
//
//   {"order_status": ["paid", "shipped"], "min_amount": 100}      a list means one of, a scalar means
//                                                                 equal, min_ and max_ are bounds
//   {"customer.country": {"$in": ["DE", "AT"]}, "$not": {"test": true}}
//
// Fields are dotted paths or nested objects. Operators: $eq $ne $gt $gte $lt $lte $in $nin
// $startsWith $endsWith $exists $and $or $not. All members of an object must hold. A field that is
// missing satisfies only `$exists: false`. What cannot be read exactly (a payload that does not
// parse, an integer beyond 2^53 that came as a float) is neither equal nor unequal to anything, nor less
// nor greater than what it may be: the filter does not match, and a `$not` around it does not turn
// that into a match.
#pragma once

#include <boost/json/fwd.hpp>
#include <cstddef>
#include <memory>
#include <string_view>

#include "common/result.h"

namespace headgate {

inline constexpr std::size_t kFilterBytesMax = 16 * 1024;
inline constexpr std::size_t kFilterConditionsMax = 256;
inline constexpr int kFilterDepthMax = 16;

class Filter {
 public:
    struct Node;
    // kUnprocessable names the member that is wrong. An empty text or `{}` matches everything.
    [[nodiscard]] static Result<Filter> compile(std::string_view json);
    [[nodiscard]] bool matches_everything() const noexcept { return root_ == nullptr; }
    // `payload` is the event's payload; anything but an object matches no condition.
    [[nodiscard]] bool matches(const boost::json::value& payload) const;

 private:
    std::shared_ptr<const Node> root_;  // null: no condition
};

}  // namespace headgate
