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
#include "sidecar/io/redis_tls.h"
#include "sidecar/store/open_store.h"
#include "sidecar/store/secret_box.h"

namespace headgate {
namespace {

constexpr int kSentinelPort = 26379;

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
    if (!address->wants_tls) {
        if (!(config.redis_tls_ca_file + config.redis_tls_cert_file + config.redis_tls_key_file +
              config.redis_tls_server_name)
                 .empty())
            return fail(ErrorCode::kInvalidArgument,
                        std::string(key) + ": redis.tls_* is set, but TLS is only spoken to rediss://");
        return address;
    }
    auto tls = load_redis_tls({config.redis_tls_ca_file, config.redis_tls_cert_file, config.redis_tls_key_file,
                               config.redis_tls_server_name});
    if (!tls) return tl::unexpected(tls.error());
    address->tls = *tls;
    return address;
}

Result<void> add_sentinels(const Config& config, RedisAddress& address) {
    for (const std::string& text : config.redis_sentinels) {
        auto sentinel = parse_redis_server(text, kSentinelPort);
        if (!sentinel)
            return fail(ErrorCode::kInvalidArgument, "redis.sentinels: \"" + text + "\" is neither host nor host:port");
        address.sentinels.push_back(std::move(*sentinel));
    }
    address.sentinel_master = config.redis_sentinel_master;
    address.sentinel_username = config.redis_sentinel_username;
    if (config.redis_sentinel_password_file.empty()) return {};
    auto password = read_secret_file(config.redis_sentinel_password_file);
    if (!password) return tl::unexpected(password.error());
    address.sentinel_password = *password;
    return {};
}

// Every server that the configuration names, Sentinels too.
std::vector<redis::HostPort> redis_servers(const Config& config) {
    std::vector<redis::HostPort> all;
    for (const auto* url : {&config.redis_url, &config.redis_keys_url}) {
        auto address = parse_redis_url(*url);
        if (!address) continue;
        auto servers = address->servers();
        all.insert(all.end(), servers.begin(), servers.end());
    }
    for (const std::string& text : config.redis_sentinels)
        if (auto sentinel = parse_redis_server(text, kSentinelPort)) all.push_back(std::move(*sentinel));
    return all;
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

Result<MasterKeys> load_master_keys(const Config& config) {
    MasterKeys keys;
    std::vector<std::string> problems;
    auto load = [&problems](const std::string& file) -> std::string {
        auto text = read_secret_file(file);
        if (!text) {
            problems.push_back(text.error().message);
            return {};
        }
        auto bytes = hex_decode(*text);
        if (bytes && bytes->size() == kMasterKeyBytes) return *bytes;
        problems.push_back(file + ": must hold 64 hexadecimal digits, as `headgate init` makes it");
        return {};
    };
    keys.current = load(config.security_master_key_file);
    for (const std::string& file : config.security_previous_master_key_files) keys.previous.push_back(load(file));
    if (!problems.empty()) return fail(ErrorCode::kInvalidArgument, join(problems, "\n"));
    return keys;
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
    auto master_keys = load_master_keys(config);
    if (!master_keys) problems.push_back(master_keys.error().message);
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
    return Secrets{std::move(*pepper), std::move(fingerprint), keys->keys.front(), std::move(*master_keys)};
}

Result<RedisAddress> events_redis(const Config& config) {
    auto address = redis_address(config, config.redis_url, "redis.url");
    if (!address) return address;
    auto sentinels = add_sentinels(config, *address);
    if (!sentinels) return tl::unexpected(sentinels.error());
    address->is_cluster = config.redis_cluster;
    bool is_unix = !address->unix_path.empty();
    if (config.redis_cluster && (is_unix || address->database != 0))
        return fail(ErrorCode::kInvalidArgument, "redis.cluster: a cluster is reached by TCP and has no databases");
    if (is_unix && address->has_sentinels())
        return fail(ErrorCode::kInvalidArgument,
                    "redis.sentinels name the master: redis.url is redis:// or rediss:// then, not a unix socket");
    return address;
}

Result<RedisAddress> keys_redis(const Config& config) {
    if (config.redis_keys_url == config.redis_url) return events_redis(config);
    return redis_address(config, config.redis_keys_url, "redis.keys_url");
}

TargetGuardOptions guard_options(const Config& config) {
    TargetGuardOptions options;
    options.allow_networks = config.security_allow_networks;
    const std::vector<IpAddress> own = own_addresses();
    for (const redis::HostPort& server : redis_servers(config)) {
        auto port = static_cast<std::uint16_t>(server.port);
        auto redis = resolve(server.host);
        add_never(options, redis, port);
        // A Redis of this machine may listen on more of its addresses than the one that we were told.
        if (std::any_of(redis.begin(), redis.end(), [&](const IpAddress& ip) { return is_own(ip, own); }))
            add_never(options, own, port);
    }
    auto others = store_addresses(config.store_url);
    if (auto proxy = parse_target_url(config.delivery_proxy)) others.emplace_back(proxy->host, proxy->port);
    for (const auto& [host, port] : others) {
        auto addresses = resolve(host);
        add_never(options, addresses, port);
        if (std::any_of(addresses.begin(), addresses.end(), [&](const IpAddress& ip) { return is_own(ip, own); }))
            add_never(options, own, port);
    }
    for (const std::string& address : {config.http_listen, config.metrics_listen}) {
        auto listen = parse_host_port(address);
        if (!listen) continue;
        bool any = listen->host == "0.0.0.0" || listen->host == "::" || listen->host == "*";
        add_never(options, any ? own : resolve(listen->host), listen->port);
    }
    return options;
}

std::shared_ptr<OwnServers> make_own_servers() { return std::make_shared<OwnServers>(own_addresses()); }

Result<HttpClientOptions> http_client_options(const Config& config) {
    HttpClientOptions options;
    const bool has_credentials = !config.delivery_proxy_credentials_file.empty();
    if (config.delivery_proxy.empty()) {
        if (has_credentials)
            return fail(ErrorCode::kInvalidArgument,
                        "delivery.proxy_credentials_file is set, but delivery.proxy is not");
        return options;
    }
    auto proxy = parse_target_url(config.delivery_proxy);
    if (!proxy)
        return fail(ErrorCode::kInvalidArgument,
                    "delivery.proxy must be http://host:port or https://host:port, with its credentials in "
                    "delivery.proxy_credentials_file");
    options.proxy.url = proxy->scheme + "://" +
                        (proxy->host.find(':') == std::string::npos ? proxy->host : "[" + proxy->host + "]") + ":" +
                        std::to_string(proxy->port);
    if (!has_credentials) return options;
    auto text = read_secret_file(config.delivery_proxy_credentials_file);
    if (!text) return tl::unexpected(text.error());
    const std::size_t colon = text->find(':');
    if (colon == 0 || colon == std::string::npos)
        return fail(ErrorCode::kInvalidArgument, config.delivery_proxy_credentials_file + ": must hold user:password");
    options.proxy.username = text->substr(0, colon);
    options.proxy.password = text->substr(colon + 1);
    return options;
}

bool is_shared_store(const Config& config) { return !config.store_url.starts_with("sqlite:"); }

Result<StoreOptions> store_options(const Config& config, const MasterKeys& master_keys) {
    StoreOptions options;
    options.url = config.store_url;
    options.master_key = master_keys.current;
    options.previous_master_keys = master_keys.previous;
    if (!config.store_password_file.empty()) {
        auto password = read_secret_file(config.store_password_file);
        if (!password) return tl::unexpected(password.error());
        options.password = *password;
    }
    return options;
}

Result<std::unique_ptr<Store>> open_configured_store(const Config& config, const MasterKeys& master_keys, StoreUse use,
                                                     std::shared_ptr<OwnServers> own_servers) {
    auto options = store_options(config, master_keys);
    if (!options) return tl::unexpected(options.error());
    options->own_servers = std::move(own_servers);
    options->exclusive = use == StoreUse::kServe;
    return open_store(*options);
}

}  // namespace headgate
