// SENTINEL GET-MASTER-ADDR-BY-NAME; see redis_sentinel.h.
#include "sidecar/io/redis_sentinel.h"

#include <algorithm>

#include "common/resp.h"
#include "sidecar/io/redis_client.h"

namespace headgate {

boost::asio::awaitable<Result<redis::HostPort>> find_sentinel_master(boost::asio::any_io_executor executor,
                                                                     const RedisAddress& address, std::size_t first,
                                                                     std::chrono::milliseconds timeout) {
    const std::vector<redis::HostPort> sentinels = address.sentinels;
    // Two silent ones must not use up the time in which a third would have answered.
    const std::chrono::milliseconds of_one =
        std::max(timeout / static_cast<int>(sentinels.size() + 1), std::chrono::milliseconds(50));
    std::string trouble = "no Sentinel is named";
    for (std::size_t i = 0; i < sentinels.size(); i++) {
        const redis::HostPort& asked = sentinels[(first + i) % sentinels.size()];
        RedisClient sentinel(executor, address.of_sentinel(asked), of_one);
        std::string command;
        RespWriter(command).command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", address.sentinel_master);
        auto replies = co_await sentinel.send(std::move(command), 1);
        if (!replies) {
            trouble = "Sentinel: " + replies.error().message;
            continue;
        }
        auto master = redis::read_sentinel_master(replies->front().get());
        if (master) co_return *master;
        std::string_view error = error_text(*replies->front());
        trouble = "Sentinel " + redis::text_of(asked) + ": " +
                  (error.empty() ? "it does not know this master" : std::string(error));
    }
    co_return fail(ErrorCode::kUnavailable, trouble);
}

}  // namespace headgate
