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
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "common/result.h"

namespace headgate {

inline constexpr std::size_t kFilterBytesMax = 16 * 1024;
inline constexpr std::size_t kFilterConditionsMax = 256;
inline constexpr int kFilterDepthMax = 16;

// The fields that an organization's filters look at, each once: what one filter has looked up others find.
class FilterFields {
 public:
    // Of a dotted path; the same for the same path.
    [[nodiscard]] std::uint32_t slot_of(const std::vector<std::string>& path);
    [[nodiscard]] std::size_t size() const noexcept { return slots_.size(); }

 private:
    std::unordered_map<std::string, std::uint32_t> slots_;
};

// One payload, and what has been found in it so far. `payload` outlives it.
class FilterValues {
 public:
    // `fields`: how many slots there are.
    void begin(const boost::json::value& payload, std::size_t fields);
    [[nodiscard]] const boost::json::value& payload() const noexcept { return *payload_; }
    // Null: it is not there.
    [[nodiscard]] const boost::json::value* find(std::uint32_t slot, const std::vector<std::string>& path);

 private:
    struct Found {
        bool is_known = false;
        const boost::json::value* value = nullptr;
    };
    const boost::json::value* payload_ = nullptr;
    std::vector<Found> found_;
};

class Filter {
 public:
    struct Node;
    // kUnprocessable names the member that is wrong. An empty text or `{}` matches everything.
    // `fields` is that of the FilterValues that the filter will be asked about.
    [[nodiscard]] static Result<Filter> compile(std::string_view json, FilterFields& fields);
    [[nodiscard]] static Result<Filter> compile(std::string_view json) {
        FilterFields fields;
        return compile(json, fields);
    }
    [[nodiscard]] bool matches_everything() const noexcept { return root_ == nullptr; }
    // `payload` is the event's payload; anything but an object matches no condition.
    [[nodiscard]] bool matches(const boost::json::value& payload) const;
    [[nodiscard]] bool matches(FilterValues& values) const;
    [[nodiscard]] const Node* root() const noexcept { return root_.get(); }

 private:
    std::shared_ptr<const Node> root_;  // null: no condition
    std::size_t fields_ = 0;            // slots that it may ask for
};

}  // namespace headgate
