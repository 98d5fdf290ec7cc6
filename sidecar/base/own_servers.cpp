// See own_servers.h.
#include "sidecar/base/own_servers.h"

#include <algorithm>

namespace headgate {
namespace {

// A cluster has at most about 1000 nodes, and a machine a handful of addresses.
constexpr std::size_t kEndpointsMax = 8192;

}  // namespace

void OwnServers::learn(const IpAddress& address, std::uint16_t port) {
    const bool is_here = ip_in_list(address, "127.0.0.0/8 ::1 0.0.0.0 ::") ||
                         std::find(own_addresses_.begin(), own_addresses_.end(), address) != own_addresses_.end();
    std::lock_guard lock(mutex_);
    add({address, port});
    if (!is_here) return;
    for (const IpAddress& own : own_addresses_) add({own, port});
}

void OwnServers::add(const Endpoint& endpoint) {
    if (std::find(endpoints_.begin(), endpoints_.end(), endpoint) != endpoints_.end()) return;
    if (endpoints_.size() == kEndpointsMax) endpoints_.pop_front();
    endpoints_.push_back(endpoint);
}

}  // namespace headgate
