// Secrets, addresses, guard and store from the configuration; see settings.h. Next file: app.cpp.
#include "sidecar/settings.h"

#include <ifaddrs.h>
#include <netdb.h>
#include <netinet/in.h>

#include <algorithm>
#include <cstring>

#include "common/api_key.h"
#include "common/limits.h"
#include "sidecar/base/text.h"
#include "sidecar/store/open_store.h"

namespace headgate {
namespace {

std::optional<std::string> hex_decode(std::string_view hex) {
    if (hex.size() % 2 != 0) return std::nullopt;
    std::string bytes;
    for (std::size_t i = 0; i < hex.size(); i += 2) {
        int value = 0;
        for (char c : hex.substr(i, 2)) {
            int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
            if (digit < 0) return std::nullopt;
            value = value * 16 + digit;
        }
        bytes += static_cast<char>(value);
    }
    return bytes;
}

Result<RedisAddress> redis_address(const Config& config, const std::string& url, std::string_view key) {
    auto address = parse_redis_url(url);
    if (!address) return fail(ErrorCode::kInvalidArgument, std::string(key) + ": " + address.error().message);
    if (!config.redis_username.empty()) address->username = config.redis_username;
    if (!config.redis_password_file.empty()) {
        auto password = read_secret_file(config.redis_password_file);
        if (!password) return tl::unexpected(password.error());
        address->password = *password;
    }
    return address;
}

std::optional<IpAddress> ip_of(const sockaddr* address) {
    if (address == nullptr) return std::nullopt;
    if (address->sa_family == AF_INET)
        return ip_from_v4(ntohl(reinterpret_cast<const sockaddr_in*>(address)->sin_addr.s_addr));
    if (address->sa_family != AF_INET6) return std::nullopt;
    IpAddress ip;
    std::memcpy(ip.bytes.data(), &reinterpret_cast<const sockaddr_in6*>(address)->sin6_addr, ip.bytes.size());
    return ip;
}

std::vector<IpAddress> resolve(const std::string& host) {
    std::vector<IpAddress> addresses;
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    addrinfo* found = nullptr;
    if (getaddrinfo(host.c_str(), nullptr, &hints, &found) != 0) return addresses;
    for (const addrinfo* entry = found; entry != nullptr; entry = entry->ai_next)
        if (auto ip = ip_of(entry->ai_addr)) addresses.push_back(*ip);
    freeaddrinfo(found);
    return addresses;
}

// Every address of this machine: those of its interfaces, and loopback, of which the guard takes one for all.
std::vector<IpAddress> own_addresses() {
    std::vector<IpAddress> addresses = {*parse_ip("127.0.0.1")};
    ifaddrs* found = nullptr;
    if (getifaddrs(&found) != 0) return addresses;
    for (const ifaddrs* entry = found; entry != nullptr; entry = entry->ifa_next)
        if (auto ip = ip_of(entry->ifa_addr)) addresses.push_back(*ip);
    freeifaddrs(found);
    return addresses;
}

void add_never(TargetGuardOptions& options, const std::vector<IpAddress>& addresses, std::uint16_t port) {
    for (const IpAddress& address : addresses) options.never.emplace_back(address, port);
}

bool is_own(const IpAddress& address, const std::vector<IpAddress>& own) {
    return ip_in_list(address, "127.0.0.0/8 ::1 0.0.0.0 ::") || std::find(own.begin(), own.end(), address) != own.end();
}

}  // namespace

Result<std::string> load_master_key(const Config& config) {
    auto text = read_secret_file(config.security_master_key_file);
    if (!text) return tl::unexpected(text.error());
    auto bytes = hex_decode(*text);
    if (!bytes || bytes->size() != 32)
        return fail(ErrorCode::kInvalidArgument,
                    config.security_master_key_file + ": must hold 64 hexadecimal digits, as `headgate init` makes it");
    return *bytes;
}

Result<HmacSha256Key> load_pepper(const Config& config) {
    auto text = read_secret_file(config.security_pepper_file);
    if (!text) return tl::unexpected(text.error());
    if (text->size() < limits::kSecretBytesMin)
        return fail(ErrorCode::kInvalidArgument, config.security_pepper_file + ": is shorter than " +
                                                     std::to_string(limits::kSecretBytesMin) + " characters");
    return HmacSha256Key(*text);
}

Result<Secrets> load_secrets(const Config& config) {
    std::vector<std::string> problems;
    auto pepper = load_pepper(config);
    if (!pepper) problems.push_back(pepper.error().message);
    auto master_key = load_master_key(config);
    if (!master_key) problems.push_back(master_key.error().message);
    auto token_text = read_secret_file(config.tokens_key_file);
    Result<KeySet> keys = KeySet{};
    if (!token_text) {
        problems.push_back(token_text.error().message);
    } else {
        keys = key_set_from_secret(*token_text, JwtAlgorithm::kHs256);
        if (!keys) problems.push_back(config.tokens_key_file + ": " + keys.error().message);
    }
    if (!problems.empty()) return fail(ErrorCode::kInvalidArgument, join(problems, "\n"));
    std::string fingerprint = pepper_fingerprint(*pepper);
    return Secrets{std::move(*pepper), std::move(fingerprint), keys->keys.front(), std::move(*master_key)};
}

Result<RedisAddress> events_redis(const Config& config) { return redis_address(config, config.redis_url, "redis.url"); }

Result<RedisAddress> keys_redis(const Config& config) {
    return redis_address(config, config.redis_keys_url, "redis.keys_url");
}

TargetGuardOptions guard_options(const Config& config) {
    TargetGuardOptions options;
    options.allow_networks = config.security_allow_networks;
    const std::vector<IpAddress> own = own_addresses();
    for (const auto* url : {&config.redis_url, &config.redis_keys_url}) {
        auto address = parse_redis_url(*url);
        auto port = address ? parse_integer(address->port, 1, 65535) : std::nullopt;
        if (!port || address->host.empty()) continue;
        auto redis = resolve(address->host);
        add_never(options, redis, static_cast<std::uint16_t>(*port));
        // A Redis of this machine may listen on more of its addresses than the one that we were told.
        if (std::any_of(redis.begin(), redis.end(), [&](const IpAddress& ip) { return is_own(ip, own); }))
            add_never(options, own, static_cast<std::uint16_t>(*port));
    }
    for (const auto& [host, port] : store_addresses(config.store_url)) {
        auto database = resolve(host);
        add_never(options, database, port);
        if (std::any_of(database.begin(), database.end(), [&](const IpAddress& ip) { return is_own(ip, own); }))
            add_never(options, own, port);
    }
    if (auto listen = parse_host_port(config.http_listen)) {
        bool any = listen->host == "0.0.0.0" || listen->host == "::" || listen->host == "*";
        add_never(options, any ? own : resolve(listen->host), listen->port);
    }
    return options;
}

bool is_shared_store(const Config& config) { return !config.store_url.starts_with("sqlite:"); }

Result<StoreOptions> store_options(const Config& config, const std::string& master_key) {
    StoreOptions options;
    options.url = config.store_url;
    options.master_key = master_key;
    if (!config.store_password_file.empty()) {
        auto password = read_secret_file(config.store_password_file);
        if (!password) return tl::unexpected(password.error());
        options.password = *password;
    }
    return options;
}

Result<std::unique_ptr<Store>> open_configured_store(const Config& config, const std::string& master_key,
                                                     StoreUse use) {
    auto options = store_options(config, master_key);
    if (!options) return tl::unexpected(options.error());
    options->exclusive = use == StoreUse::kServe;
    return open_store(*options);
}

}  // namespace headgate
