// headgate_status as JSON: one object, its numbers grouped as in the table of status_snapshot.cpp.
#include "common/limits.h"
#include "common/version.h"
#include "ngx_module/status_snapshot.h"

namespace headgate::edge {

namespace {

// Writes {"name":value,…}, one level at a time.
class JsonObject {
 public:
    explicit JsonObject(std::string& out) : out_(out) { out_.push_back('{'); }
    JsonObject& member(std::string_view name, ngx_atomic_uint_t value) { return raw(name, std::to_string(value)); }
    JsonObject& raw(std::string_view name, std::string_view json) {
        out_.append(first_ ? "\"" : ",\"").append(name).append("\":").append(json);
        first_ = false;
        return *this;
    }
    void end() { out_.push_back('}'); }

 private:
    std::string& out_;
    bool first_ = true;
};

std::string refused_json(const CounterValues& counters) {
    std::string out;
    JsonObject object(out);
    for (std::size_t i = 0; i < kAuthStatusCount; ++i) {
        if (counters.refused[i] != 0) {
            object.member(auth_status_name(static_cast<AuthStatus>(i)), counters.refused[i]);
        }
    }
    object.end();
    return out;
}

// The worst of all connections: one word for an operator's first look.
RedisState worst_state(const StatusSnapshot& snapshot) noexcept {
    for (const RedisState state :
         {RedisState::kBackoff, RedisState::kConnecting, RedisState::kHandshake, RedisState::kIdle}) {
        if (snapshot.redis_states[static_cast<std::size_t>(state)] != 0) {
            return state;
        }
    }
    return RedisState::kReady;
}

std::string connections_json(const StatusSnapshot& snapshot) {
    const auto& states = snapshot.redis_states;
    const auto in = [&states](RedisState state) { return states[static_cast<std::size_t>(state)]; };
    std::string out;
    JsonObject(out)
        .member("ready", in(RedisState::kReady))
        .member("connecting", in(RedisState::kConnecting) + in(RedisState::kHandshake))
        .member("backoff", in(RedisState::kBackoff))
        .member("idle", in(RedisState::kIdle))
        .end();
    return out;
}

// What of a group is no row of the table.
void add_special_members(JsonObject& object, std::string_view group, const StatusSnapshot& snapshot) {
    if (group == "requests") {
        object.raw("refused", refused_json(snapshot.counters));
    } else if (group == "redis") {
        object.raw("state", "\"" + std::string(redis_state_name(worst_state(snapshot))) + "\"");
        object.raw("connections", connections_json(snapshot));
    }
}

}  // namespace

std::string status_json(const StatusSnapshot& snapshot) {
    std::string out;
    JsonObject whole(out);
    whole.raw("version", "\"" HEADGATE_VERSION "\"")
        .member("contract", limits::kContractVersion)
        .member("worker_processes", snapshot.workers)
        .member("uptime_s", snapshot.uptime_ms / 1000);
    const auto rows = status_rows();
    for (auto row = rows.begin(); row != rows.end();) {
        const std::string_view group = row->group;
        std::string members;
        JsonObject object(members);
        for (; row != rows.end() && row->group == group; ++row) {
            object.member(row->name, row->value(snapshot));
        }
        add_special_members(object, group, snapshot);
        object.end();
        whole.raw(group, members);
    }
    whole.end();
    return out;
}

}  // namespace headgate::edge
