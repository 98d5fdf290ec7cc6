// See redis_topology.h. Replies: https://redis.io/commands/cluster-slots/, /role/, /sentinel/; redirections:
// https://redis.io/docs/reference/cluster-spec/#redirection-and-resharding.
#include "common/redis_topology.h"

#include <algorithm>
#include <charconv>

#include "common/redis_reply.h"

namespace headgate::redis {

namespace {

template <typename Number>
bool read_number(std::string_view text, Number& out) noexcept {
    const auto parsed = std::from_chars(text.data(), text.data() + text.size(), out);
    return parsed.ec == std::errc() && parsed.ptr == text.data() + text.size();
}

// The next word, taken off the front.
std::string_view take_word(std::string_view& text) noexcept {
    const std::string_view word = text.substr(0, text.find(' '));
    text.remove_prefix(std::min(text.size(), word.size() + 1));
    return word;
}

bool is_port(long long port) noexcept { return port > 0 && port <= 65535; }

// One node of CLUSTER SLOTS: [endpoint, port, id, [metadata]]. The endpoint may be a name, empty (the server does
// not know its own address), null or "?" (unknown).
std::optional<HostPort> read_slots_node(const redisReply* node, std::string_view asked_host) {
    if (node->type != REDIS_REPLY_ARRAY || node->elements < 2 || node->element[1]->type != REDIS_REPLY_INTEGER ||
        !is_port(node->element[1]->integer)) {
        return std::nullopt;
    }
    std::string_view host = element_text(node, 0);
    if (host.empty() || host == "?") {
        host = asked_host;
    }
    return HostPort{std::string(host), static_cast<int>(node->element[1]->integer)};
}

bool is_slot(const redisReply* reply) noexcept {
    return reply->type == REDIS_REPLY_INTEGER && reply->integer >= 0 &&
           reply->integer < static_cast<long long>(kRedisSlots);
}

}  // namespace

std::string text_of(const HostPort& address) {
    const bool is_ipv6 = address.host.find(':') != std::string::npos;
    return (is_ipv6 ? "[" + address.host + "]" : address.host) + ":" + std::to_string(address.port);
}

std::optional<HostPort> read_host_port(std::string_view text, std::string_view asked_host) {
    const std::size_t colon = text.rfind(':');
    int port = 0;
    if (colon == std::string_view::npos || !read_number(text.substr(colon + 1), port) || !is_port(port)) {
        return std::nullopt;
    }
    std::string_view host = text.substr(0, colon);
    if (host.empty() || host == "?") {
        host = asked_host;
    }
    return HostPort{std::string(host), port};
}

Redirect read_redirect(std::string_view error, std::string_view asked_host) {
    const std::string_view code = take_word(error);
    const RedirectKind kind = code == "MOVED" ? RedirectKind::kMoved
                              : code == "ASK" ? RedirectKind::kAsk
                                              : RedirectKind::kNone;
    unsigned slot = 0;
    if (kind == RedirectKind::kNone || !read_number(take_word(error), slot) || slot >= kRedisSlots) {
        return {};
    }
    auto to = read_host_port(take_word(error), asked_host);
    return to ? Redirect{kind, static_cast<std::uint16_t>(slot), std::move(*to)} : Redirect{};
}

const char* connection_fault(std::string_view error) noexcept {
    const std::string_view code = take_word(error);
    if (code == "READONLY") {
        return "it is a replica now (READONLY)";
    }
    if (code == "MASTERDOWN") {
        return "it is a replica without its master (MASTERDOWN)";
    }
    if (code == "LOADING") {
        return "it is loading its data (LOADING)";
    }
    if (code == "UNBLOCKED") {
        return "its role changed (UNBLOCKED)";
    }
    if (code == "NOAUTH") {
        return "it wants a password (NOAUTH)";
    }
    return nullptr;
}

bool is_role_fault(std::string_view error) noexcept {
    const std::string_view code = take_word(error);
    return code == "READONLY" || code == "MASTERDOWN" || code == "UNBLOCKED";
}

bool role_is_master(const redisReply* reply) noexcept { return element_text(reply, 0) == "master"; }

std::vector<HostPort> replicas_of(const redisReply* role) {
    std::vector<HostPort> replicas;
    if (!role_is_master(role) || role->elements < 3 || role->element[2]->type != REDIS_REPLY_ARRAY) {
        return replicas;
    }
    // Each is [host, port, offset], all of them text.
    for (std::size_t i = 0; i < role->element[2]->elements; ++i) {
        const redisReply* replica = role->element[2]->element[i];
        int port = 0;
        const std::string_view host = element_text(replica, 0);
        if (!host.empty() && read_number(element_text(replica, 1), port) && is_port(port)) {
            replicas.push_back({std::string(host), port});
        }
    }
    return replicas;
}

std::optional<HostPort> read_sentinel_master(const redisReply* reply) {
    int port = 0;
    const std::string_view host = element_text(reply, 0);
    if (host.empty() || !read_number(element_text(reply, 1), port) || !is_port(port)) {
        return std::nullopt;
    }
    return HostPort{std::string(host), port};
}

std::vector<HostPort> nodes_of(const redisReply* reply, std::string_view asked_host) {
    std::vector<HostPort> nodes;
    for (std::size_t i = 0; reply->type == REDIS_REPLY_ARRAY && i < reply->elements; ++i) {
        const redisReply* range = reply->element[i];
        // The first two are the slots.
        for (std::size_t k = 2; range->type == REDIS_REPLY_ARRAY && k < range->elements; ++k) {
            auto node = read_slots_node(range->element[k], asked_host);
            if (node && (nodes.empty() || nodes.back() != *node)) {
                nodes.push_back(std::move(*node));
            }
        }
    }
    return nodes;
}

std::uint16_t SlotMap::index_of(std::vector<HostPort>& masters, const HostPort& master) {
    const auto found = std::find(masters.begin(), masters.end(), master);
    if (found != masters.end()) {
        return static_cast<std::uint16_t>(found - masters.begin());
    }
    if (masters.size() == kRedisNodesMax) {
        return kNobody;
    }
    masters.push_back(master);
    return static_cast<std::uint16_t>(masters.size() - 1);
}

bool SlotMap::learn(const redisReply* reply, std::string_view asked_host) {
    if (reply->type != REDIS_REPLY_ARRAY || reply->elements == 0) {
        return false;
    }
    std::vector<HostPort> masters;
    std::array<std::uint16_t, kRedisSlots> owner;
    owner.fill(kNobody);
    for (std::size_t i = 0; i < reply->elements; ++i) {
        const redisReply* range = reply->element[i];
        if (range->type != REDIS_REPLY_ARRAY || range->elements < 3 || !is_slot(range->element[0]) ||
            !is_slot(range->element[1]) || range->element[0]->integer > range->element[1]->integer) {
            return false;
        }
        const auto master = read_slots_node(range->element[2], asked_host);
        if (!master) {
            return false;
        }
        const std::uint16_t index = index_of(masters, *master);
        if (index == kNobody) {
            return false;
        }
        std::fill(owner.begin() + range->element[0]->integer, owner.begin() + range->element[1]->integer + 1, index);
    }
    masters_ = std::move(masters);
    owner_ = owner;
    return true;
}

bool SlotMap::move(std::uint16_t slot, const HostPort& to) {
    const std::uint16_t index = index_of(masters_, to);
    if (index == kNobody) {
        return false;
    }
    owner_[slot] = index;
    return true;
}

const HostPort* SlotMap::owner(std::uint16_t slot) const noexcept {
    const std::uint16_t index = owner_[slot % kRedisSlots];
    return index == kNobody ? nullptr : &masters_[index];
}

bool SlotMap::serves(const HostPort& master) const noexcept {
    const auto found = std::find(masters_.begin(), masters_.end(), master);
    return found != masters_.end() && std::find(owner_.begin(), owner_.end(),
                                                static_cast<std::uint16_t>(found - masters_.begin())) != owner_.end();
}

}  // namespace headgate::redis
