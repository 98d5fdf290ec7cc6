// See redis_services.h.
#include "ngx_module/redis_services.h"

namespace headgate::edge {

MetaExpectation expected_of(const MainConf& conf, bool for_events) {
    return {static_cast<int>(conf.shards), conf.pepper_fingerprint, conf.previous_pepper_fingerprint, for_events};
}

RedisServices::RedisServices(const MainConf& conf, ZoneShared* shared, ngx_log_t* log)
    : gauge_(shared->workers[ngx_process_slot].redis_state) {
    for (const auto& redis : conf.redis) {
        RedisService* service = nullptr;
        for (std::size_t role = 0; role < kRedisRoles; ++role) {
            if (conf.redis_of(static_cast<RedisRole>(role)) != redis.get()) {
                continue;
            }
            if (service == nullptr) {
                const bool for_events = conf.redis_of(RedisRole::kEvents) == redis.get();
                service = services_
                              .emplace_back(std::make_unique<RedisService>(*redis, expected_of(conf, for_events),
                                                                           gauge_, shared, log))
                              .get();
            }
            roles_[role] = service;
        }
    }
}

void RedisServices::start() noexcept {
    for (auto& service : services_) {
        service->start();
    }
}

void RedisServices::stop() noexcept {
    for (auto& service : services_) {
        service->stop();
    }
}

void RedisServices::refresh() noexcept {
    for (auto& service : services_) {
        service->refresh();
    }
}

}  // namespace headgate::edge
