// headgate.toml: one table of keys (key, variable, default, unit, help) drives reading, the
// environment, `check-config` and the documentation. Unknown keys are errors that name the file, the line and
// the nearest known key.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/ip_network.h"
#include "common/result.h"

namespace headgate {

struct Config {
    std::string file;  // where it was read from
    // [redis]
    std::string redis_url = "redis://127.0.0.1:6379";
    std::string redis_keys_url;  // default: redis_url
    std::string redis_prefix = "headgate:";
    std::string redis_username;
    std::string redis_password_file;
    int redis_shards = 8;  // 64 with redis_cluster, unless said
    bool redis_cluster = false;
    std::vector<std::string> redis_sentinels;
    std::string redis_sentinel_master, redis_sentinel_username, redis_sentinel_password_file;
    std::string redis_tls_ca_file, redis_tls_cert_file, redis_tls_key_file, redis_tls_server_name;
    // [store]
    std::string store_url;
    std::string store_password_file;
    // [http]
    std::string http_listen = "127.0.0.1:8787";
    std::string http_public_url;
    std::vector<IpNetwork> http_trusted_proxies;
    // [tokens]
    std::string tokens_key_file;
    std::string tokens_signing = "HS256";
    std::int64_t tokens_lifetime_ms = 24LL * 3600 * 1000;
    // [delivery]
    int delivery_max_in_flight = 256;
    std::string delivery_proxy;
    std::string delivery_proxy_credentials_file;
    // [security]
    std::string security_pepper_file;
    std::string security_master_key_file;
    std::vector<std::string> security_previous_master_key_files;
    std::vector<IpNetwork> security_allow_networks;
    // [retention]
    std::int64_t retention_events_ms = 90LL * 24 * 3600 * 1000;
    std::int64_t retention_attempts_ms = 30LL * 24 * 3600 * 1000;
    std::int64_t retention_quarantine_ms = 90LL * 24 * 3600 * 1000;
    std::int64_t retention_audit_ms = 365LL * 24 * 3600 * 1000;
    // [log]
    std::string log_level = "info";
    std::string log_format = "logfmt";
    // [metrics]
    std::string metrics_listen;  // empty: no address of their own
};

struct ConfigKey {
    std::string_view key;   // "redis.url"
    std::string_view type;  // string | integer | boolean | duration | list | file | files
    std::string_view def;   // as it would be written
    std::string_view help;
};
[[nodiscard]] const std::vector<ConfigKey>& config_keys();

// Reads the file, then HEADGATE_<SECTION>_<KEY> over it. Every problem is in the message, one line each.
[[nodiscard]] Result<Config> load_config(const std::string& path);
// --config, else HEADGATE_CONFIG, else /etc/headgate/headgate.toml.
[[nodiscard]] std::string config_path(std::string_view option);
// Secret files: owner-only permissions are required; the value is without trailing white space.
[[nodiscard]] Result<std::string> read_secret_file(const std::string& path);

}  // namespace headgate
