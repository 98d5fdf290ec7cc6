// Which addresses a webhook may reach: the tables of special networks (the IANA special-purpose
// registries, RFC 6890) and of metadata addresses, and the decision. Pure. Asked by http_client.cpp
// for each socket and each request, and by the API at write time.
#include "sidecar/deliver/target_guard.h"

#include <algorithm>
#include <array>

namespace headgate {

namespace {

struct SpecialNetwork {
    IpNetwork network;
    std::string_view what;
};

IpNetwork network_of(std::string_view text) { return parse_network(text).value(); }

// Not global unicast, with the words that explain it.
const std::vector<SpecialNetwork>& special_networks() {
    static const std::vector<SpecialNetwork> kTable = [] {
        static constexpr std::pair<std::string_view, std::string_view> kRows[] = {
            {"0.0.0.0/8", "this network (RFC 791)"},
            {"10.0.0.0/8", "private (RFC 1918)"},
            {"100.64.0.0/10", "carrier-grade NAT (RFC 6598)"},
            {"127.0.0.0/8", "loopback (RFC 1122)"},
            {"169.254.0.0/16", "link-local (RFC 3927)"},
            {"172.16.0.0/12", "private (RFC 1918)"},
            {"192.0.0.0/24", "reserved for protocol assignments (RFC 6890)"},
            {"192.0.2.0/24", "documentation (RFC 5737)"},
            {"192.88.99.0/24", "a 6to4 relay (RFC 7526)"},
            {"192.168.0.0/16", "private (RFC 1918)"},
            {"198.18.0.0/15", "benchmarking (RFC 2544)"},
            {"198.51.100.0/24", "documentation (RFC 5737)"},
            {"203.0.113.0/24", "documentation (RFC 5737)"},
            {"224.0.0.0/4", "multicast (RFC 5771)"},
            {"240.0.0.0/4", "reserved (RFC 1112)"},
            {"::1", "loopback (RFC 4291)"},
            {"::", "unspecified (RFC 4291)"},
            {"::/96", "IPv4-compatible (RFC 4291)"},
            {"64:ff9b:1::/48", "local-use NAT64 (RFC 8215)"},
            {"100::/64", "discard-only (RFC 6666)"},
            {"2001::/32", "Teredo (RFC 4380)"},
            {"2001::/23", "reserved for protocol assignments (RFC 2928)"},
            {"2001:db8::/32", "documentation (RFC 3849)"},
            {"3fff::/20", "documentation (RFC 9637)"},
            {"fc00::/7", "unique local (RFC 4193)"},
            {"fe80::/10", "link-local (RFC 4291)"},
            {"fec0::/10", "site-local (RFC 3879)"},
            {"ff00::/8", "multicast (RFC 4291)"},
        };
        std::vector<SpecialNetwork> table;
        for (const auto& [network, what] : kRows) {
            table.push_back({network_of(network), what});
        }
        return table;
    }();
    return kTable;
}

// Where clouds hand credentials to whoever asks. Nothing opens these.
const std::vector<IpNetwork>& metadata_addresses() {
    static const std::vector<IpNetwork> kTable = [] {
        static constexpr std::string_view kRows[] = {
            "169.254.169.254",  // AWS, Azure, GCP, DigitalOcean, OpenStack, Hetzner, …
            "169.254.169.253",  // AWS DNS
            "169.254.169.123",  // AWS time
            "169.254.170.2",    // AWS ECS task credentials
            "169.254.170.23",   // AWS EKS pod identity
            "169.254.0.23",     // Tencent
            "169.254.42.42",    // Scaleway
            "100.100.100.200",  // Alibaba
            "168.63.129.16",    // Azure WireServer
            "192.0.0.192",      // Oracle
            "fd00:ec2::254",    // AWS
            "fd00:ec2::253",    // AWS DNS
            "fd00:ec2::23",     // AWS EKS pod identity
            "fd20:ce::254",     // GCP
            "fd00:42::42",      // Scaleway
        };
        std::vector<IpNetwork> table;
        for (const std::string_view row : kRows) {
            table.push_back(network_of(row));
        }
        return table;
    }();
    return kTable;
}

bool is_in(const std::vector<IpNetwork>& networks, const IpAddress& address) noexcept {
    return std::any_of(networks.begin(), networks.end(),
                       [&](const IpNetwork& network) { return network.contains(address); });
}

IpAddress v4_from(const std::array<std::uint8_t, 16>& bytes, std::size_t offset, std::uint8_t mask = 0) noexcept {
    std::uint32_t value = 0;
    for (std::size_t i = 0; i < 4; ++i) {
        value = value << 8 | static_cast<std::uint8_t>(bytes[offset + i] ^ mask);
    }
    return ip_from_v4(value);
}

// The IPv4 addresses that a translator or tunnel could make of this one: none for most. Which one a local NAT64 makes
// depends on the length of its prefix (RFC 6052, 2.2: /48, /56, /64 and /96 fit in 64:ff9b:1::/48; byte 8 is skipped).
std::vector<IpAddress> embedded_v4(const IpAddress& address) {
    static const IpNetwork kNat64 = network_of("64:ff9b::/96");
    static const IpNetwork kNat64Local = network_of("64:ff9b:1::/48");
    static const IpNetwork k6to4 = network_of("2002::/16");
    static const IpNetwork kTeredo = network_of("2001::/32");
    static const IpNetwork kCompatible = network_of("::/96");
    const auto& bytes = address.bytes;
    if (address.is_v4()) {
        return {};
    }
    if (kNat64.contains(address) || kCompatible.contains(address)) {
        return {v4_from(bytes, 12)};
    }
    if (kNat64Local.contains(address)) {
        const auto skipping_byte_8 = [&](std::size_t offset) {
            std::array<std::uint8_t, 16> joined{};
            for (std::size_t i = 0; i < 4; ++i) {
                const std::size_t at = offset + i;
                joined[i] = bytes[at < 8 ? at : at + 1];
            }
            return v4_from(joined, 0);
        };
        return {v4_from(bytes, 12), skipping_byte_8(6), skipping_byte_8(7), skipping_byte_8(8)};
    }
    if (k6to4.contains(address)) {
        return {v4_from(bytes, 2)};
    }
    if (kTeredo.contains(address)) {
        return {v4_from(bytes, 12, 0xff), v4_from(bytes, 4)};  // the client, and the server that it asks
    }
    const bool is_isatap = (bytes[8] & 0xfd) == 0 && bytes[9] == 0 && bytes[10] == 0x5e && bytes[11] == 0xfe;
    return is_isatap ? std::vector{v4_from(bytes, 12)} : std::vector<IpAddress>{};
}

// Why the address is not public; empty when it is.
std::string_view not_public_because(const IpAddress& address) {
    static const IpNetwork kGlobalUnicast = network_of("2000::/3");
    static const IpNetwork kNat64 = network_of("64:ff9b::/96");
    for (const SpecialNetwork& special : special_networks()) {
        if (special.network.contains(address)) {
            return special.what;
        }
    }
    if (address.is_v4()) {
        return {};
    }
    for (const IpAddress& inner : embedded_v4(address)) {
        if (!not_public_because(inner).empty()) {
            return "a translated form of an address that is not public";
        }
    }
    return kGlobalUnicast.contains(address) || kNat64.contains(address) ? "" : "outside of global unicast (RFC 4291)";
}

// Every 127/8 address, ::1, and the unspecified addresses reach this host.
bool is_this_host(const IpAddress& address) {
    static const std::vector<IpNetwork> kThisHost = {network_of("127.0.0.0/8"), network_of("0.0.0.0/8"),
                                                     network_of("::1"), network_of("::")};
    return is_in(kThisHost, address);
}

bool same_host(const IpAddress& a, const IpAddress& b) { return a == b || (is_this_host(a) && is_this_host(b)); }

bool overlap(const IpNetwork& a, const IpNetwork& b) noexcept { return a.contains(b.base) || b.contains(a.base); }

bool org_allows(const IpAddress& address, const std::vector<std::string>& org_networks) {
    return std::any_of(org_networks.begin(), org_networks.end(), [&](const std::string& text) {
        if (text == "*") {
            return true;
        }
        const auto network = parse_network(text);
        return network && network->contains(address);
    });
}

bool is_allowed_port(std::uint16_t port) noexcept { return port == 80 || port == 443 || port >= 1024; }

// Of the address itself or of one that is wrapped in it.
bool is_metadata(const IpAddress& address) {
    const auto inner = embedded_v4(address);
    return is_in(metadata_addresses(), address) ||
           std::any_of(inner.begin(), inner.end(), [](const IpAddress& v4) { return is_in(metadata_addresses(), v4); });
}

bool is_own_service(const TargetGuardOptions& options, const IpAddress& address, std::uint16_t port) {
    std::vector<IpAddress> forms = embedded_v4(address);
    forms.push_back(address);
    const auto is_there = [&](const std::pair<IpAddress, std::uint16_t>& own) {
        return own.second == port && std::any_of(forms.begin(), forms.end(),
                                                 [&](const IpAddress& form) { return same_host(own.first, form); });
    };
    return std::any_of(options.never.begin(), options.never.end(), is_there) ||
           (options.learned && options.learned->any(is_there));
}

}  // namespace

TargetGuard::TargetGuard(TargetGuardOptions options) : options_(std::move(options)) {}

TargetVerdict TargetGuard::check(const IpAddress& address, std::uint16_t port, bool is_https,
                                 const std::vector<std::string>& org_networks) const {
    if (is_metadata(address) || is_own_service(options_, address, port)) {
        return TargetVerdict::kBlockedAddress;
    }
    const bool is_public = not_public_because(address).empty();
    if (is_public && is_https) {
        return is_allowed_port(port) ? TargetVerdict::kAllowed : TargetVerdict::kBlockedPort;
    }
    const bool is_granted = is_in(options_.allow_networks, address) && org_allows(address, org_networks);
    if (!is_public && !is_granted) {
        return TargetVerdict::kBlockedAddress;
    }
    if (!is_allowed_port(port)) {
        return TargetVerdict::kBlockedPort;
    }
    return is_https || is_granted ? TargetVerdict::kAllowed : TargetVerdict::kNotHttps;
}

Result<TargetUrl> TargetGuard::check_url(std::string_view url, const std::vector<std::string>& org_networks) const {
    auto target = parse_target_url(url);
    if (!target) {
        return target;
    }
    const bool is_https = target->scheme == "https";
    const bool is_localhost = target->host == "localhost" || target->host.ends_with(".localhost");
    if (target->is_literal_address || is_localhost) {
        const IpAddress address = parse_ip(is_localhost ? "127.0.0.1" : target->host).value();
        if (check(address, target->port, is_https, org_networks) != TargetVerdict::kAllowed) {
            return fail(ErrorCode::kUnprocessable, "url: " + explain(address, target->port, is_https, org_networks));
        }
        return target;
    }
    if (!is_allowed_port(target->port)) {
        return fail(ErrorCode::kUnprocessable, "url: ports 80, 443 and from 1024 are allowed");
    }
    // What the name resolves to is known, and checked, only when a socket is opened.
    const bool may_use_http =
        std::any_of(options_.allow_networks.begin(), options_.allow_networks.end(), [&](const IpNetwork& ceiling) {
            return std::any_of(org_networks.begin(), org_networks.end(), [&](const std::string& text) {
                const auto network = parse_network(text);
                return text == "*" || (network && overlap(*network, ceiling));
            });
        });
    if (!is_https && !may_use_http) {
        return fail(ErrorCode::kUnprocessable,
                    "url: https is required; http is possible only into networks of security.allow_networks that "
                    "this organization was allowed");
    }
    return target;
}

std::string TargetGuard::explain(const IpAddress& address, std::uint16_t port, bool is_https,
                                 const std::vector<std::string>& org_networks) const {
    const std::string text = address.to_string();
    const std::string_view reason = not_public_because(address);
    const std::string granted = "in security.allow_networks and allowed for the organization";
    switch (check(address, port, is_https, org_networks)) {
        case TargetVerdict::kAllowed:
            return text + (reason.empty() && is_https ? " is public" : " is " + granted) + ": allowed";
        case TargetVerdict::kBlockedPort:
            return "port " + std::to_string(port) + " is refused: ports 80, 443 and from 1024 are allowed";
        case TargetVerdict::kNotHttps:
            return text + " is public: https is required";
        case TargetVerdict::kBadUrl:
        case TargetVerdict::kBlockedAddress:
            break;
    }
    if (is_metadata(address)) {
        return text + " is a cloud metadata address, which nothing can allow";
    }
    if (is_own_service(options_, address, port)) {
        return text + " port " + std::to_string(port) +
               " is Headgate's own Redis, store or API, which nothing can allow";
    }
    return text + " is " + std::string(reason) +
           (is_in(options_.allow_networks, address)
                ? " and not allowed for this organization (headgate org allow-network)"
                : " and not in security.allow_networks");
}

}  // namespace headgate
