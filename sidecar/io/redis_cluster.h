// A Redis Cluster: one connection to each master, a map of slots, and what Redis says when the map is old.
//
// MOVED changes the map and sends the commands again; ASK sends them again to the other side, once; TRYAGAIN,
// CLUSTERDOWN and a node that is loading are waited for, within the timeout. A lost connection is an Error, as with one
// server: whether the commands ran is not known. After each of these the map is read again, from any node that answers.
// Source of the rules: https://redis.io/docs/reference/cluster-spec/.
#pragma once

#include "sidecar/io/redis_link.h"

namespace headgate {

class RedisCluster : public RedisLink {
 public:
    RedisCluster(boost::asio::any_io_executor executor, RedisAddress address, std::chrono::milliseconds timeout);
    ~RedisCluster() override;

    boost::asio::awaitable<std::vector<Result<RedisReplies>>> send_each(std::vector<RedisCommands> all) override;
    boost::asio::awaitable<std::vector<Result<RedisReplies>>> send_to_servers(std::string bytes,
                                                                              std::size_t replies) override;
    [[nodiscard]] bool joins_slots() const noexcept override { return false; }
    [[nodiscard]] std::string server_of(std::string_view key) const override;
    [[nodiscard]] std::unique_ptr<RedisClient> connect(const std::string& server,
                                                       std::chrono::milliseconds timeout) const override;
    void heard(std::string_view error, const std::string& server) override;
    void on_change(std::function<void()> changed) override;
    void close() override;
    [[nodiscard]] std::int64_t silent_ms() const override;

 private:
    struct Impl;
    std::shared_ptr<Impl> impl_;
};

// ---- Pure parts.

// The replies of one write, cut up for who sent what. An error is everybody's.
[[nodiscard]] std::vector<Result<RedisReplies>> deal_out(Result<RedisReplies> sent,
                                                         const std::vector<RedisCommands>& all);
// The same commands with ASKING before each that needs it: one before a MULTI holds for the whole block
// (resetClient() of Redis). `replies` grows with it.
[[nodiscard]] RedisCommands with_asking(const RedisCommands& commands);
// And the replies without theirs.
[[nodiscard]] RedisReplies without_asking(RedisReplies replies, const RedisCommands& commands);

enum class ClusterAnswer : std::uint8_t {
    kDone,  // also when it is an error that is the commands' own
    kMoved,
    kAsk,
    kLater,  // not now: the slot is on the move or without a master
};
[[nodiscard]] ClusterAnswer judge_cluster_error(std::string_view error) noexcept;

}  // namespace headgate
