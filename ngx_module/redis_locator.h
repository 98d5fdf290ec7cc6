// From an address as it is written to one that can be dialed: names are asked of nginx's `resolver` each time a
// connection is made, or mean what they meant when the configuration was read.
#pragma once

#include "common/redis_topology.h"
#include "ngx_module/conf_redis.h"

namespace headgate::edge {

using redis::connection_fault;
using redis::HostPort;
using redis::is_role_fault;
using redis::kRedisNodesMax;
using redis::kRedisSlots;
using redis::read_redirect;
using redis::read_sentinel_master;
using redis::Redirect;
using redis::RedirectKind;
using redis::role_is_master;
using redis::SlotMap;

// An address that a Sentinel or a cluster named.
[[nodiscard]] RedisAddress address_of(const HostPort& where);

class RedisLocator {
 public:
    // Told once for each locate(), perhaps before that returns.
    using Located = void (*)(void* owner, bool found) noexcept;

    RedisLocator(const RedisConf& conf, ngx_log_t* log) noexcept : conf_(conf), log_(log) {}
    ~RedisLocator() { cancel(); }
    RedisLocator(const RedisLocator&) = delete;
    RedisLocator& operator=(const RedisLocator&) = delete;

    void locate(const RedisAddress& address, void* owner, Located located) noexcept;
    void cancel() noexcept;  // the owner will not be told

    // What was found last. A name's addresses take turns.
    [[nodiscard]] RedisAddress::Found& found() noexcept { return found_; }

 private:
    static void on_resolved(ngx_resolver_ctx_t* resolving) noexcept;
    bool ask_resolver(const RedisAddress& address) noexcept;
    bool take_from(const RedisAddress& address) noexcept;

    const RedisConf& conf_;
    ngx_log_t* log_;
    RedisAddress::Found found_{};
    std::string name_;  // being resolved: nginx keeps a pointer
    in_port_t port_ = 0;
    ngx_resolver_ctx_t* resolving_ = nullptr;
    std::size_t turn_ = 0;
    void* owner_ = nullptr;
    Located located_ = nullptr;
};

}  // namespace headgate::edge
