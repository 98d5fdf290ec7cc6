// Directives of the shared zone and of Redis.
#include "ngx_module/conf_redis.h"

#include <arpa/inet.h>

#include <algorithm>

#include "common/limits.h"
#include "ngx_module/conf.h"
#include "ngx_module/redis_tls.h"
#include "ngx_module/zone.h"

namespace headgate::edge {

char* parse_zone(ngx_conf_t* cf, MainConf* conf) {
    ngx_str_t text = arguments(cf)[0];
    u_char* colon = static_cast<u_char*>(ngx_strlchr(text.data, text.data + text.len, ':'));
    if (conf->zone != nullptr) {
        return conf_fail(cf, "is duplicate");
    }
    if (colon == nullptr || colon == text.data) {
        return conf_fail(cf, "invalid zone \"%V\": it is written name:size", &text);
    }
    ngx_str_t name{static_cast<std::size_t>(colon - text.data), text.data};
    ngx_str_t size_text{text.len - name.len - 1, colon + 1};
    const ssize_t size = ngx_parse_size(&size_text);
    if (size == NGX_ERROR) {
        return conf_fail(cf, "invalid zone size \"%V\"", &size_text);
    }
    if (size < static_cast<ssize_t>(256 * 1024)) {
        return conf_fail(cf, "zone \"%V\" is too small: at least 256k", &name);
    }
    conf->zone = ngx_shared_memory_add(cf, &name, static_cast<std::size_t>(size), &ngx_http_headgate_module);
    if (conf->zone == nullptr) {
        return kConfError;
    }
    if (conf->zone->data != nullptr) {
        return conf_fail(cf, "zone \"%V\" is already defined", &name);
    }
    conf->zone->init = init_zone;
    conf->zone->data = conf;
    return kConfOk;
}

namespace {

constexpr in_port_t kRedisPort = 6379;
constexpr in_port_t kSentinelPort = 26379;

// Reads host:port or unix:path. Names are resolved by check_redis(), which knows whether there is a resolver.
char* add_address(ngx_conf_t* cf, RedisConf& redis, ngx_str_t& text) {
    if (redis.addresses.size() == kRedisAddressesMax) {
        return conf_fail(cf, "more than %uz addresses", kRedisAddressesMax);
    }
    ngx_url_t url{};
    url.url = text;
    url.default_port = 0;
    url.no_resolve = 1;
    if (ngx_parse_url(cf->pool, &url) != NGX_OK) {
        return conf_fail(cf, "%s in \"%V\"", url.err == nullptr ? "no address" : url.err, &text);
    }
    RedisAddress address;
    address.text = view(text);
    if (url.family == AF_UNIX) {
        RedisAddress::Found found{};
        ngx_memcpy(&found.sockaddr, url.addrs[0].sockaddr, url.addrs[0].socklen);
        found.socklen = url.addrs[0].socklen;
        address.found.push_back(found);
    } else {
        std::string_view host = view(url.host);
        if (host.starts_with('[') && host.ends_with(']')) {
            host = host.substr(1, host.size() - 2);
        }
        if (host.empty()) {
            return conf_fail(cf, "no host in \"%V\"", &text);
        }
        address.host = host;
        address.port = url.port;  // 0: the default, known when all parameters are
        address.is_name = true;
    }
    redis.addresses.push_back(std::move(address));
    return kConfOk;
}

// on|off. False: neither.
bool parse_switch(std::string_view text, bool& out) noexcept {
    out = text == "on";
    return out || text == "off";
}

bool parse_count(std::string_view text, ngx_int_t min, ngx_int_t max, ngx_int_t& out) noexcept {
    ngx_str_t holder;
    as_ngx_str(holder, text);
    out = ngx_atoi(holder.data, holder.len);
    return out >= min && out <= max;
}

char* set_text(ngx_conf_t* cf, std::string& out, const ngx_str_t& argument, std::string_view value) {
    if (value.empty()) {
        return conf_fail(cf, "\"%V\" is empty", &argument);
    }
    out = value;
    return kConfOk;
}

char* read_password(ngx_conf_t* cf, std::string& out, std::string_view path) {
    ngx_str_t holder;
    auto secret = read_secret(cf, *as_ngx_str(holder, path));
    if (!secret) {
        return kConfError;
    }
    while (!secret->empty() && std::string_view(" \t\r\n").find(secret->back()) != std::string_view::npos) {
        secret->pop_back();
    }
    if (secret->empty()) {
        return conf_fail(cf, "password file \"%V\" is empty", &holder);
    }
    out = std::move(*secret);
    return kConfOk;
}

// One argument of headgate_redis.
char* parse_redis_argument(ngx_conf_t* cf, RedisConf& redis, ngx_str_t& argument) {
    for (auto [name, out] :
         {std::pair{"name", &redis.name}, std::pair{"sentinel", &redis.sentinel},
          std::pair{"username", &redis.login.username}, std::pair{"sentinel_username", &redis.sentinel_login.username},
          std::pair{"tls_ca", &redis.tls_ca}, std::pair{"tls_name", &redis.tls_name}}) {
        if (const auto value = parameter(argument, name)) {
            return set_text(cf, *out, argument, *value);
        }
    }
    for (auto [name, out] : {std::pair{"password_file", &redis.login.password},
                             std::pair{"sentinel_password_file", &redis.sentinel_login.password}}) {
        if (const auto value = parameter(argument, name)) {
            return read_password(cf, *out, *value);
        }
    }
    for (auto [name, out] : {std::pair{"tls", &redis.tls}, std::pair{"cluster", &redis.cluster}}) {
        if (const auto value = parameter(argument, name)) {
            return parse_switch(*value, *out) ? kConfOk
                                              : conf_fail(cf, "invalid value in \"%V\": on or off", &argument);
        }
    }
    for (auto [name, out] :
         {std::pair{"connect_timeout", &redis.connect_timeout_ms}, std::pair{"timeout", &redis.timeout_ms}}) {
        if (const auto value = parameter(argument, name)) {
            return parse_msec(*value, *out) ? kConfOk : conf_fail(cf, "invalid time in \"%V\"", &argument);
        }
    }
    if (const auto value = parameter(argument, "db")) {
        return parse_count(*value, 0, 1'000'000, redis.db) ? kConfOk
                                                           : conf_fail(cf, "invalid number in \"%V\"", &argument);
    }
    if (const auto value = parameter(argument, "connections")) {
        return parse_count(*value, 1, kRedisConnectionsMax, redis.connections)
                   ? kConfOk
                   : conf_fail(cf, "invalid number in \"%V\": 1 to %i", &argument, kRedisConnectionsMax);
    }
    if (view(argument).find('=') != std::string_view::npos && !view(argument).starts_with("unix:")) {
        return conf_fail(cf, "unknown parameter \"%V\"", &argument);
    }
    return add_address(cf, redis, argument);
}

// Parameters that contradict each other; nullptr when none does.
const char* contradiction(const RedisConf& redis) noexcept {
    const bool has_unix = std::any_of(redis.addresses.begin(), redis.addresses.end(),
                                      [](const RedisAddress& address) { return address.host.empty(); });
    if (redis.addresses.empty()) {
        return "has no address";
    }
    if (redis.cluster && redis.db != 0) {
        return "a cluster has no \"db\"";
    }
    if (redis.cluster && !redis.sentinel.empty()) {
        return "\"sentinel\" and \"cluster\" exclude each other";
    }
    if (redis.cluster && has_unix) {
        return "a cluster is reached by host:port, not by a unix socket";
    }
    if (!redis.login.username.empty() && redis.login.password.empty()) {
        return "\"username\" needs \"password_file\"";
    }
    const RedisLogin& sentinel_login = redis.sentinel_login;
    if (!sentinel_login.username.empty() && sentinel_login.password.empty()) {
        return "\"sentinel_username\" needs \"sentinel_password_file\"";
    }
    if (!sentinel_login.password.empty() && redis.sentinel.empty()) {
        return "\"sentinel_password_file\" needs \"sentinel\"";
    }
    if (!redis.tls && (!redis.tls_ca.empty() || !redis.tls_name.empty())) {
        return "\"tls_ca\" and \"tls_name\" need \"tls=on\"";
    }
    if (redis.tls && has_unix) {
        return "\"tls\" is for host:port, not for a unix socket";
    }
    return nullptr;
}

}  // namespace

char* parse_redis(ngx_conf_t* cf, MainConf* conf) {
    auto redis = std::make_unique<RedisConf>();
    redis->place = place_of(cf);
    redis->core = static_cast<ngx_http_core_loc_conf_t*>(ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module));
    for (ngx_str_t& argument : arguments(cf)) {
        if (char* rv = parse_redis_argument(cf, *redis, argument); rv != kConfOk) {
            return rv;
        }
    }
    if (const char* problem = contradiction(*redis); problem != nullptr) {
        return conf_fail(cf, "%s", problem);
    }
    if (conf->find_redis(redis->name) != nullptr) {
        return conf_fail(cf, "is duplicate: another \"headgate_redis\" has name=%s", redis->name.c_str());
    }
    for (RedisAddress& address : redis->addresses) {
        if (address.host.empty()) {
            continue;
        }
        if (address.port == 0) {
            address.port = redis->sentinel.empty() ? kRedisPort : kSentinelPort;
            address.text += ":" + std::to_string(address.port);
        }
        RedisAddress::Found found{};
        if (read_address_literal(address.host, address.port, found)) {
            address.is_name = false;
            address.found.push_back(found);
        }
    }
    if (redis->tls) {
        if (char* rv = make_redis_tls(cf, *redis); rv != kConfOk) {
            return rv;
        }
    }
    conf->redis.push_back(std::move(redis));
    return kConfOk;
}

char* parse_redis_use(ngx_conf_t* cf, MainConf* conf) {
    static constexpr std::string_view kRoles[kRedisRoles] = {"events", "limits", "keys"};
    const auto values = arguments(cf);
    const auto* role = std::find(std::begin(kRoles), std::end(kRoles), view(values[0]));
    if (role == std::end(kRoles)) {
        return conf_fail(cf, "invalid value \"%V\": events, limits or keys", &values[0]);
    }
    RedisUse& use = conf->redis_use[role - std::begin(kRoles)];
    if (use.name.len != 0) {
        return conf_fail(cf, "is duplicate for \"%V\"", &values[0]);
    }
    use.name = values[1];
    use.place = place_of(cf);
    return kConfOk;
}

char* parse_shards(ngx_conf_t* cf, MainConf* conf) {
    ngx_str_t& text = arguments(cf)[0];
    if (conf->shards != NGX_CONF_UNSET) {
        return conf_fail(cf, "is duplicate");
    }
    conf->shards = ngx_atoi(text.data, text.len);
    if (conf->shards < 1 || conf->shards > limits::kShardsMax) {
        return conf_fail(cf, "invalid number of shards \"%V\": 1 to %d", &text, limits::kShardsMax);
    }
    return kConfOk;
}

namespace {

// What the names mean now. Where `resolver` will be asked anyway a name may be unknown at the start.
char* resolve_names(ngx_conf_t* cf, RedisConf& redis) {
    const auto* resolver = redis.core->resolver;
    const bool has_resolver = resolver != nullptr && resolver->connections.nelts != 0;
    for (RedisAddress& address : redis.addresses) {
        if (!address.is_name) {
            continue;
        }
        ngx_url_t url{};
        ngx_str_t holder;
        url.url = *as_ngx_str(holder, address.text);
        if (ngx_parse_url(cf->pool, &url) != NGX_OK) {
            if (has_resolver) {
                continue;
            }
            return conf_fail_at(cf, redis.place, "%s in \"%s\" of \"headgate_redis\"",
                                url.err == nullptr ? "no address" : url.err, address.text.c_str());
        }
        for (ngx_uint_t i = 0; i < url.naddrs; ++i) {
            RedisAddress::Found found{};
            ngx_memcpy(&found.sockaddr, url.addrs[i].sockaddr, url.addrs[i].socklen);
            found.socklen = url.addrs[i].socklen;
            address.found.push_back(found);
        }
    }
    return kConfOk;
}

char* assign_roles(ngx_conf_t* cf, MainConf& conf) {
    for (RedisUse& use : conf.redis_use) {
        if (use.name.len != 0) {
            use.redis = conf.find_redis(view(use.name));
            if (use.redis == nullptr) {
                return conf_fail_at(cf, use.place, "no \"headgate_redis\" has name=%V", &use.name);
            }
            continue;
        }
        use.redis = conf.find_redis("default");
        if (use.redis == nullptr && conf.redis.size() == 1) {
            use.redis = conf.redis.front().get();
        }
    }
    return kConfOk;
}

}  // namespace

char* check_redis(ngx_conf_t* cf, MainConf& conf, bool in_use) {
    for (auto& redis : conf.redis) {
        if (char* rv = resolve_names(cf, *redis); rv != kConfOk) {
            return rv;
        }
    }
    if (char* rv = assign_roles(cf, conf); rv != kConfOk) {
        return rv;
    }
    const RedisConf* events = conf.redis_of(RedisRole::kEvents);
    if (conf.shards == NGX_CONF_UNSET) {
        const bool cluster = events != nullptr && events->cluster;
        conf.shards = cluster ? limits::kShardsClusterDefault : limits::kShardsDefault;
    }
    if (!in_use) {
        return kConfOk;
    }
    if (conf.zone == nullptr) {
        return conf_fail_at(cf, conf.in_use_place, "\"headgate_zone\" is missing: it is needed by the directive");
    }
    if (conf.redis.empty()) {
        return conf_fail_at(cf, conf.in_use_place, "\"headgate_redis\" is missing: it is needed by the directive");
    }
    for (const RedisUse& use : conf.redis_use) {
        if (use.redis == nullptr) {
            return conf_fail_at(cf, conf.redis.front()->place,
                                "no \"headgate_redis\" has name=default, and \"headgate_redis_use\" does not name one "
                                "for each of events, limits and keys");
        }
    }
    return kConfOk;
}

bool read_address_literal(const std::string& host, in_port_t port, RedisAddress::Found& out) noexcept {
    out = {};
    if (inet_pton(AF_INET, host.c_str(), &out.sockaddr.sockaddr_in.sin_addr) == 1) {
        out.sockaddr.sockaddr_in.sin_family = AF_INET;
        out.sockaddr.sockaddr_in.sin_port = htons(port);
        out.socklen = sizeof(struct sockaddr_in);
        return true;
    }
#if (NGX_HAVE_INET6)
    if (inet_pton(AF_INET6, host.c_str(), &out.sockaddr.sockaddr_in6.sin6_addr) == 1) {
        out.sockaddr.sockaddr_in6.sin6_family = AF_INET6;
        out.sockaddr.sockaddr_in6.sin6_port = htons(port);
        out.socklen = sizeof(struct sockaddr_in6);
        return true;
    }
#endif
    return false;
}

}  // namespace headgate::edge
