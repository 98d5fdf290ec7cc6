// The configuration as the stages read it: made from the directives, never changed afterwards. Each area has its
// own file: conf_auth, conf_limit, conf_publish, conf_redis; the command table is in directives.cpp.
#pragma once

#include "common/hmac.h"
#include "ngx_module/conf_auth.h"
#include "ngx_module/conf_limit.h"
#include "ngx_module/conf_publish.h"
#include "ngx_module/conf_redis.h"

namespace headgate::edge {

class Worker;

struct MainConf {
    ngx_shm_zone_t* zone = nullptr;
    std::vector<std::unique_ptr<RedisConf>> redis;
    RedisUse redis_use[kRedisRoles];
    std::vector<std::unique_ptr<RatePlan>> plans;
    std::vector<std::unique_ptr<RemoteKeys>> remote_keys;  // of all locations
    ngx_int_t shards = NGX_CONF_UNSET;
    std::unique_ptr<HmacSha256Key> pepper;
    std::string pepper_fingerprint;
    std::unique_ptr<HmacSha256Key> previous_pepper;  // keys that the new one does not find are looked up under it
    std::string previous_pepper_fingerprint;
    bool in_use = false;             // some location authenticates, limits, publishes or shows status
    DirectivePlace in_use_place;     // the first directive that says so
    std::unique_ptr<Worker> worker;  // made in init_process, gone in exit_process

    [[nodiscard]] const RatePlan* find_plan(std::string_view name) const noexcept;
    [[nodiscard]] const RedisConf* find_redis(std::string_view name) const noexcept;
    // Who serves a role; set once the configuration has been read.
    [[nodiscard]] const RedisConf* redis_of(RedisRole role) const noexcept {
        return redis_use[static_cast<std::size_t>(role)].redis;
    }
};

struct LocConf {
    AuthConf auth;
    LimitsConf limits;
    PublishConf publish;
};

extern ngx_command_t commands[];

[[nodiscard]] void* create_main_conf(ngx_conf_t* cf) noexcept;
[[nodiscard]] char* init_main_conf(ngx_conf_t* cf, void* conf) noexcept;
[[nodiscard]] void* create_loc_conf(ngx_conf_t* cf) noexcept;
[[nodiscard]] char* merge_loc_conf(ngx_conf_t* cf, void* parent, void* child) noexcept;

// While the configuration is read.
[[nodiscard]] inline MainConf* main_conf_of(ngx_conf_t* cf) noexcept {
    return static_cast<MainConf*>(ngx_http_conf_get_module_main_conf(cf, ngx_http_headgate_module));
}
// Of a request.
[[nodiscard]] inline MainConf* main_conf(ngx_http_request_t* r) noexcept {
    return static_cast<MainConf*>(ngx_http_get_module_main_conf(r, ngx_http_headgate_module));
}
[[nodiscard]] inline LocConf* loc_conf(ngx_http_request_t* r) noexcept {
    return static_cast<LocConf*>(ngx_http_get_module_loc_conf(r, ngx_http_headgate_module));
}

}  // namespace headgate::edge
