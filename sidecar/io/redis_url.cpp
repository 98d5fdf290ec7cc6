// A Redis URL as a RedisAddress, and what follows from one; see redis_address.h.
#include <charconv>
#include <optional>

#include "common/ip_network.h"
#include "sidecar/base/own_servers.h"
#include "sidecar/io/redis_address.h"

namespace headgate {
namespace {

constexpr int kDatabaseMax = 16'383;
constexpr std::size_t kServersMax = 32;

// The message never repeats the URL: it may hold a password.
tl::unexpected<Error> bad_url(std::string_view why) {
    return fail(ErrorCode::kInvalidArgument,
                "a Redis URL is redis://[user:password@]host:port[,host:port...][/db], rediss:// for TLS, or "
                "unix:/path[?db=n]: " +
                    std::string(why));
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
    for (bool is_last = false; !is_last;) {
        std::size_t comma = rest.find(',');
        is_last = comma == std::string_view::npos;
        auto server = parse_redis_server(rest.substr(0, comma), kRedisPortDefault);
        if (!server) return bad_url("each server is host, host:port or [address]:port");
        if (address.host.empty()) {
            address.host = server->host;
            address.port = std::to_string(server->port);
        } else {
            address.others.push_back(std::move(*server));
        }
        rest = is_last ? std::string_view() : rest.substr(comma + 1);
    }
    if (address.others.size() >= kServersMax) return bad_url("there are too many servers");
    return address;
}

}  // namespace

std::optional<redis::HostPort> parse_redis_server(std::string_view text, int default_port) {
    redis::HostPort server{std::string(text), default_port};
    std::string_view port;
    bool has_port = false;
    if (text.starts_with('[')) {  // an IPv6 address
        std::size_t end = text.find(']');
        if (end == std::string_view::npos) return std::nullopt;
        server.host = text.substr(1, end - 1);
        port = text.substr(end + 1);
        has_port = !port.empty();
        if (has_port && !port.starts_with(':')) return std::nullopt;
        if (has_port) port.remove_prefix(1);
    } else if (std::size_t colon = text.find(':'); colon != std::string_view::npos) {
        server.host = text.substr(0, colon);
        port = text.substr(colon + 1);
        has_port = true;
    }
    if (has_port && !parse_number(port, 65'535, server.port)) return std::nullopt;
    if (server.host.empty() || server.port == 0) return std::nullopt;
    return server;
}

Result<RedisAddress> parse_redis_url(std::string_view url) {
    constexpr std::string_view kTcp = "redis://";
    constexpr std::string_view kTls = "rediss://";
    constexpr std::string_view kUnix = "unix:";
    if (url.starts_with(kTcp)) return parse_tcp(url.substr(kTcp.size()));
    if (url.starts_with(kUnix)) return parse_unix(url.substr(kUnix.size()));
    if (!url.starts_with(kTls)) return bad_url("the scheme is missing or unknown");
    auto address = parse_tcp(url.substr(kTls.size()));
    if (address) address->wants_tls = true;
    return address;
}

std::vector<redis::HostPort> RedisAddress::servers() const {
    std::vector<redis::HostPort> all;
    int number = 0;
    if (!host.empty() && parse_number(port, 65'535, number)) all.push_back({host, number});
    all.insert(all.end(), others.begin(), others.end());
    return all;
}

RedisAddress RedisAddress::of_server(const redis::HostPort& server) const {
    RedisAddress one;
    one.host = server.host;
    one.port = std::to_string(server.port);
    one.username = username;
    one.password = password;
    one.database = database;
    one.wants_tls = wants_tls;
    one.tls = tls;
    one.own_servers = own_servers;
    return one;
}

RedisAddress RedisAddress::of_sentinel(const redis::HostPort& sentinel) const {
    RedisAddress one = of_server(sentinel);
    one.username = sentinel_username;
    one.password = sentinel_password;
    one.database = 0;
    return one;
}

void RedisAddress::tell_servers(const std::vector<redis::HostPort>& servers) const {
    if (!own_servers) return;
    for (const redis::HostPort& server : servers) {
        if (auto ip = parse_ip(server.host)) own_servers->learn(*ip, static_cast<std::uint16_t>(server.port));
    }
}

std::string RedisAddress::name() const {
    if (!unix_path.empty()) return unix_path;
    if (has_sentinels()) return "master " + sentinel_master;
    return host + ":" + port;
}

}  // namespace headgate
