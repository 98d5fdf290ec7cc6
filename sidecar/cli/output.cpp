// Printing results; see output.h.
#include "sidecar/cli/output.h"

#include <unistd.h>

#include <algorithm>
#include <boost/json.hpp>
#include <iostream>

#include "sidecar/base/json_text.h"
#include "sidecar/base/text.h"

namespace headgate {
namespace {

std::string plain(const boost::json::value& value) {
    if (value.is_string()) return std::string(value.get_string().data(), value.get_string().size());
    if (value.is_null()) return "-";
    if (value.is_array()) {
        std::vector<std::string> parts;
        for (const auto& item : value.get_array()) parts.push_back(plain(item));
        return parts.empty() ? "-" : join(parts, " ");
    }
    return json_text(value);
}

}  // namespace

void print_record(bool as_json, const boost::json::object& record) {
    if (as_json) {
        std::cout << json_text(record) << "\n";
    } else {
        for (const auto& [name, value] : record)
            std::cout << std::string_view(name.data(), name.size()) << ": " << plain(value) << "\n";
    }
    std::cout.flush();
}

void print_table(bool as_json, const std::vector<std::string>& columns, const boost::json::array& rows) {
    if (as_json) {
        std::cout << json_text(rows) << "\n";
        return;
    }
    std::vector<std::vector<std::string>> cells = {columns};
    for (const auto& row : rows) {
        auto& line = cells.emplace_back();
        for (const auto& column : columns) {
            const auto* value = row.get_object().if_contains(column);
            line.push_back(value == nullptr ? "-" : plain(*value));
            if (line.back().empty()) line.back() = "-";
        }
    }
    bool is_terminal = isatty(STDOUT_FILENO) == 1;
    std::vector<std::size_t> widths(columns.size());
    for (const auto& line : cells)
        for (std::size_t i = 0; i < line.size(); ++i) widths[i] = std::max(widths[i], line[i].size());
    for (const auto& line : cells) {
        for (std::size_t i = 0; i < line.size(); ++i) {
            bool is_last = i + 1 == line.size();
            std::cout << line[i];
            if (!is_last) std::cout << (is_terminal ? std::string(widths[i] - line[i].size() + 2, ' ') : "\t");
        }
        std::cout << "\n";
    }
}

Error as_error(const std::vector<FieldError>& errors) {
    std::vector<std::string> lines;
    for (const auto& error : errors) lines.push_back(error.msg);
    return Error{ErrorCode::kUnprocessable, join(lines, "\n")};
}

}  // namespace headgate
