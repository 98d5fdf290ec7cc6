// What must hold for any template and any payload; the fuzzer and the test that replays its corpus share it. An input
// is `json` or `form` on a line, the event's source on another, the template, a line `---`, and the payload.
#pragma once

#include <boost/json.hpp>
#include <string>
#include <string_view>
#include <utility>

#include "common/limits.h"
#include "common/problem.h"
#include "sidecar/deliver/body_template.h"

namespace headgate::test {

struct TemplateInput {
    BodySyntax syntax = BodySyntax::kJson;
    std::string text;
    Event event;
};

inline bool is_json(std::string_view text, std::size_t depth_max) {
    boost::json::parse_options options;
    options.max_depth = depth_max;
    boost::system::error_code error;
    boost::json::parse(text, error, {}, options);
    return !error.failed();
}

// As the edge lets it pass: UTF-8 without control characters.
inline bool is_source(std::string_view text) {
    std::string quoted;
    append_json_string(quoted, text);
    return text.find_first_of(std::string_view("\0\r\n\t\x7f", 5)) == std::string_view::npos && is_json(quoted, 1);
}

inline TemplateInput template_input(std::string_view bytes) {
    constexpr std::string_view kBetween = "\n---\n";
    const auto line = [&bytes] {
        const std::size_t end = bytes.find('\n');
        const std::string_view taken = bytes.substr(0, end);
        bytes.remove_prefix(end == std::string_view::npos ? bytes.size() : end + 1);
        return taken;
    };
    TemplateInput input;
    input.syntax = line() == "form" ? BodySyntax::kForm : BodySyntax::kJson;
    const std::string_view source = line();
    const std::size_t between = bytes.find(kBetween);
    input.text = bytes.substr(0, between);
    input.event.id = "018f0000-0000-7000-8000-000000000001";
    input.event.org = "org_1";
    input.event.type = "order.created";
    input.event.source = is_source(source) ? source : "shop";
    input.event.created_at = 1'700'000'000'123;
    if (between != std::string_view::npos) input.event.payload = bytes.substr(between + kBetween.size());
    return input;
}

// What separates members of a form, placeholders left out.
inline std::pair<std::size_t, std::size_t> separators(std::string_view text) {
    std::pair<std::size_t, std::size_t> count;
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text.substr(i).starts_with("{{")) i = text.find("}}", i) + 1;
        count.first += text[i] == '&' ? 1 : 0;
        count.second += text[i] == '=' ? 1 : 0;
    }
    return count;
}

inline bool is_hex_digit(char c) {
    return std::string_view("0123456789abcdefABCDEF").find(c) != std::string_view::npos;
}

inline bool is_form(std::string_view body) {
    for (std::size_t i = 0; i < body.size(); ++i) {
        const auto c = static_cast<unsigned char>(body[i]);
        if (c <= ' ' || c >= 0x7f || std::string_view("\"<>\\^`{|}#").find(body[i]) != std::string_view::npos)
            return false;
        if (c == '%' && (i + 2 >= body.size() || !is_hex_digit(body[i + 1]) || !is_hex_digit(body[i + 2])))
            return false;
    }
    return true;
}

// What compiles becomes what its content type says, whatever comes, in bounds.
inline bool template_is_right(std::string_view bytes, bool* is_rendered = nullptr) {
    const TemplateInput input = template_input(bytes);
    const auto compiled = BodyTemplate::compile(input.text, input.syntax);
    if (!compiled) return compiled.error().code == ErrorCode::kUnprocessable && !compiled.error().message.empty();
    const auto body = compiled->render(input.event);
    const bool is_payload_read = is_json(input.event.payload, limits::kJsonDepthMax);
    if (!body) {
        // A payload that is JSON is never the reason.
        return body.error().code == ErrorCode::kTooLarge ||
               (body.error().code == ErrorCode::kCorrupt && !is_payload_read);
    }
    if (is_rendered != nullptr) *is_rendered = true;
    const auto again = compiled->render(input.event);
    if (!again || *again != *body || body->size() > limits::kBodyTemplateOutputBytesMax) return false;
    if (input.syntax == BodySyntax::kForm) return is_form(*body) && separators(*body) == separators(input.text);
    // The payload stands in the template: both depths count.
    return !is_payload_read || is_json(*body, 2 * static_cast<std::size_t>(limits::kJsonDepthMax));
}

}  // namespace headgate::test
