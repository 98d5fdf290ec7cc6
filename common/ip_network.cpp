// Input: the text of an address or network. Output: its 128-bit form, and whether it contains an
// address. Next: auth (allowed_ips), the sidecar's target guard.
#include "common/ip_network.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <cstring>

namespace headgate {

namespace {

constexpr std::array<std::uint8_t, 12> kMappedPrefix = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

// inet_pton wants a terminated string; a NUL inside would end it early.
struct TerminatedText {
    char bytes[INET6_ADDRSTRLEN];
    bool valid;
    explicit TerminatedText(std::string_view text) noexcept
        : valid(!text.empty() && text.size() < sizeof bytes && text.find('\0') == std::string_view::npos) {
        if (valid) {
            std::memcpy(bytes, text.data(), text.size());
            bytes[text.size()] = '\0';
        }
    }
};

// "0" to "128" without leading zeros; -1 when it is anything else.
int parse_prefix_bits(std::string_view text) noexcept {
    if (text.empty() || text.size() > 3 || (text.size() > 1 && text[0] == '0')) {
        return -1;
    }
    int bits = 0;
    for (const char c : text) {
        if (c < '0' || c > '9') {
            return -1;
        }
        bits = bits * 10 + (c - '0');
    }
    return bits;
}

// The bits of byte `i` that belong to a prefix of so many bits.
std::uint8_t byte_mask(int prefix_bits, int i) noexcept {
    const int bits = std::clamp(prefix_bits - 8 * i, 0, 8);
    return static_cast<std::uint8_t>(0xff00u >> bits);
}

}  // namespace

bool IpAddress::is_v4() const noexcept { return std::equal(kMappedPrefix.begin(), kMappedPrefix.end(), bytes.begin()); }

std::string IpAddress::to_string() const {
    char text[INET6_ADDRSTRLEN];
    const bool v4 = is_v4();
    inet_ntop(v4 ? AF_INET : AF_INET6, bytes.data() + (v4 ? kMappedPrefix.size() : 0), text, sizeof text);
    return text;
}

bool IpNetwork::contains(const IpAddress& address) const noexcept {
    for (int i = 0; i < 16; ++i) {
        if (((base.bytes[i] ^ address.bytes[i]) & byte_mask(prefix_bits, i)) != 0) {
            return false;
        }
    }
    return true;
}

std::optional<IpAddress> parse_ip(std::string_view text) noexcept {
    const TerminatedText terminated(text);
    if (!terminated.valid) {
        return std::nullopt;
    }
    IpAddress address;
    if (text.find(':') != std::string_view::npos) {
        if (inet_pton(AF_INET6, terminated.bytes, address.bytes.data()) != 1) {
            return std::nullopt;
        }
        return address;
    }
    in_addr v4;
    if (inet_pton(AF_INET, terminated.bytes, &v4) != 1) {
        return std::nullopt;
    }
    return ip_from_v4(ntohl(v4.s_addr));
}

IpAddress ip_from_v4(std::uint32_t host_order) noexcept {
    IpAddress address;
    std::copy(kMappedPrefix.begin(), kMappedPrefix.end(), address.bytes.begin());
    for (int i = 0; i < 4; ++i) {
        address.bytes[12 + i] = static_cast<std::uint8_t>(host_order >> (24 - 8 * i));
    }
    return address;
}

std::optional<IpNetwork> parse_network(std::string_view text) noexcept {
    const std::size_t slash = text.find('/');
    const std::string_view address_text = text.substr(0, slash);
    const auto address = parse_ip(address_text);
    if (!address) {
        return std::nullopt;
    }
    IpNetwork network{*address, 128};
    if (slash == std::string_view::npos) {
        return network;
    }
    const bool dotted = address_text.find(':') == std::string_view::npos;
    const int bits = parse_prefix_bits(text.substr(slash + 1));
    if (bits < 0 || bits > (dotted ? 32 : 128)) {
        return std::nullopt;
    }
    network.prefix_bits = dotted ? bits + 96 : bits;
    for (int i = 0; i < 16; ++i) {
        if ((network.base.bytes[i] & ~byte_mask(network.prefix_bits, i)) != 0) {
            return std::nullopt;
        }
    }
    return network;
}

bool ip_in_list(const IpAddress& address, std::string_view networks) noexcept {
    while (!networks.empty()) {
        const std::size_t space = networks.find(' ');
        const auto network = parse_network(networks.substr(0, space));
        if (network && network->contains(address)) {
            return true;
        }
        networks.remove_prefix(space == std::string_view::npos ? networks.size() : space + 1);
    }
    return false;
}

}  // namespace headgate
