// How to reach a Redis: one server, the master among several, the master that Sentinels name, or a cluster.
// docs/operations.md says what an operator writes for each.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/redis_topology.h"
#include "common/result.h"

namespace headgate {

class OwnServers;  // base/own_servers.h
class RedisTls;    // redis_tls.h

constexpr int kRedisPortDefault = 6379;

struct RedisAddress {
    std::string host;  // empty for a unix socket
    std::string port;
    std::string unix_path;
    std::string username, password;
    int database = 0;
    bool wants_tls = false;               // rediss://
    std::shared_ptr<const RedisTls> tls;  // with wants_tls: made by load_redis_tls()

    // Further servers of the URL. One of all is the master, or, of a cluster, all are nodes.
    std::vector<redis::HostPort> others;
    bool is_cluster = false;
    // With Sentinels `host`, `port` and `others` are not used: they say where the master is. TLS is spoken to them
    // too where it is to the master; user and password are their own.
    std::vector<redis::HostPort> sentinels;
    std::string sentinel_master, sentinel_username, sentinel_password;
    // Told of every server that is found or connected to; null: nobody wants to know.
    std::shared_ptr<OwnServers> own_servers;

    [[nodiscard]] bool has_sentinels() const noexcept { return !sentinels.empty(); }
    // Is it to be found out which server is the master?
    [[nodiscard]] bool looks_for_master() const noexcept { return !is_cluster && (has_sentinels() || !others.empty()); }
    // Every server that the URL names; empty for a unix socket.
    [[nodiscard]] std::vector<redis::HostPort> servers() const;
    // The same way in (user, password, database, TLS), to this one server.
    [[nodiscard]] RedisAddress of_server(const redis::HostPort& server) const;
    // The same to one of the Sentinels.
    [[nodiscard]] RedisAddress of_sentinel(const redis::HostPort& sentinel) const;
    // Tells own_servers of those that are named by an address; of a name it is told when somebody connects.
    void tell_servers(const std::vector<redis::HostPort>& servers) const;
    // For messages: never a password.
    [[nodiscard]] std::string name() const;
};

// redis://[user:password@]host:port[,host:port…][/db], rediss:// with TLS, unix:/path[?db=n]. The message of an error
// never repeats the URL.
[[nodiscard]] Result<RedisAddress> parse_redis_url(std::string_view url);
// host[:port], [address]:port. nullopt: it is none.
[[nodiscard]] std::optional<redis::HostPort> parse_redis_server(std::string_view text, int default_port);

}  // namespace headgate
