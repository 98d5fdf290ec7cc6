// Where the master is, asked of Sentinels (https://redis.io/docs/reference/sentinel-clients/).
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <chrono>
#include <cstddef>

#include "sidecar/io/redis_address.h"

namespace headgate {

// Asks the Sentinels of `address` one after the other, beginning with number `first`, until one knows the master. Its
// ROLE is to be verified by the caller: a Sentinel may not know yet. kUnavailable says what the last of them answered.
// `timeout` for all of them together.
boost::asio::awaitable<Result<redis::HostPort>> find_sentinel_master(boost::asio::any_io_executor executor,
                                                                     const RedisAddress& address, std::size_t first,
                                                                     std::chrono::milliseconds timeout);

}  // namespace headgate
