// Many filters that are asked about the same payloads. A filter that cannot match unless a field equals a value, or
// lies beyond a number, is found through that; only the others are evaluated for each payload. Pure. Next file:
// subscriptions.h.
#pragma once

#include <boost/json/fwd.hpp>
#include <cstdint>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "sidecar/match/filter.h"

namespace headgate {

class FilterSet {
 public:
    // `filter` has a condition, and is compiled with the fields of the values below.
    void add(std::uint32_t id, Filter filter);
    [[nodiscard]] std::size_t size() const noexcept { return entries_.size(); }
    // Appends the ids of those that match, in no order.
    void match(FilterValues& values, std::vector<std::uint32_t>& out);

 private:
    using Places = std::vector<std::uint32_t>;  // into entries_
    struct Entry {
        std::uint32_t id = 0;
        Filter filter;
    };
    using Bounds = std::vector<std::pair<double, std::uint32_t>>;
    struct Field {
        std::vector<std::string> path;
        std::uint32_t slot = 0;
        std::unordered_map<std::string, Places> by_value;
        Bounds least, most;  // what the field must reach, and must not exceed
        bool is_sorted = true;
    };
    Field& field_of(const Filter::Node& condition);
    std::vector<Entry> entries_;
    std::vector<Field> fields_;
    std::unordered_map<std::uint32_t, std::size_t> field_by_slot_;
    Places others_;
    std::string key_;  // kept for its capacity
};

}  // namespace headgate
