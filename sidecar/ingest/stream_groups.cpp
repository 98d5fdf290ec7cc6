// See stream_groups.h.
#include "sidecar/ingest/stream_groups.h"

#include "common/event_record.h"

namespace headgate {

std::vector<StreamGroup> stream_groups(const OwnedParts& owned, const RedisLink& link, std::string_view key_prefix) {
    std::vector<StreamGroup> groups;
    if (link.joins_slots()) groups.push_back({link.server_of(key_prefix), {}});
    for (std::size_t i = 0; i < owned.shard_epochs.size(); i++) {
        if (owned.shard_epochs[i] == 0) continue;
        int shard = static_cast<int>(i);
        if (link.joins_slots()) {
            groups.front().shards.push_back(shard);
            continue;
        }
        std::string server = link.server_of(stream_key(key_prefix, shard));
        if (!server.empty()) groups.push_back({std::move(server), {shard}});
    }
    return groups;
}

bool may_become(const StreamGroup& running, const StreamGroup& wanted, const RedisLink& link) {
    return running.server == wanted.server && (link.joins_slots() || running.shards == wanted.shards);
}

OwnedPartsPtr owned_of_group(const OwnedParts& owned, const StreamGroup& group) {
    auto parts = std::make_shared<OwnedParts>(owned);
    parts->shard_epochs.assign(owned.shard_epochs.size(), 0);
    for (int shard : group.shards) {
        auto i = static_cast<std::size_t>(shard);
        parts->shard_epochs[i] = owned.shard_epochs[i];
    }
    return parts;
}

}  // namespace headgate
