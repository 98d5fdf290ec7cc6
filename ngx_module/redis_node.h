// One server that holds our keys, or the group of which one is the master: this worker's connections to it.
#pragma once

#include "ngx_module/redis_greeting.h"

namespace headgate::edge {

class RedisNode {
 public:
    // `id`: not 0, and never used again by another node of the service.
    RedisNode(const RedisConn::World& world, RedisMeta& meta, RedisTarget target, std::uint32_t id);
    ~RedisNode();
    RedisNode(const RedisNode&) = delete;
    RedisNode& operator=(const RedisNode&) = delete;

    void start() noexcept;  // connects now and not when first needed
    void stop() noexcept;
    void refresh() noexcept;

    // As RedisConn::send(). All commands of one slot take the same connection and keep their order, so that the events
    // of one ordering key do. With `asking` ASKING goes before.
    [[nodiscard]] bool send(RedisCommand* command, std::uint16_t slot, bool asking) noexcept;
    // SCRIPT LOAD on every connection, as the command that needs it may take any of them.
    [[nodiscard]] bool load_script(std::string_view script);

    [[nodiscard]] std::uint32_t id() const noexcept { return id_; }
    [[nodiscard]] bool ready() const noexcept { return lines_.front()->conn.ready(); }
    [[nodiscard]] bool failed() const noexcept { return lines_.front()->conn.failed(); }
    [[nodiscard]] bool unused() const noexcept;
    // The host that was dialed, which a reply without a host means.
    [[nodiscard]] const std::string& host() const noexcept { return lines_.front()->conn.dialed().host; }

 private:
    struct Line {
        Line(RedisNode& node)
            : greeting(node.world_.conf, node.meta_, node.evicts_, node.world_.log),
              conn(node.world_, node.target_, greeting) {}
        RedisGreeting greeting;  // outlives the connection that uses it
        RedisConn conn;
    };
    RedisConn& conn_for(const RedisCommand& command, std::uint16_t slot);

    RedisConn::World world_;
    RedisMeta& meta_;
    RedisTarget target_;
    std::uint32_t id_;
    bool evicts_ = false;
    std::vector<std::unique_ptr<Line>> lines_;  // `connections=` of them
    std::unique_ptr<Line> replica_line_;        // of commands with min_replicas; made when first needed
};

}  // namespace headgate::edge
