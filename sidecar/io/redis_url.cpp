// redis://[user:password@]host:port[/db] and unix:/path[?db=n] as a RedisAddress.
#include <charconv>

#include "sidecar/io/redis_client.h"

namespace headgate {
namespace {

constexpr int kDatabaseMax = 16'383;

// The message never repeats the URL: it may hold a password.
tl::unexpected<Error> bad_url(std::string_view why) {
    return fail(ErrorCode::kInvalidArgument,
                "a Redis URL is redis://[user:password@]host:port[/db] or unix:/path[?db=n]: " + std::string(why));
}

bool parse_number(std::string_view text, int max, int& out) {
    int value = 0;
    auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (ec != std::errc() || end != text.data() + text.size() || text.empty() || value < 0 || value > max) return false;
    out = value;
    return true;
}

bool percent_decode(std::string_view text, std::string& out) {
    out.clear();
    for (std::size_t i = 0; i < text.size(); i++) {
        if (text[i] != '%') {
            out += text[i];
            continue;
        }
        unsigned value = 0;
        if (i + 2 >= text.size()) return false;
        auto [end, ec] = std::from_chars(text.data() + i + 1, text.data() + i + 3, value, 16);
        if (ec != std::errc() || end != text.data() + i + 3) return false;
        out += static_cast<char>(value);
        i += 2;
    }
    return true;
}

Result<RedisAddress> parse_unix(std::string_view rest) {
    RedisAddress address;
    std::size_t query = rest.find('?');
    address.unix_path = rest.substr(0, query);
    if (!address.unix_path.starts_with('/')) return bad_url("the path of the socket must be absolute");
    if (query == std::string_view::npos) return address;
    std::string_view parameter = rest.substr(query + 1);
    if (!parameter.starts_with("db=") || !parse_number(parameter.substr(3), kDatabaseMax, address.database)) {
        return bad_url("after the path only ?db=<number> may stand");
    }
    return address;
}

Result<RedisAddress> parse_tcp(std::string_view rest) {
    RedisAddress address;
    std::size_t slash = rest.find('/');
    if (slash != std::string_view::npos) {
        std::string_view database = rest.substr(slash + 1);
        if (!database.empty() && !parse_number(database, kDatabaseMax, address.database)) {
            return bad_url("the database must be a number");
        }
        rest = rest.substr(0, slash);
    }
    if (std::size_t at = rest.rfind('@'); at != std::string_view::npos) {
        std::string_view user = rest.substr(0, at);
        std::size_t colon = user.find(':');
        if (colon == std::string_view::npos || !percent_decode(user.substr(0, colon), address.username) ||
            !percent_decode(user.substr(colon + 1), address.password)) {
            return bad_url("user:password is malformed");
        }
        rest = rest.substr(at + 1);
    }
    std::string_view host = rest;
    address.port = "6379";
    if (rest.starts_with('[')) {  // an IPv6 address
        std::size_t end = rest.find(']');
        if (end == std::string_view::npos) return bad_url("an IPv6 address needs its closing bracket");
        host = rest.substr(1, end - 1);
        rest = rest.substr(end + 1);
        if (!rest.empty() && !rest.starts_with(':')) return bad_url("a colon must follow the bracket");
        if (!rest.empty()) address.port = rest.substr(1);
    } else if (std::size_t colon = rest.find(':'); colon != std::string_view::npos) {
        host = rest.substr(0, colon);
        address.port = rest.substr(colon + 1);
    }
    int port = 0;
    if (host.empty()) return bad_url("the host is missing");
    if (!parse_number(address.port, 65'535, port) || port == 0) return bad_url("the port must be 1 to 65535");
    address.host = host;
    return address;
}

}  // namespace

Result<RedisAddress> parse_redis_url(std::string_view url) {
    constexpr std::string_view kTcp = "redis://";
    constexpr std::string_view kUnix = "unix:";
    if (url.starts_with(kTcp)) return parse_tcp(url.substr(kTcp.size()));
    if (url.starts_with(kUnix)) return parse_unix(url.substr(kUnix.size()));
    return bad_url("the scheme is missing or unknown");
}

}  // namespace headgate
