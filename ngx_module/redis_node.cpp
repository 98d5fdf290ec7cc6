// See redis_node.h.
#include "ngx_module/redis_node.h"

#include <algorithm>

#include "common/resp.h"

namespace headgate::edge {

RedisNode::RedisNode(const RedisConn::World& world, RedisMeta& meta, RedisTarget target, std::uint32_t id)
    : world_(world), meta_(meta), target_(std::move(target)), id_(id) {
    for (ngx_int_t i = 0; i < world.conf.connections; ++i) {
        lines_.push_back(std::make_unique<Line>(*this));
    }
}

RedisNode::~RedisNode() { meta_.forget_memory(evicts_); }

void RedisNode::start() noexcept {
    for (auto& line : lines_) {
        line->conn.connect();
    }
}

void RedisNode::stop() noexcept {
    for (auto& line : lines_) {
        line->conn.close();
    }
    if (replica_line_ != nullptr) {
        replica_line_->conn.close();
    }
}

void RedisNode::refresh() noexcept {
    bool memory = true;  // one connection is enough to ask for it
    for (auto& line : lines_) {
        if (line->conn.ready()) {
            line->greeting.refresh(line->conn, std::exchange(memory, false));
        }
    }
    // ROLE tells a replica that WAIT would find nobody behind; over a line that batches it costs a WAIT, too.
    if (replica_line_ != nullptr && replica_line_->conn.ready()) {
        replica_line_->greeting.refresh(replica_line_->conn, false);
    }
}

RedisConn& RedisNode::conn_for(const RedisCommand& command, std::uint16_t slot) {
    if (command.min_replicas != 0) {
        if (replica_line_ == nullptr) {
            replica_line_ = std::make_unique<Line>(*this);
            replica_line_->conn.wait_for_replicas();
        }
        return replica_line_->conn;
    }
    // Slots of shards differ by large powers of two: mixed, so that a few connections share them evenly.
    const std::uint32_t mixed = (slot * 2654435761u) >> 16;
    return lines_[mixed % lines_.size()]->conn;
}

bool RedisNode::send(RedisCommand* command, std::uint16_t slot, bool asking) noexcept {
    try {
        RedisConn& conn = conn_for(*command, slot);
        if (asking) {
            std::string bytes;
            RespWriter(bytes).command("ASKING");
            if (conn.send_bytes(std::move(bytes), nullptr, nullptr) == nullptr) {
                return false;
            }
        }
        return conn.send(command);
    } catch (const std::exception& e) {
        ngx_log_error(NGX_LOG_ERR, world_.log, 0, "headgate: %s", e.what());
        return false;
    }
}

bool RedisNode::load_script(std::string_view script) {
    std::string load;
    RespWriter(load).command("SCRIPT", "LOAD", script);
    bool loaded = false;
    for (auto& line : lines_) {
        loaded |= line->conn.send_bytes(load, nullptr, nullptr) != nullptr;
    }
    if (replica_line_ != nullptr) {
        loaded |= replica_line_->conn.send_bytes(load, nullptr, nullptr) != nullptr;
    }
    return loaded;
}

bool RedisNode::unused() const noexcept {
    return std::all_of(lines_.begin(), lines_.end(), [](const auto& line) { return line->conn.unused(); }) &&
           (replica_line_ == nullptr || replica_line_->conn.unused());
}

}  // namespace headgate::edge
