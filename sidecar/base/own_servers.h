// The servers of our own that connections have led to: a master that Sentinel named, a node of a cluster, what a name
// means by now. Webhooks may never reach them. Who connects tells (any thread), the guard asks. Bounded.
#pragma once

#include <cstdint>
#include <deque>
#include <mutex>
#include <utility>
#include <vector>

#include "common/ip_network.h"

namespace headgate {

class OwnServers {
 public:
    using Endpoint = std::pair<IpAddress, std::uint16_t>;

    // `own_addresses`: of this machine. A server on one of them may listen on the others as well.
    explicit OwnServers(std::vector<IpAddress> own_addresses = {}) : own_addresses_(std::move(own_addresses)) {}

    void learn(const IpAddress& address, std::uint16_t port);
    // Does `is_one_of_them` hold for any? It is called with each until it does.
    template <typename Test>
    [[nodiscard]] bool any(Test is_one_of_them) const {
        std::lock_guard lock(mutex_);
        for (const Endpoint& endpoint : endpoints_) {
            if (is_one_of_them(endpoint)) return true;
        }
        return false;
    }

 private:
    void add(const Endpoint& endpoint);

    const std::vector<IpAddress> own_addresses_;
    mutable std::mutex mutex_;
    std::deque<Endpoint> endpoints_;  // beyond the bound the oldest are forgotten
};

}  // namespace headgate
