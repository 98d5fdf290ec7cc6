// A Redis Cluster as one worker knows it: the slot map, a node for each master it has talked to, and redirections.
// One more connection, to any node, is there for the map alone (CLUSTER SLOTS): asked again after MOVED, when a node
// fails, and from time to time.
#pragma once

#include "ngx_module/redis_node.h"

namespace headgate::edge {

class RedisCluster final : private RedisGreeter {
 public:
    // `map_known` is called when the map has become known, perhaps again.
    RedisCluster(const RedisConn::World& world, RedisMeta& meta, void* owner, void (*map_known)(void* owner) noexcept);
    ~RedisCluster() override;
    RedisCluster(const RedisCluster&) = delete;
    RedisCluster& operator=(const RedisCluster&) = delete;

    void start() noexcept { map_line_.connect(); }
    void stop() noexcept;
    void refresh() noexcept;  // once a second

    // As RedisService::send(). Before the map is known, and events before headgate:meta has been read, commands wait
    // for the first attempt to learn it.
    // command->hops: of an asker that builds the command again.
    [[nodiscard]] bool send(RedisCommand* command, std::uint16_t slot) noexcept;
    [[nodiscard]] bool load_script(std::string_view script, std::uint16_t slot);
    // See RedisService::redirected().
    [[nodiscard]] bool redirected(std::string_view error, RedisHops& hops) noexcept;
    // headgate:meta has been read, or could not be (`known` false): events that waited are sent or refused.
    void meta_is(bool known) noexcept;

    [[nodiscard]] bool ready() const noexcept { return map_.known() && meta_known_; }

 private:
    enum class Step : std::uint8_t { kAuth, kSlots };

    // RedisGreeter of the map's connection
    void hello(std::vector<std::string>& commands) override;
    bool learn(std::size_t index, const redisReply* reply) override;
    [[nodiscard]] bool may_publish() const noexcept override { return true; }
    void on_failed() noexcept override;

    static void on_slots(void* cluster, RedisOutcome outcome, const redisReply* reply) noexcept;
    static void on_pause_event(ngx_event_t* event) noexcept;
    static bool on_redirected(void* cluster, RedisCommand* command, std::string_view error) noexcept;

    bool learn_slots(const redisReply* reply);
    void ask_slots() noexcept;
    void send_waiting(bool events) noexcept;
    bool send_to_owner(RedisCommand* command) noexcept;
    bool send_to(RedisNode* node, RedisCommand* command, bool asking) noexcept;
    void pause(RedisCommand* command, ngx_msec_t pause_ms) noexcept;
    void end_pauses(bool all) noexcept;
    bool plan_pause(RedisHops& hops) noexcept;
    RedisNode* node_by_id(std::uint32_t id) noexcept;
    RedisNode* node_at(const HostPort& where);  // made when it is not there
    // Follows MOVED and ASK; nullptr: it is none, or leads nowhere. `asking`: the command goes there just this once.
    RedisNode* follow(std::string_view error, std::uint32_t asked, bool& asking) noexcept;

    struct Member {
        HostPort where;
        std::unique_ptr<RedisNode> node;
    };

    RedisConn::World world_;
    RedisMeta& meta_;
    void* owner_;
    void (*map_known_)(void* owner) noexcept;
    RedisTarget map_target_;  // the seeds, then every master
    bool map_has_auth_ = false;
    RedisConn map_line_;
    SlotMap map_;
    bool map_failed_ = false;  // the first attempt to learn it
    bool meta_known_ = false;
    bool meta_failed_ = false;
    bool asking_slots_ = false;
    ngx_msec_t asked_at_ms_ = 0;
    unsigned ticks_ = 0, failed_ticks_ = 0;
    std::uint32_t last_id_ = 0;
    std::vector<Member> members_;
    ngx_queue_t waiting_;        // commands before the map and headgate:meta are known
    ngx_queue_t paused_;         // commands whose keys are on their way
    ngx_event_t pause_event_{};  // not cancelable: requests wait for it
};

}  // namespace headgate::edge
