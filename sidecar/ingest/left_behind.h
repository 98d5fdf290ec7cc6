// Entries that our group has passed and that nobody would read again: acknowledged by another program, which did not
// delete them, or before the place where somebody has made the group. Next file: ingest.cpp.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <memory>
#include <string>
#include <vector>

#include "sidecar/io/redis_link.h"

namespace headgate {

// Looks for such entries in these streams, of which the caller alone reads, between two reads. Where there are some and
// nothing is pending, the group starts again at 0: what is in the store already is found there, what is not is stored,
// and both are deleted. What Redis refuses is left to the next look. Two commands for each stream.
[[nodiscard]] boost::asio::awaitable<void> read_again_what_is_left_behind(std::shared_ptr<RedisLink> link,
                                                                          std::vector<std::string> keys);

}  // namespace headgate
