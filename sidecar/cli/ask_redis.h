// Redis as commands ask it: once, and they wait for the answers.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <functional>
#include <vector>

#include "sidecar/config.h"
#include "sidecar/deliver/target_guard.h"
#include "sidecar/io/redis_link.h"

namespace headgate {

using RedisAnswers = std::vector<Result<RedisReplies>>;

// What `ask` came back with; empty when it threw. Every command that it sends waits at most 3 s.
[[nodiscard]] RedisAnswers ask_redis(const RedisAddress& address,
                                     const std::function<boost::asio::awaitable<RedisAnswers>(RedisLink&)>& ask);

// What webhooks may reach, as `serve` knows it once it is connected: where Sentinels, several servers or a cluster say
// which there are, they are asked, for at most 3 s each. A Redis that does not answer gets a warning on standard error:
// then its configured addresses are all that is known.
[[nodiscard]] TargetGuard guard_of_now(const Config& config);

}  // namespace headgate
