// Input: a status and what went wrong. Output: the body of an error answer. Next: respond at the
// edge, the sidecar's API.
#include "common/problem.h"

#include <cstddef>

namespace headgate {

namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD
constexpr char kEscapeDigits[] = "0123456789abcdef";

// The length of the UTF-8 sequence at the front (RFC 3629, section 4), or 0 when it is invalid;
// then `bad_bytes` is how much of it one replacement character stands for: the longest beginning of a valid
// sequence, at least one byte.
std::size_t utf8_sequence_bytes(std::string_view text, std::size_t& bad_bytes) noexcept {
    const auto at = [text](std::size_t i) { return static_cast<unsigned char>(text[i]); };
    const unsigned char lead = at(0);
    bad_bytes = 1;
    if (lead < 0x80) {
        return 1;
    }
    const std::size_t bytes = lead >= 0xC2 && lead <= 0xDF   ? 2
                              : lead >= 0xE0 && lead <= 0xEF ? 3
                              : lead >= 0xF0 && lead <= 0xF4 ? 4
                                                             : 0;
    for (std::size_t i = 1; i < bytes; ++i) {
        // The second byte's range excludes overlong forms, surrogates and what is above U+10FFFF.
        const unsigned char low = i > 1 ? 0x80 : lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
        const unsigned char high = i > 1 ? 0xBF : lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
        if (i >= text.size() || at(i) < low || at(i) > high) {
            bad_bytes = i;
            return 0;
        }
    }
    return bytes;
}

void append_escape(std::string& out, char c) {
    switch (c) {
        case '"':
            out += "\\\"";
            return;
        case '\\':
            out += "\\\\";
            return;
        case '\n':
            out += "\\n";
            return;
        case '\r':
            out += "\\r";
            return;
        case '\t':
            out += "\\t";
            return;
        default:
            out += "\\u00";
            out += kEscapeDigits[static_cast<unsigned char>(c) >> 4];
            out += kEscapeDigits[static_cast<unsigned char>(c) & 15u];
    }
}

}  // namespace

std::string problem_json(int status, std::string_view type, std::string_view detail, std::string_view extra_members) {
    std::string out;
    out.reserve(128 + type.size() + 2 * detail.size() + extra_members.size());
    out += R"({"type":)";
    append_json_string(out, type.empty() ? std::string_view("about:blank") : type);
    out += R"(,"title":)";
    append_json_string(out, status_title(status));
    out += R"(,"status":)";
    out += std::to_string(status);
    out += R"(,"detail":)";
    append_json_string(out, detail);
    out += R"(,"success":false,"error":)";
    append_json_string(out, detail);
    if (!extra_members.empty()) {
        out += ',';
        out += extra_members;
    }
    out += '}';
    return out;
}

std::string_view status_title(int status) noexcept {
    switch (status) {
        case 200:
            return "OK";
        case 201:
            return "Created";
        case 202:
            return "Accepted";
        case 204:
            return "No Content";
        case 304:
            return "Not Modified";
        case 400:
            return "Bad Request";
        case 401:
            return "Unauthorized";
        case 402:
            return "Payment Required";
        case 403:
            return "Forbidden";
        case 404:
            return "Not Found";
        case 405:
            return "Method Not Allowed";
        case 406:
            return "Not Acceptable";
        case 408:
            return "Request Timeout";
        case 409:
            return "Conflict";
        case 410:
            return "Gone";
        case 411:
            return "Length Required";
        case 412:
            return "Precondition Failed";
        case 413:
            return "Content Too Large";
        case 414:
            return "URI Too Long";
        case 415:
            return "Unsupported Media Type";
        case 422:
            return "Unprocessable Content";
        case 428:
            return "Precondition Required";
        case 429:
            return "Too Many Requests";
        case 431:
            return "Request Header Fields Too Large";
        case 500:
            return "Internal Server Error";
        case 501:
            return "Not Implemented";
        case 502:
            return "Bad Gateway";
        case 503:
            return "Service Unavailable";
        case 504:
            return "Gateway Timeout";
        case 507:
            return "Insufficient Storage";
        default:
            return status >= 500 ? "Server Error" : status >= 400 ? "Client Error" : "";
    }
}

void append_json_string(std::string& out, std::string_view text) {
    out += '"';
    while (!text.empty()) {
        // The longest run that needs no change is appended at once.
        std::size_t run = 0;
        std::size_t bad_bytes = 0;
        while (run < text.size()) {
            const auto c = static_cast<unsigned char>(text[run]);
            if (c < 0x20 || c == '"' || c == '\\' || c == 0x7f) {
                break;
            }
            const std::size_t bytes = utf8_sequence_bytes(text.substr(run), bad_bytes);
            if (bytes == 0) {
                break;
            }
            bad_bytes = 0;
            run += bytes;
        }
        out.append(text.substr(0, run));
        text.remove_prefix(run);
        if (text.empty()) {
            break;
        }
        if (static_cast<unsigned char>(text[0]) >= 0x80) {
            out += kReplacement;
            text.remove_prefix(bad_bytes);
        } else {
            append_escape(out, text[0]);
            text.remove_prefix(1);
        }
    }
    out += '"';
}

}  // namespace headgate
