// Rate limits as they are configured for a location.
#pragma once

#include <memory>

#include "ngx_module/conf_tools.h"
#include "ngx_module/limit_windows.h"

namespace headgate::edge {

struct MainConf;
struct LocConf;

struct RatePlan {
    std::string name;
    std::unique_ptr<LimitWindows> windows;
};

// One headgate_limit.
struct LimitConf {
    bool by_plan = false;                   // `plan`: the windows come from the principal
    std::unique_ptr<LimitWindows> windows;  // `rate=`; nullptr for plans
    std::string name;                       // of the buckets
    const RatePlan* default_plan = nullptr;
    std::string default_plan_name;
    ngx_http_complex_value_t* key = nullptr;   // nullptr: the principal
    ngx_http_complex_value_t* cost = nullptr;  // nullptr: 1
    bool deny_empty = false;
    DirectivePlace place;
};

enum class LimitMode : ngx_uint_t { kExact, kLease };
enum class LimitOnError : ngx_uint_t { kLocal, kAllow, kDeny };  // while Redis is away

struct LimitsConf {
    std::vector<std::unique_ptr<LimitConf>>* list = nullptr;  // nullptr: not set at this level
    ngx_uint_t mode = NGX_CONF_UNSET_UINT;                    // LimitMode
    ngx_uint_t on_error = NGX_CONF_UNSET_UINT;                // LimitOnError
    ngx_uint_t status = NGX_CONF_UNSET_UINT;                  // of a refusal
    ngx_flag_t dry_run = NGX_CONF_UNSET;
    ngx_flag_t headers = NGX_CONF_UNSET;

    [[nodiscard]] bool any() const noexcept { return list != nullptr && !list->empty(); }
};

char* parse_plan(ngx_conf_t* cf, MainConf* conf);
char* parse_limit(ngx_conf_t* cf, LocConf* conf);
char* parse_limit_mode(ngx_conf_t* cf, LocConf* conf);
char* parse_limit_on_error(ngx_conf_t* cf, LocConf* conf);
char* parse_limit_status(ngx_conf_t* cf, LocConf* conf);

// After the location's authentication has been merged.
char* merge_limits(ngx_conf_t* cf, const LimitsConf& prev, LocConf& conf);

}  // namespace headgate::edge
