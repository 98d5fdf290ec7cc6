// The shared zone and Redis as they are configured.
#pragma once

#include "ngx_module/conf_tools.h"

namespace headgate::edge {

struct MainConf;

// One headgate_redis.
struct RedisConf {
    ngx_str_t name;   // "default"
    ngx_addr_t addr;  // resolved when the configuration was read; addr.name is the text
    ngx_msec_t connect_timeout_ms = 1000;
    ngx_msec_t timeout_ms = 1000;
};

char* parse_zone(ngx_conf_t* cf, MainConf* conf);
char* parse_redis(ngx_conf_t* cf, MainConf* conf);
char* parse_shards(ngx_conf_t* cf, MainConf* conf);

// With a stage in use: what it needs is there.
char* check_redis(ngx_conf_t* cf, MainConf& conf);

}  // namespace headgate::edge
