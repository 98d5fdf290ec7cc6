// What Redis says about who serves what, read without I/O: redirections, the slot map of a cluster, ROLE,
// Sentinel's answer, and the errors after which a connection is of no more use.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

struct redisReply;

namespace headgate::redis {

inline constexpr std::size_t kRedisSlots = 16384;
// A cluster has at most about 1000 nodes (https://redis.io/docs/reference/cluster-spec/).
inline constexpr std::size_t kRedisNodesMax = 1024;

struct HostPort {
    std::string host;  // a name or an address literal, without brackets
    int port = 0;

    bool operator==(const HostPort&) const = default;
};
// host:port, [host]:port for IPv6 literals.
[[nodiscard]] std::string text_of(const HostPort& address);
// `host:port` as Redis writes it in redirections: the last colon parts them, and IPv6 stands without brackets.
// An empty host means the server that said so.
[[nodiscard]] std::optional<HostPort> read_host_port(std::string_view text, std::string_view asked_host);

// An error reply that names another node, or none at the moment.
enum class RedirectKind : std::uint8_t {
    kNone,
    kMoved,  // MOVED: the slot's new owner, from now on
    kAsk,    // ASK: this command only, after ASKING
};
struct Redirect {
    RedirectKind kind = RedirectKind::kNone;
    std::uint16_t slot = 0;
    HostPort to;
};
[[nodiscard]] Redirect read_redirect(std::string_view error, std::string_view asked_host);

// Why a connection cannot serve any more, from an error reply to any command; nullptr: it can.
[[nodiscard]] const char* connection_fault(std::string_view error) noexcept;
// Is it about the server's role, so that another address may do better?
[[nodiscard]] bool is_role_fault(std::string_view error) noexcept;

// Reply to ROLE. False for a replica, and for what is no such reply.
[[nodiscard]] bool role_is_master(const redisReply* reply) noexcept;

// The replicas that a master's reply to ROLE names; empty for what is no such reply.
[[nodiscard]] std::vector<HostPort> replicas_of(const redisReply* role);

// Reply to SENTINEL get-master-addr-by-name; nullopt when this Sentinel does not know the master.
[[nodiscard]] std::optional<HostPort> read_sentinel_master(const redisReply* reply);

// Every node that a reply to CLUSTER SLOTS names, replicas too; some may be named more than once. Empty for what is no
// such reply.
[[nodiscard]] std::vector<HostPort> nodes_of(const redisReply* reply, std::string_view asked_host);

// Which master serves which slots.
class SlotMap {
 public:
    static constexpr std::uint16_t kNobody = 0xffff;

    SlotMap() { owner_.fill(kNobody); }

    // Takes over the reply to CLUSTER SLOTS; `asked_host` stands for nodes that are named without a host. False: not
    // such a reply, and the map is as it was.
    [[nodiscard]] bool learn(const redisReply* reply, std::string_view asked_host);
    // A MOVED: one slot has another owner. False when there are too many nodes.
    [[nodiscard]] bool move(std::uint16_t slot, const HostPort& to);

    [[nodiscard]] bool known() const noexcept { return !masters_.empty(); }
    // The slot's master; nullptr when nobody serves it.
    [[nodiscard]] const HostPort* owner(std::uint16_t slot) const noexcept;
    [[nodiscard]] const std::vector<HostPort>& masters() const noexcept { return masters_; }
    // Does this master serve any slot?
    [[nodiscard]] bool serves(const HostPort& master) const noexcept;

 private:
    static std::uint16_t index_of(std::vector<HostPort>& masters, const HostPort& master);

    std::vector<HostPort> masters_;
    std::array<std::uint16_t, kRedisSlots> owner_;  // indexes into masters_
};

}  // namespace headgate::redis
