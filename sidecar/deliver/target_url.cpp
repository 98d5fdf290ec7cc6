// The strict reading of a webhook's URL, at write time. Whatever libcurl or the resolver could read
// differently (numeric forms of IPv4, user information, zone ids, escapes in the host) is refused
// here, and the address is checked again where the socket is opened. Next file: target_guard.cpp.
#include <algorithm>
#include <charconv>

#include "common/json_bytes.h"
#include "common/limits.h"
#include "sidecar/base/text.h"
#include "sidecar/deliver/target_guard.h"

namespace headgate {

namespace {

tl::unexpected<Error> bad_url(std::string_view why) {
    return fail(ErrorCode::kUnprocessable, "url: " + std::string(why));
}

using json_bytes::is_digit;

bool is_url_character(char c) noexcept {
    return c > 0x20 && c < 0x7f && std::string_view("\"<>\\^`{|}#").find(c) == std::string_view::npos;
}

// Would inet_aton(3) take this label for a number? Then the whole host is an IPv4 address to the
// resolver, whatever its other labels look like (127.1, 0x7f.1, 017700000001).
bool is_numeric_label(std::string_view label) noexcept {
    if (label.starts_with("0x")) {
        return label.substr(2).find_first_not_of("0123456789abcdef") == std::string_view::npos;
    }
    return std::all_of(label.begin(), label.end(), is_digit);
}

bool is_host_name(std::string_view host) noexcept {
    constexpr std::size_t kHostBytesMax = 253;
    constexpr std::size_t kLabelBytesMax = 63;
    if (host.empty() || host.size() > kHostBytesMax) {
        return false;
    }
    while (!host.empty()) {
        const std::size_t dot = host.find('.');
        const std::string_view label = host.substr(0, dot);
        const auto is_label_character = [](char c) {
            return (c >= 'a' && c <= 'z') || is_digit(c) || c == '-' || c == '_';
        };
        if (label.empty() || label.size() > kLabelBytesMax || label.front() == '-' || label.back() == '-' ||
            !std::all_of(label.begin(), label.end(), is_label_character)) {
            return false;
        }
        if (dot == std::string_view::npos) {
            return true;
        }
        host.remove_prefix(dot + 1);
    }
    return false;  // ended in a dot
}

Result<std::uint16_t> parse_port(std::string_view text) {
    unsigned port = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
    if (error != std::errc{} || end != text.data() + text.size() || text.front() == '0' || port > 65535) {
        return bad_url("the port is not a number from 1 to 65535");
    }
    return static_cast<std::uint16_t>(port);
}

Result<void> parse_host(std::string_view host, TargetUrl& target) {
    if (host.starts_with('[')) {
        const std::string_view inner = host.substr(1, host.size() - 2);
        const auto address = parse_ip(inner);
        if (!address || inner.find(':') == std::string_view::npos) {
            return bad_url("the host is not a valid IPv6 address (zone ids are not allowed)");
        }
        target.host = to_lower(inner);
        target.is_literal_address = true;
        return {};
    }
    target.host = to_lower(host);
    if (!is_host_name(target.host)) {
        return bad_url(
            "the host is not a host name: letters, digits, - and _ between single dots, none at the end; "
            "write an internationalized name in its xn-- form");
    }
    if (is_numeric_label(std::string_view(target.host).substr(target.host.rfind('.') + 1))) {
        if (!parse_ip(target.host)) {
            return bad_url("a numeric host must be four decimal numbers without leading zeros");
        }
        target.is_literal_address = true;
    }
    return {};
}

}  // namespace

Result<TargetUrl> parse_target_url(std::string_view url) {
    if (url.size() > limits::kWebhookUrlBytesMax) {
        return bad_url("longer than " + std::to_string(limits::kWebhookUrlBytesMax) + " bytes");
    }
    if (!std::all_of(url.begin(), url.end(), is_url_character)) {
        return bad_url(
            "white space, control characters, non-ASCII characters, fragments and \" < > \\ ^ ` { | } are "
            "not allowed");
    }
    TargetUrl target;
    const std::size_t colon = url.find("://");
    target.scheme = to_lower(url.substr(0, colon == std::string_view::npos ? 0 : colon));
    if (target.scheme != "https" && target.scheme != "http") {
        return bad_url("the scheme must be https or http");
    }
    std::string_view authority = url.substr(colon + 3);
    authority = authority.substr(0, authority.find_first_of("/?"));
    if (authority.find('@') != std::string_view::npos) {
        return bad_url("user information is not allowed");
    }
    const std::size_t bracket = authority.rfind(']');
    const std::size_t host_end =
        authority.starts_with('[') && bracket != std::string_view::npos ? bracket + 1 : authority.find(':');
    if (auto host = parse_host(authority.substr(0, host_end), target); !host) {
        return tl::unexpected<Error>(std::move(host.error()));
    }
    target.port = target.scheme == "https" ? 443 : 80;
    if (host_end < authority.size()) {
        const std::string_view rest = authority.substr(host_end);
        if (rest.size() < 2 || rest.front() != ':') {
            return bad_url("the port is not a number from 1 to 65535");
        }
        auto port = parse_port(rest.substr(1));
        if (!port) {
            return tl::unexpected<Error>(std::move(port.error()));
        }
        target.port = *port;
    }
    return target;
}

}  // namespace headgate
