// The shared zone and Redis as they are configured.
#pragma once

#include <memory>

#include "ngx_module/conf_tools.h"

namespace headgate::edge {

struct MainConf;

// Where a Redis or a Sentinel may be: as it was written, and what the name meant when the configuration was read.
struct RedisAddress {
    struct Found {
        ngx_sockaddr_t sockaddr;
        socklen_t socklen;
    };
    std::string text;  // host:port or unix:path
    std::string host;  // a name or a literal; empty for a unix socket
    in_port_t port = 0;
    bool is_name = false;      // to be resolved anew for each connection
    std::vector<Found> found;  // may be empty for a name
};

// What AUTH says; never logged. Without a password there is none.
struct RedisLogin {
    std::string username, password;
};

// One headgate_redis. Lives as long as the configuration.
struct RedisConf {
    std::string name = "default";
    DirectivePlace place;
    std::vector<RedisAddress> addresses;  // at least one; seeds
    std::string sentinel;                 // the master's name; then the addresses are Sentinels'
    bool cluster = false;
    ngx_int_t db = 0;
    RedisLogin login, sentinel_login;
    bool tls = false;
    std::string tls_ca, tls_name;
    ngx_ssl_t* ssl = nullptr;  // of the configuration's pool; set with tls
    ngx_int_t connections = 1;
    ngx_msec_t connect_timeout_ms = 1000;
    ngx_msec_t timeout_ms = 1000;
    ngx_http_core_loc_conf_t* core = nullptr;  // of http {}: whose `resolver` is asked

    // May the address that is dialed turn out to be a replica?
    [[nodiscard]] bool checks_role() const noexcept { return !cluster && (!sentinel.empty() || addresses.size() > 1); }
};

inline constexpr std::size_t kRedisAddressesMax = 32;
inline constexpr ngx_int_t kRedisConnectionsMax = 64;

// What a Redis is used for.
enum class RedisRole : std::uint8_t { kEvents, kLimits, kKeys };
inline constexpr std::size_t kRedisRoles = 3;

// headgate_redis_use, and who serves the role in the end.
struct RedisUse {
    ngx_str_t name{};
    DirectivePlace place;
    const RedisConf* redis = nullptr;  // set by check_redis()
};

char* parse_zone(ngx_conf_t* cf, MainConf* conf);
char* parse_redis(ngx_conf_t* cf, MainConf* conf);
char* parse_redis_use(ngx_conf_t* cf, MainConf* conf);
char* parse_shards(ngx_conf_t* cf, MainConf* conf);

// What can only be checked once every directive of http {} has been read: names, roles, the number of shards.
// `in_use`: some stage needs them.
char* check_redis(ngx_conf_t* cf, MainConf& conf, bool in_use);

// An address literal (IPv4, IPv6 without brackets) as what connect() takes; false: it is a name.
[[nodiscard]] bool read_address_literal(const std::string& host, in_port_t port, RedisAddress::Found& out) noexcept;

}  // namespace headgate::edge
