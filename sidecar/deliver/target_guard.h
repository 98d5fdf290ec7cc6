// Which addresses a webhook may reach. One check for create, test and deliver; enforced where the
// socket is opened, so that DNS cannot answer one thing to the check and another to the connection.
//
// Refused unless allowed: everything that is not global unicast (private, loopback, link-local,
// CGNAT, ULA, multicast, 0/8, documentation, benchmarking, reserved) and translated forms of such
// (IPv4-mapped, NAT64, 6to4, Teredo, IPv4-compatible). Never allowed, whatever the operator says: metadata addresses,
// and our own Redis, store and API. Ports 80, 443 and from 1024. https only, unless the address is in an allowed
// network.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/ip_network.h"
#include "common/result.h"
#include "sidecar/base/own_servers.h"

namespace headgate {

struct TargetGuardOptions {
    std::vector<IpNetwork> allow_networks;                   // security.allow_networks: the ceiling
    std::vector<std::pair<IpAddress, std::uint16_t>> never;  // our own Redis, store and API
    std::shared_ptr<const OwnServers> learned;               // those that turn up later; null: none do
};

enum class TargetVerdict : std::uint8_t { kAllowed, kBlockedAddress, kBlockedPort, kNotHttps, kBadUrl };

struct TargetUrl {
    std::string scheme, host;  // host without brackets, lowercase
    std::uint16_t port = 0;
    bool is_literal_address = false;
};

// Strict: http or https, no userinfo, no fragment, a host, a valid port; numeric hosts only in the
// canonical form (decimal, octal, hex and short forms of IPv4 are refused, trailing dots and IDN too).
[[nodiscard]] Result<TargetUrl> parse_target_url(std::string_view url);

class TargetGuard {
 public:
    explicit TargetGuard(TargetGuardOptions options);
    // May this organization connect to address:port with this scheme? org_networks: CIDR, or "*" for the whole ceiling.
    [[nodiscard]] TargetVerdict check(const IpAddress& address, std::uint16_t port, bool is_https,
                                      const std::vector<std::string>& org_networks) const;
    // For write time: the URL's form, port and, when the host is a literal address, the address too.
    [[nodiscard]] Result<TargetUrl> check_url(std::string_view url, const std::vector<std::string>& org_networks) const;
    // Why, in words, for explain-url: "10.0.0.1 is private (RFC 1918) and not in security.allow_networks".
    [[nodiscard]] std::string explain(const IpAddress& address, std::uint16_t port, bool is_https,
                                      const std::vector<std::string>& org_networks) const;
    [[nodiscard]] const TargetGuardOptions& options() const noexcept { return options_; }
    [[nodiscard]] const std::vector<IpNetwork>& ceiling() const noexcept { return options_.allow_networks; }

 private:
    TargetGuardOptions options_;
};

}  // namespace headgate
