// Writing JSON; see json_text.h.
#include "sidecar/base/json_text.h"

#include <boost/json.hpp>
#include <charconv>

#include "common/problem.h"

namespace headgate {
namespace {

template <typename Number>
void append_number(std::string& out, Number number) {
    char digits[32];
    out.append(digits, std::to_chars(digits, digits + sizeof digits, number).ptr);
}

void append(std::string& out, const boost::json::value& value) {
    switch (value.kind()) {
        case boost::json::kind::null:
            out += "null";
            break;
        case boost::json::kind::bool_:
            out += value.get_bool() ? "true" : "false";
            break;
        case boost::json::kind::int64:
            append_number(out, value.get_int64());
            break;
        case boost::json::kind::uint64:
            append_number(out, value.get_uint64());
            break;
        case boost::json::kind::double_:
            append_number(out, value.get_double());
            break;
        case boost::json::kind::string:
            append_json_string(out, std::string_view(value.get_string().data(), value.get_string().size()));
            break;
        case boost::json::kind::array: {
            out += '[';
            bool first = true;
            for (const auto& item : value.get_array()) {
                if (!std::exchange(first, false)) out += ',';
                append(out, item);
            }
            out += ']';
            break;
        }
        case boost::json::kind::object: {
            out += '{';
            bool first = true;
            for (const auto& [name, item] : value.get_object()) {
                if (!std::exchange(first, false)) out += ',';
                append_json_string(out, std::string_view(name.data(), name.size()));
                out += ':';
                append(out, item);
            }
            out += '}';
            break;
        }
    }
}

}  // namespace

std::string json_text(const boost::json::value& value) {
    std::string out;
    append(out, value);
    return out;
}

}  // namespace headgate
