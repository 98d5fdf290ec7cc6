// Reads the members of a JSON object one by one, and collects everything that is wrong with them. Pure.
// Input: a request's body. Next file: webhook_input.cpp.
#pragma once

#include <boost/json/fwd.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "sidecar/api/reply.h"

namespace headgate {

[[nodiscard]] std::string_view view(const boost::json::string& text);

class MemberReader {
 public:
    // Both outlive the reader.
    MemberReader(const boost::json::object& members, std::vector<FieldError>& errors)
        : members_(members), errors_(errors) {}

    void error(std::vector<std::string> loc, std::string msg);
    [[nodiscard]] bool has(std::string_view name) const;  // null included
    // nullptr when absent or null: both mean the default. The member is known from now on.
    const boost::json::value* take(std::string_view name);
    // Each leaves `out` alone when the member is absent, null or wrong.
    void read_text(std::string_view name, std::string& out, std::size_t bytes_max);
    void read_bool(std::string_view name, bool& out);
    // A number in its place; `fallback` when absent, nothing when it is wrong.
    std::optional<double> number(const boost::json::value* value, std::vector<std::string> loc, double fallback);
    std::optional<std::int64_t> integer(const boost::json::value* value, std::vector<std::string> loc,
                                        std::int64_t fallback, std::int64_t min, std::int64_t max);
    // Whatever was never taken is an error that names the nearest known member.
    void refuse_unknown();

 private:
    const boost::json::object& members_;
    std::vector<FieldError>& errors_;
    std::vector<std::string_view> known_;
};

}  // namespace headgate
