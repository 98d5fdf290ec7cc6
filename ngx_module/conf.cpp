// The directives: create, merge, validate. What cannot work fails `nginx -t` with the file and line
// of the directive at fault.
#include "ngx_module/conf.h"

#include <algorithm>

#include "common/limits.h"
#include "ngx_module/worker.h"

namespace headgate::edge {

const RatePlan* MainConf::find_plan(std::string_view name) const noexcept {
    const auto found =
        std::find_if(plans.begin(), plans.end(), [name](const auto& plan) { return plan->name == name; });
    return found == plans.end() ? nullptr : found->get();
}

const RedisConf* MainConf::find_redis(std::string_view name) const noexcept {
    const auto found =
        std::find_if(redis.begin(), redis.end(), [name](const auto& candidate) { return candidate->name == name; });
    return found == redis.end() ? nullptr : found->get();
}

void* create_main_conf(ngx_conf_t* cf) noexcept {
    try {
        return make_in_pool<MainConf>(cf->pool);
    } catch (const std::exception&) {
        return nullptr;
    }
}

char* init_main_conf(ngx_conf_t* cf, void* data) noexcept {
    auto* conf = static_cast<MainConf*>(data);
    try {
        return check_redis(cf, *conf, conf->in_use);
    } catch (const std::exception& e) {
        return conf_fail(cf, "%s", e.what());
    }
}

void* create_loc_conf(ngx_conf_t* cf) noexcept {
    try {
        return make_in_pool<LocConf>(cf->pool);
    } catch (const std::exception&) {
        return nullptr;
    }
}

// Child lists replace the parent's.
char* merge_loc_conf(ngx_conf_t* cf, void* parent, void* child) noexcept {
    const auto* prev = static_cast<LocConf*>(parent);
    auto* conf = static_cast<LocConf*>(child);
    try {
        char* rv = merge_auth(cf, prev->auth, conf->auth);
        rv = rv == kConfOk ? merge_limits(cf, prev->limits, *conf) : rv;
        return rv == kConfOk ? merge_publish(cf, prev->publish, *conf) : rv;
    } catch (const std::exception& e) {
        return conf_fail(cf, "%s", e.what());
    }
}

}  // namespace headgate::edge
