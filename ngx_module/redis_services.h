// What a worker has of Redis: a service for every headgate_redis that has a role, and who serves which role.
#pragma once

#include "ngx_module/conf.h"
#include "ngx_module/redis_service.h"

namespace headgate::edge {

// What this nginx expects of a Redis, which holds events or does not.
[[nodiscard]] MetaExpectation expected_of(const MainConf& conf, bool for_events);

class RedisServices {
 public:
    RedisServices(const MainConf& conf, ZoneShared* shared, ngx_log_t* log);

    void start() noexcept;
    void stop() noexcept;     // whatever is under way fails
    void refresh() noexcept;  // once a second

    [[nodiscard]] RedisService& of(RedisRole role) noexcept { return *roles_[static_cast<std::size_t>(role)]; }
    // May one script charge a limit and add an event?
    [[nodiscard]] bool limits_join_events() noexcept {
        return &of(RedisRole::kLimits) == &of(RedisRole::kEvents) && of(RedisRole::kEvents).joins_keys();
    }

 private:
    RedisGauge gauge_;  // outlives the services
    std::vector<std::unique_ptr<RedisService>> services_;
    RedisService* roles_[kRedisRoles] = {};  // several may be one and the same
};

}  // namespace headgate::edge
