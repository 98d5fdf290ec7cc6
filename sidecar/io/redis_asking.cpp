// The pure parts of following a cluster: ASKING, and what an error means; see redis_cluster.h.
#include <charconv>

#include "common/resp.h"
#include "sidecar/io/redis_cluster.h"

namespace headgate {
namespace {

// Takes a line "<mark><number>" off the front; 0 when it is none.
std::size_t take_head(std::string_view& bytes, char mark) {
    std::size_t end = bytes.find("\r\n");
    std::size_t count = 0;
    if (end == std::string_view::npos || !bytes.starts_with(mark)) return 0;
    std::from_chars(bytes.data() + 1, bytes.data() + end, count);
    bytes.remove_prefix(end + 2);
    return count;
}

// The next of some encoded commands, taken off the front; `name` is its first word. Empty at the end.
std::string_view take_command(std::string_view& bytes, std::string_view& name) {
    std::string_view whole = bytes;
    std::size_t words = take_head(bytes, '*');
    for (std::size_t i = 0; i < words; i++) {
        std::size_t length = take_head(bytes, '$');
        if (bytes.size() < length + 2) return {};
        if (i == 0) name = bytes.substr(0, length);
        bytes.remove_prefix(length + 2);
    }
    return words == 0 ? std::string_view() : whole.substr(0, whole.size() - bytes.size());
}

// Calls visit(command, needs_asking) for each.
template <typename Visit>
void for_each_command(std::string_view bytes, Visit visit) {
    bool is_in_block = false;
    std::string_view name;
    for (std::string_view one; !(one = take_command(bytes, name)).empty();) {
        visit(one, !is_in_block);
        if (name == "MULTI") is_in_block = true;
        if (name == "EXEC") is_in_block = false;
    }
}

}  // namespace

RedisCommands with_asking(const RedisCommands& commands) {
    RedisCommands asking{commands.key, {}, commands.replies};
    for_each_command(commands.bytes, [&asking](std::string_view one, bool needs_asking) {
        RespWriter writer(asking.bytes);
        if (needs_asking) {
            writer.command("ASKING");
            asking.replies++;
        }
        writer.raw(one);
    });
    return asking;
}

RedisReplies without_asking(RedisReplies replies, const RedisCommands& commands) {
    RedisReplies own;
    std::size_t next = 0;
    for_each_command(commands.bytes, [&](std::string_view, bool needs_asking) {
        if (needs_asking) next++;
        if (next < replies.size()) own.push_back(std::move(replies[next++]));
    });
    return own;
}

ClusterAnswer judge_cluster_error(std::string_view error) noexcept {
    std::string_view code = error.substr(0, error.find(' '));
    if (code == "MOVED") return ClusterAnswer::kMoved;
    if (code == "ASK") return ClusterAnswer::kAsk;
    for (std::string_view later : {"TRYAGAIN", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "READONLY", "UNBLOCKED"})
        if (code == later) return ClusterAnswer::kLater;
    return ClusterAnswer::kDone;
}

}  // namespace headgate
