// One server; see redis_link.h. Next file, for the other kind: redis_cluster.cpp.
#include "sidecar/io/redis_link.h"

#include "sidecar/io/redis_cluster.h"

namespace headgate {
namespace asio = boost::asio;

namespace {

// Keys are all at the one server, whichever that is at the time.
constexpr const char* kTheServer = "redis";

class SingleLink : public RedisLink {
 public:
    SingleLink(asio::any_io_executor executor, RedisAddress address, std::chrono::milliseconds timeout)
        : executor_(std::move(executor)), address_(std::move(address)), client_(executor_, address_, timeout) {}

    asio::awaitable<std::vector<Result<RedisReplies>>> send_each(std::vector<RedisCommands> all) override {
        std::string bytes;
        std::size_t replies = 0;
        for (const RedisCommands& commands : all) {
            bytes += commands.bytes;
            replies += commands.replies;
        }
        auto sent = co_await client_.send(std::move(bytes), replies);
        co_return deal_out(std::move(sent), all);
    }

    asio::awaitable<std::vector<Result<RedisReplies>>> send_to_servers(std::string bytes,
                                                                       std::size_t replies) override {
        std::vector<Result<RedisReplies>> results;
        auto sent = co_await client_.send(std::move(bytes), replies);
        results.push_back(std::move(sent));
        co_return results;
    }

    [[nodiscard]] bool joins_slots() const noexcept override { return true; }
    [[nodiscard]] std::string server_of(std::string_view) const override { return kTheServer; }
    [[nodiscard]] std::unique_ptr<RedisClient> connect(const std::string&,
                                                       std::chrono::milliseconds timeout) const override {
        return std::make_unique<RedisClient>(executor_, address_, timeout);
    }
    void heard(std::string_view, const std::string&) override {}
    void on_change(std::function<void()>) override {}
    void close() override { client_.close(); }
    [[nodiscard]] std::int64_t silent_ms() const override { return client_.silent_ms(); }

 private:
    asio::any_io_executor executor_;
    RedisAddress address_;
    RedisClient client_;
};

}  // namespace

std::vector<Result<RedisReplies>> deal_out(Result<RedisReplies> sent, const std::vector<RedisCommands>& all) {
    std::vector<Result<RedisReplies>> results;
    results.reserve(all.size());
    std::size_t next = 0;
    for (const RedisCommands& commands : all) {
        if (!sent) {
            results.emplace_back(tl::unexpected<Error>(sent.error()));
            continue;
        }
        RedisReplies own;
        for (std::size_t i = 0; i < commands.replies; i++) own.push_back(std::move((*sent)[next++]));
        results.emplace_back(std::move(own));
    }
    return results;
}

asio::awaitable<Result<RedisReplies>> RedisLink::send(std::string key, std::string bytes, std::size_t replies) {
    std::vector<RedisCommands> all;
    all.push_back({std::move(key), std::move(bytes), replies});
    auto results = co_await send_each(std::move(all));
    co_return std::move(results.front());
}

std::unique_ptr<RedisLink> make_redis_link(asio::any_io_executor executor, RedisAddress address,
                                           std::chrono::milliseconds timeout) {
    if (address.is_cluster) return std::make_unique<RedisCluster>(std::move(executor), std::move(address), timeout);
    return std::make_unique<SingleLink>(std::move(executor), std::move(address), timeout);
}

}  // namespace headgate
