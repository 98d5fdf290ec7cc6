// Reading JSON; see json_read.h.
#include "sidecar/base/json_read.h"

#include <boost/json.hpp>
#include <boost/json/basic_parser_impl.hpp>
#include <charconv>
#include <utility>

namespace headgate {
namespace {

namespace json = boost::json;
using Code = boost::system::error_code;

// What basic_parser calls, named as it wants it (Boost.JSON, "basic_parser").
struct Builder {
    static constexpr std::size_t max_object_size = json::object::max_size();
    static constexpr std::size_t max_array_size = json::array::max_size();
    static constexpr std::size_t max_key_size = json::string::max_size();
    static constexpr std::size_t max_string_size = json::string::max_size();

    explicit Builder(json::storage_ptr storage) { stack.reset(std::move(storage)); }

    json::value_stack stack;

    static bool on_document_begin(Code&) { return true; }
    static bool on_document_end(Code&) { return true; }
    static bool on_object_begin(Code&) { return true; }
    static bool on_array_begin(Code&) { return true; }
    static bool on_number_part(json::string_view, Code&) { return true; }
    static bool on_comment_part(json::string_view, Code&) { return true; }
    static bool on_comment(json::string_view, Code&) { return true; }
    bool on_object_end(std::size_t members, Code&) { return stack.push_object(members), true; }
    bool on_array_end(std::size_t items, Code&) { return stack.push_array(items), true; }
    bool on_key_part(json::string_view text, std::size_t, Code&) { return stack.push_chars(text), true; }
    bool on_key(json::string_view text, std::size_t, Code&) { return stack.push_key(text), true; }
    bool on_string_part(json::string_view text, std::size_t, Code&) { return stack.push_chars(text), true; }
    bool on_string(json::string_view text, std::size_t, Code&) { return stack.push_string(text), true; }
    bool on_int64(std::int64_t number, json::string_view, Code&) { return stack.push_int64(number), true; }
    bool on_uint64(std::uint64_t number, json::string_view, Code&) { return stack.push_uint64(number), true; }
    // All of the text is there at once, so `text` is all of the number. What has no double stays as it is: infinite or
    // 0.
    bool on_double(double number, json::string_view text, Code&) {
        std::from_chars(text.data(), text.data() + text.size(), number);
        return stack.push_double(number), true;
    }
    bool on_bool(bool value, Code&) { return stack.push_bool(value), true; }
    bool on_null(Code&) { return stack.push_null(), true; }
};

}  // namespace

json::value read_json(std::string_view text, std::size_t depth_max, Code& error, json::storage_ptr storage) {
    json::parse_options options;
    options.max_depth = depth_max;
    json::basic_parser<Builder> parser(options, std::move(storage));
    const std::size_t read = parser.write_some(false, text.data(), text.size(), error);
    if (!error && read < text.size()) {
        error = json::error::extra_data;
    }
    return error ? json::value() : parser.handler().stack.release();
}

}  // namespace headgate
