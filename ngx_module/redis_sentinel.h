// What a connection to a Sentinel says and learns: who we are, and where the master is. Next: redis_dial.cpp dials it.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "common/redis_topology.h"
#include "ngx_module/conf_redis.h"

namespace headgate::edge {

class RedisSentinel {
 public:
    RedisSentinel(const RedisConf& conf, ngx_log_t* log) noexcept : conf_(conf), log_(log) {}

    // As RedisGreeter. False: this Sentinel refuses us, and why has been logged.
    void hello(std::vector<std::string>& commands);
    [[nodiscard]] bool learn(std::size_t index, const redisReply* reply);

    // As the last answer had it; nullopt: this Sentinel does not know the master.
    [[nodiscard]] const std::optional<redis::HostPort>& master() const noexcept { return master_; }

 private:
    const RedisConf& conf_;
    ngx_log_t* log_;
    std::size_t question_ = 0;  // the index of the command that asks
    std::optional<redis::HostPort> master_;
};

}  // namespace headgate::edge
