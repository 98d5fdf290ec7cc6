// Which streams are read on which connection: one function of what is owned and where it is. Pure. Next file:
// ingest_groups.h.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "sidecar/io/redis_link.h"
#include "sidecar/store/owned_parts.h"

namespace headgate {

// The shards that one blocking XREADGROUP reads, ascending, and the server that it is sent to.
struct StreamGroup {
    std::string server;
    std::vector<int> shards;
    bool operator==(const StreamGroup&) const = default;
};

// One server (or master): one group of all owned shards, though there be none. A cluster takes no command about several
// slots, and a connection that blocks can do nothing else: one group for each shard; those that nobody serves are left
// out.
[[nodiscard]] std::vector<StreamGroup> stream_groups(const OwnedParts& owned, const RedisLink& link,
                                                     std::string_view key_prefix);

// Does the one that reads `running` become the one that reads `wanted` just by being told its shards? On one server it
// does: it follows them. On a cluster a reader keeps its shard and its server.
[[nodiscard]] bool may_become(const StreamGroup& running, const StreamGroup& wanted, const RedisLink& link);

// Of what is owned, and for as long: all lanes, but only the shards of this group.
[[nodiscard]] OwnedPartsPtr owned_of_group(const OwnedParts& owned, const StreamGroup& group);

}  // namespace headgate
