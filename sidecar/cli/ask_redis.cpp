// See ask_redis.h.
#include "sidecar/cli/ask_redis.h"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <chrono>
#include <iostream>

#include "common/resp.h"
#include "sidecar/settings.h"

namespace headgate {
namespace {

constexpr std::chrono::milliseconds kTimeout{3'000};

boost::asio::awaitable<RedisAnswers> ping(RedisLink& redis) {
    std::string command;
    RespWriter(command).command("PING");
    co_return co_await redis.send_to_servers(std::move(command), 1);
}

// What `own_servers` is told on the way is all that is wanted.
Result<void> learn_servers(Result<RedisAddress> address, const std::shared_ptr<OwnServers>& own_servers) {
    if (!address) return tl::unexpected(address.error());
    if (!address->is_cluster && !address->looks_for_master()) return {};
    address->own_servers = own_servers;
    const RedisAnswers answers = ask_redis(*address, ping);
    if (answers.empty()) return fail(ErrorCode::kUnavailable, "Redis did not answer");
    for (const auto& answer : answers) {
        if (!answer) return tl::unexpected<Error>(answer.error());
    }
    return {};
}

}  // namespace

RedisAnswers ask_redis(const RedisAddress& address,
                       const std::function<boost::asio::awaitable<RedisAnswers>(RedisLink&)>& ask) {
    boost::asio::io_context io(1);
    auto redis = make_redis_link(io.get_executor(), address, kTimeout);
    RedisAnswers answers;
    boost::asio::co_spawn(io, ask(*redis), [&](const std::exception_ptr& thrown, auto replies) {
        if (!thrown) answers = std::move(replies);
        redis->close();
    });
    io.run();
    return answers;
}

TargetGuard guard_of_now(const Config& config) {
    TargetGuardOptions options = guard_options(config);
    const auto own_servers = make_own_servers();
    options.learned = own_servers;
    auto learn = [&](Result<RedisAddress> address) {
        if (auto learned = learn_servers(std::move(address), own_servers); !learned)
            std::cerr << "warning: which servers our Redis has is not known: " << learned.error().message << "\n";
    };
    learn(events_redis(config));
    if (config.redis_keys_url != config.redis_url) learn(keys_redis(config));
    return TargetGuard(std::move(options));
}

}  // namespace headgate
