// IP addresses and CIDR networks in one 128-bit form (IPv4 as ::ffff:a.b.c.d), so that a mapped
// address and its IPv4 form always compare alike. Used for allowed_ips and for the delivery guard.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace headgate {

struct IpAddress {
    std::array<std::uint8_t, 16> bytes{};
    [[nodiscard]] bool is_v4() const noexcept;  // ::ffff:0:0/96
    [[nodiscard]] bool operator==(const IpAddress&) const = default;
    [[nodiscard]] std::string to_string() const;  // a mapped address prints as dotted IPv4
};

struct IpNetwork {
    IpAddress base;
    int prefix_bits = 128;  // of the 128-bit form
    [[nodiscard]] bool contains(const IpAddress& address) const noexcept;
};

// Strict: dotted decimal with four parts and no leading zeros, or RFC 4291 text without a zone id.
[[nodiscard]] std::optional<IpAddress> parse_ip(std::string_view text) noexcept;
[[nodiscard]] IpAddress ip_from_v4(std::uint32_t host_order) noexcept;
// "a.b.c.d", "a.b.c.d/n", "x::y", "x::y/n". Host bits beyond the prefix must be zero.
[[nodiscard]] std::optional<IpNetwork> parse_network(std::string_view text) noexcept;
// Is the address in one of the networks of a list separated by spaces? An entry that does not
// parse matches nothing (fails closed).
[[nodiscard]] bool ip_in_list(const IpAddress& address, std::string_view networks) noexcept;

}  // namespace headgate
