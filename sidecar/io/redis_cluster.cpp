// Commands to where their slots are; see redis_cluster.h.
#include "sidecar/io/redis_cluster.h"

#include <hiredis/hiredis.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <map>

#include "common/event_record.h"
#include "common/resp.h"
#include "sidecar/base/log.h"

namespace headgate {
namespace asio = boost::asio;
using asio::redirect_error;
using asio::use_awaitable;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

namespace {

constexpr milliseconds kRetryPause{50};
constexpr milliseconds kMapInterval{100};  // the map is read no more often
constexpr milliseconds kMapTimeout{500};
constexpr int kRoundsMax = 64;

redis::HostPort server_named(const std::string& server) {
    return parse_redis_server(server, kRedisPortDefault).value_or(redis::HostPort{});
}

// The error that says where else, or that it is too early; else empty.
std::string_view routing_error(const RedisReplies& replies) {
    for (const RedisReplyPtr& reply : replies) {
        std::string_view error = error_text(*reply);
        if (!error.empty() && judge_cluster_error(error) != ClusterAnswer::kDone) return error;
    }
    return {};
}

}  // namespace

struct RedisCluster::Impl : std::enable_shared_from_this<Impl> {
    Impl(asio::any_io_executor executor_in, RedisAddress address_in, milliseconds timeout_in)
        : executor(std::move(executor_in)),
          address(std::move(address_in)),
          timeout(timeout_in),
          map_read(executor, steady_clock::time_point::max()) {}

    // One of the commands that are still to be sent.
    struct Open {
        std::size_t index;
        std::string asked_at;  // this server, with ASKING, instead of the slot's master
    };

    asio::any_io_executor executor;
    RedisAddress address;
    milliseconds timeout;
    redis::SlotMap map;
    std::map<std::string, std::shared_ptr<RedisClient>> clients;  // by server
    std::function<void()> changed;
    asio::steady_timer map_read;  // cancelled to wake who waits for it
    bool is_reading_map = false;
    std::string map_trouble;  // why the last server that was asked gave no map
    bool is_closed = false;
    std::size_t first_asked = 0;  // of the servers that know the map: they take turns
    steady_clock::time_point next_map_at{};
    steady_clock::time_point made_at = steady_clock::now();

    [[nodiscard]] std::string server_of(std::string_view key) const {
        const redis::HostPort* owner = map.owner(redis_slot(key));
        return owner == nullptr ? std::string() : redis::text_of(*owner);
    }

    std::shared_ptr<RedisClient> client_of(const std::string& server) {
        std::shared_ptr<RedisClient>& client = clients[server];
        if (!client) client = std::make_shared<RedisClient>(executor, address.of_server(server_named(server)), timeout);
        return client;
    }

    void tell_change() {
        if (changed) changed();
    }

    // ---- the map

    void want_map() {
        if (is_reading_map || is_closed) return;
        is_reading_map = true;
        asio::co_spawn(executor, read_map(shared_from_this()), asio::detached);
    }

    static asio::awaitable<void> read_map(std::shared_ptr<Impl> self) {
        asio::steady_timer pause(self->executor, self->next_map_at);
        boost::system::error_code ignored;
        co_await pause.async_wait(redirect_error(use_awaitable, ignored));
        self->next_map_at = steady_clock::now() + kMapInterval;
        std::vector<redis::HostPort> servers = self->map.masters();
        for (const redis::HostPort& seed : self->address.servers())
            if (std::find(servers.begin(), servers.end(), seed) == servers.end()) servers.push_back(seed);
        bool is_read = false;
        for (std::size_t i = 0; i < servers.size() && !is_read && !self->is_closed; i++) {
            const redis::HostPort& asked = servers[(self->first_asked + i) % servers.size()];
            // Of its own: what waits on the usual connection must not fail with it.
            RedisClient client(self->executor, self->address.of_server(asked), kMapTimeout);
            std::string command;
            RespWriter(command).command("CLUSTER", "SLOTS");
            auto replies = co_await client.send(std::move(command), 1);
            is_read = replies && self->map.learn(replies->front().get(), asked.host);
            if (is_read) {
                self->map_trouble.clear();
                // Replicas too, which nobody connects to until they take over.
                self->address.tell_servers(redis::nodes_of(replies->front().get(), asked.host));
                continue;
            }
            self->map_trouble = replies ? redis::text_of(asked) + ": " + std::string(error_text(*replies->front()))
                                        : replies.error().message;
            spdlog::debug("redis_map_failed server={} error={}", redis::text_of(asked), log_value(self->map_trouble));
        }
        self->first_asked++;
        self->is_reading_map = false;
        if (is_read && !self->is_closed) {
            std::erase_if(self->clients,
                          [&self](const auto& known) { return !self->map.serves(server_named(known.first)); });
            self->tell_change();
        }
        self->map_read.cancel();
    }

    static asio::awaitable<void> wait_for_map(std::shared_ptr<Impl> self) {
        self->want_map();
        boost::system::error_code ignored;
        if (self->is_reading_map) co_await self->map_read.async_wait(redirect_error(use_awaitable, ignored));
    }

    // Nobody serves what is asked for, as far as is known.
    [[nodiscard]] tl::unexpected<Error> nobody() const {
        if (map.known()) return fail(ErrorCode::kUnavailable, "no node of the Redis cluster serves the slot");
        return fail(ErrorCode::kUnavailable, "no server of the Redis cluster answers" +
                                                 (map_trouble.empty() ? std::string() : ": " + map_trouble));
    }

    void follow_moved(const redis::Redirect& redirect) {
        if (redirect.kind == redis::RedirectKind::kMoved && map.move(redirect.slot, redirect.to)) tell_change();
        want_map();
    }

    // ---- sending

    static asio::awaitable<std::vector<Result<RedisReplies>>> send_each(std::shared_ptr<Impl> self,
                                                                        std::vector<RedisCommands> all) {
        std::vector<Result<RedisReplies>> results;
        for (std::size_t i = 0; i < all.size(); i++)
            results.emplace_back(fail(ErrorCode::kUnavailable, "the Redis cluster does not answer"));
        std::vector<Open> open;
        for (std::size_t i = 0; i < all.size(); i++) open.push_back({i, {}});
        auto deadline = steady_clock::now() + self->timeout;
        for (int round = 0; !open.empty() && round < kRoundsMax && !self->is_closed; round++) {
            if (round > 0 && steady_clock::now() >= deadline) break;
            if (round > 1) {
                asio::steady_timer pause(self->executor, kRetryPause);
                boost::system::error_code ignored;
                co_await pause.async_wait(redirect_error(use_awaitable, ignored));
            }
            if (!self->map.known()) co_await wait_for_map(self);
            std::map<std::string, std::vector<Open>> by_server;
            for (Open& one : std::exchange(open, {})) {
                std::string server = one.asked_at.empty() ? self->server_of(all[one.index].key) : one.asked_at;
                by_server[std::move(server)].push_back(std::move(one));
            }
            for (auto& [server, parts] : by_server) {
                if (server.empty()) {
                    for (Open& one : parts) {
                        results[one.index] = self->nobody();
                        open.push_back(std::move(one));
                    }
                    self->want_map();
                    continue;
                }
                co_await send_parts(self, server, parts, all, results, open, deadline);
            }
        }
        co_return results;
    }

    // To one server, in one write. What has to be sent again goes back to `open`.
    static asio::awaitable<void> send_parts(std::shared_ptr<Impl> self, const std::string& server,
                                            const std::vector<Open>& parts, const std::vector<RedisCommands>& all,
                                            std::vector<Result<RedisReplies>>& results, std::vector<Open>& open,
                                            steady_clock::time_point deadline) {
        std::vector<RedisCommands> commands;
        std::string bytes;
        std::size_t count = 0;
        for (const Open& one : parts) {
            const RedisCommands& asked = all[one.index];
            commands.push_back(one.asked_at.empty() ? asked : with_asking(asked));
            bytes += commands.back().bytes;
            count += commands.back().replies;
        }
        auto left = std::chrono::duration_cast<milliseconds>(deadline - steady_clock::now());
        std::shared_ptr<RedisClient> client = self->client_of(server);
        auto sent = co_await client->send(std::move(bytes), count, std::max(left, kRetryPause));
        if (!sent) self->want_map();
        std::vector<Result<RedisReplies>> dealt = deal_out(std::move(sent), commands);
        for (std::size_t i = 0; i < parts.size(); i++) {
            std::size_t index = parts[i].index;
            results[index] = std::move(dealt[i]);
            if (!results[index]) continue;
            if (!parts[i].asked_at.empty()) results[index] = without_asking(std::move(*results[index]), all[index]);
            std::string_view error = routing_error(*results[index]);
            if (!error.empty()) self->send_again(error, server, index, open);
        }
    }

    void send_again(std::string_view error, const std::string& server, std::size_t index, std::vector<Open>& open) {
        redis::Redirect redirect = redis::read_redirect(error, server_named(server).host);
        if (redirect.kind == redis::RedirectKind::kAsk) {
            open.push_back({index, redis::text_of(redirect.to)});
            return;
        }
        follow_moved(redirect);
        open.push_back({index, {}});
    }
};

RedisCluster::RedisCluster(asio::any_io_executor executor, RedisAddress address, milliseconds timeout)
    : impl_(std::make_shared<Impl>(std::move(executor), std::move(address), timeout)) {
    impl_->want_map();
}

RedisCluster::~RedisCluster() {
    impl_->changed = nullptr;
    close();
}

asio::awaitable<std::vector<Result<RedisReplies>>> RedisCluster::send_each(std::vector<RedisCommands> all) {
    return Impl::send_each(impl_, std::move(all));
}

asio::awaitable<std::vector<Result<RedisReplies>>> RedisCluster::send_to_servers(std::string bytes,
                                                                                 std::size_t replies) {
    std::shared_ptr<Impl> impl = impl_;
    if (!impl->map.known()) co_await Impl::wait_for_map(impl);
    std::vector<std::string> servers;
    for (const redis::HostPort& master : impl->map.masters())
        if (impl->map.serves(master)) servers.push_back(redis::text_of(master));
    std::sort(servers.begin(), servers.end());
    std::vector<Result<RedisReplies>> results;
    if (servers.empty()) results.emplace_back(impl->nobody());
    for (const std::string& server : servers) {
        std::shared_ptr<RedisClient> client = impl->client_of(server);
        std::string copy = bytes;
        auto sent = co_await client->send(std::move(copy), replies, kMapTimeout);
        if (!sent) impl->want_map();
        results.push_back(std::move(sent));
    }
    co_return results;
}

std::string RedisCluster::server_of(std::string_view key) const { return impl_->server_of(key); }

std::unique_ptr<RedisClient> RedisCluster::connect(const std::string& server, milliseconds timeout) const {
    return std::make_unique<RedisClient>(impl_->executor, impl_->address.of_server(server_named(server)), timeout);
}

void RedisCluster::heard(std::string_view error, const std::string& server) {
    redis::Redirect redirect = redis::read_redirect(error, server_named(server).host);
    if (error.empty() || judge_cluster_error(error) != ClusterAnswer::kDone) impl_->follow_moved(redirect);
}

void RedisCluster::on_change(std::function<void()> changed) { impl_->changed = std::move(changed); }

void RedisCluster::close() {
    impl_->is_closed = true;
    impl_->map_read.cancel();
    for (auto& [server, client] : impl_->clients) client->close();
}

// Any server counts: with one of several masters away others still answer.
std::int64_t RedisCluster::silent_ms() const {
    std::int64_t silent = std::chrono::duration_cast<milliseconds>(steady_clock::now() - impl_->made_at).count();
    for (const auto& [server, client] : impl_->clients) silent = std::min(silent, client->silent_ms());
    return silent;
}

}  // namespace headgate
