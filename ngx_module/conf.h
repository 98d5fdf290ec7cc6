// The configuration as the stages read it: made by conf.cpp from the directives, never changed
// afterwards.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "common/hmac.h"
#include "common/jwt.h"
#include "common/rate_plan.h"
#include "ngx_module/ngx.h"
#include "ngx_module/redis_conn.h"

namespace headgate::edge {

class Worker;

// Where a directive was written, for errors that are only found when levels are merged.
struct DirectivePlace {
    ngx_str_t file{};
    ngx_uint_t line = 0;
};

struct RatePlan {
    std::string name;
    std::vector<RateWindow> windows;
};

// One headgate_limit.
struct LimitConf {
    bool by_plan = false;             // `plan`: the windows come from the principal
    std::vector<RateWindow> windows;  // `rate=`
    std::string name;                 // of the buckets
    const RatePlan* default_plan = nullptr;
    std::string default_plan_name;
    ngx_http_complex_value_t* key = nullptr;   // nullptr: the principal
    ngx_http_complex_value_t* cost = nullptr;  // nullptr: 1
    bool deny_empty = false;
    DirectivePlace place;
};

enum AuthKind : ngx_uint_t { kAuthOff = 1, kAuthJwt = 2, kAuthApiKey = 4 };
enum class PublishKind : ngx_uint_t { kNone, kEvent };

struct MainConf {
    ngx_shm_zone_t* zone = nullptr;
    std::vector<std::unique_ptr<RedisConf>> redis;
    std::vector<std::unique_ptr<RatePlan>> plans;
    ngx_int_t shards = NGX_CONF_UNSET;
    std::unique_ptr<HmacSha256Key> pepper;
    std::string pepper_fingerprint;
    bool in_use = false;             // some location authenticates, limits, publishes or shows status
    DirectivePlace in_use_place;     // the first directive that says so
    std::unique_ptr<Worker> worker;  // made in init_process, gone in exit_process

    [[nodiscard]] const RatePlan* find_plan(std::string_view name) const noexcept;
};

struct LocConf {
    ngx_uint_t auth = NGX_CONF_UNSET_UINT;  // AuthKind bits
    DirectivePlace auth_place;
    ngx_str_t realm{};
    std::vector<std::string>* require_scopes = nullptr;  // nullptr: not set at this level
    std::vector<std::unique_ptr<JwtSource>>* jwt_sources = nullptr;
    std::vector<const JwtSource*> jwt_source_views;  // of jwt_sources, as verify_jwt() takes them
    JwtPolicy jwt_policy;
    std::vector<std::unique_ptr<LimitConf>>* limits = nullptr;
    ngx_uint_t limit_mode = NGX_CONF_UNSET_UINT;
    PublishKind publish = PublishKind::kNone;
    DirectivePlace publish_place;
    std::size_t event_max_bytes = NGX_CONF_UNSET_SIZE;
    std::size_t publish_inflight_bytes = NGX_CONF_UNSET_SIZE;

    [[nodiscard]] bool authenticates() const noexcept { return (auth & (kAuthJwt | kAuthApiKey)) != 0; }
};

extern ngx_command_t commands[];

[[nodiscard]] void* create_main_conf(ngx_conf_t* cf) noexcept;
[[nodiscard]] char* init_main_conf(ngx_conf_t* cf, void* conf) noexcept;
[[nodiscard]] void* create_loc_conf(ngx_conf_t* cf) noexcept;
[[nodiscard]] char* merge_loc_conf(ngx_conf_t* cf, void* parent, void* child) noexcept;

[[nodiscard]] inline MainConf* main_conf(ngx_http_request_t* r) noexcept {
    return static_cast<MainConf*>(ngx_http_get_module_main_conf(r, ngx_http_headgate_module));
}
[[nodiscard]] inline LocConf* loc_conf(ngx_http_request_t* r) noexcept {
    return static_cast<LocConf*>(ngx_http_get_module_loc_conf(r, ngx_http_headgate_module));
}

}  // namespace headgate::edge
