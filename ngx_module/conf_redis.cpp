// Directives of the shared zone and of Redis.
#include "common/limits.h"
#include "ngx_module/conf.h"
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

char* parse_redis(ngx_conf_t* cf, MainConf* conf) {
    if (!conf->redis.empty()) {
        return conf_fail(cf, "is duplicate");
    }
    auto redis = std::make_unique<RedisConf>();
    ngx_str_set(&redis->name, "default");
    ngx_str_t address{};
    for (ngx_str_t& argument : arguments(cf)) {
        if (const auto value = parameter(argument, "connect_timeout")) {
            if (!parse_msec(*value, redis->connect_timeout_ms)) {
                return conf_fail(cf, "invalid time in \"%V\"", &argument);
            }
        } else if (const auto value = parameter(argument, "timeout")) {
            if (!parse_msec(*value, redis->timeout_ms)) {
                return conf_fail(cf, "invalid time in \"%V\"", &argument);
            }
        } else if (view(argument).find('=') != std::string_view::npos) {
            return conf_fail(cf, "unknown parameter \"%V\"", &argument);
        } else if (address.len != 0) {
            return conf_fail(cf, "more than one address: \"%V\"", &argument);
        } else {
            address = argument;
        }
    }
    ngx_url_t url{};
    url.url = address;
    url.default_port = 6379;
    if (ngx_parse_url(cf->pool, &url) != NGX_OK || url.naddrs == 0) {
        return conf_fail(cf, "%s in \"%V\"", url.err == nullptr ? "no address" : url.err, &address);
    }
    redis->addr = url.addrs[0];
    conf->redis.push_back(std::move(redis));
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

char* check_redis(ngx_conf_t* cf, MainConf& conf) {
    if (conf.zone == nullptr) {
        return conf_fail_at(cf, conf.in_use_place, "\"headgate_zone\" is missing: it is needed by the directive");
    }
    if (conf.redis.empty()) {
        return conf_fail_at(cf, conf.in_use_place, "\"headgate_redis\" is missing: it is needed by the directive");
    }
    return kConfOk;
}

}  // namespace headgate::edge
