// Tells Redis that a batch is in the store. Input: ingest_batch.h. Used by ingest.cpp.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <memory>
#include <string>
#include <vector>

#include "sidecar/ingest/ingest_batch.h"
#include "sidecar/io/redis_link.h"

namespace headgate {

// Acknowledges and deletes all entries of the batch, once. False: of some it was refused, or is not known; that was
// logged, and all may be tried again. `keys` by shard; `link` and `keys` outlive the call.
[[nodiscard]] boost::asio::awaitable<bool> acknowledge_once(RedisLink& link, std::shared_ptr<const IngestBatch> batch,
                                                            const std::vector<std::string>& keys);

}  // namespace headgate
