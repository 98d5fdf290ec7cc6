// Replays of what a webhook missed: /api/webhooks/{id}/replay and /api/replays/.
#include <boost/json.hpp>

#include "common/rfc3339.h"
#include "sidecar/api/call.h"
#include "sidecar/api/json_body.h"
#include "sidecar/api/recovery.h"
#include "sidecar/api/recovery_input.h"
#include "sidecar/api/recovery_json.h"
#include "sidecar/api/reply.h"
#include "sidecar/base/wall_clock.h"

namespace headgate {
namespace json = boost::json;
namespace {

struct CountReplay {
    Replay replay;
    Result<std::int64_t> operator()(Store& store) const { return count_replay_now(store, replay); }
};
struct StartReplay {
    Replay replay;
    Result<Replay> operator()(Store& store) const { return start_replay(store, replay); }
};
struct ListReplays {
    std::string org, webhook_id;
    Result<std::vector<Replay>> operator()(Store& store) const {
        auto replays = store.list_replays(org, webhook_id);
        if (!replays || !replays->empty()) return replays;
        auto webhook = store.get_webhook(org, webhook_id);
        if (!webhook) return tl::unexpected(webhook.error());
        return replays;
    }
};
struct ReadReplay {
    std::string org, id;
    Result<Replay> operator()(Store& store) const { return store.get_replay(org, id); }
};
struct SetReplayState {
    std::string org, id;
    std::string_view state;
    Result<Replay> operator()(Store& store) const { return store.set_replay_state(org, id, state, wall_clock_ms()); }
};

ServerResponse not_found_or(const Error& error, std::string_view what) {
    if (error.code == ErrorCode::kNotFound) return problem_response(404, "There is no such " + std::string(what));
    return error_response(error);
}

ServerResponse answer_with(int status, const Replay& replay, std::string_view message = {}) {
    json::object data;
    data.emplace("replay", replay_json(replay));
    return envelope(status, data, message);
}

boost::asio::awaitable<ServerResponse> set_state(const ApiServices& services, Call call, std::string_view state,
                                                 std::string_view message) {
    auto body = read_optional_json_object(call.request);
    if (!body.refusal.body.empty()) co_return std::move(body.refusal);
    SetReplayState set{call.principal.org, call.params.at(0), state};
    auto replay = co_await services.writer.run(std::move(set));
    if (!replay) co_return not_found_or(replay.error(), "replay");
    co_return answer_with(200, *replay, message);
}

}  // namespace

boost::asio::awaitable<ServerResponse> post_replay(const ApiServices& services, Call call) {
    auto members = read_json_object(call.request);
    if (!members.refusal.body.empty()) co_return std::move(members.refusal);
    ReplayInput input = read_replay(members.object, call.principal.org, call.params.at(0), wall_clock_ms());
    if (!input.errors.empty()) co_return field_problem(input.errors);
    // What was answered 201 before is part of it.
    (void)co_await services.inbox_barrier();
    if (input.is_dry_run) {
        CountReplay count{input.replay};
        auto total = co_await services.counter.run(std::move(count));
        if (!total) co_return not_found_or(total.error(), "webhook");
        json::object data;
        data.emplace("total", *total);
        data.emplace("which", input.replay.which);
        data.emplace("since", rfc3339_format(input.replay.since));
        data.emplace("until", rfc3339_format(input.replay.until));
        data.emplace("dry_run", true);
        co_return envelope(200, data);
    }
    StartReplay start{input.replay};
    auto replay = co_await services.counter.run(std::move(start));
    if (!replay) co_return not_found_or(replay.error(), "webhook");
    auto response = answer_with(202, *replay, "The replay runs");
    response.headers.emplace_back("Location", "/api/replays/" + replay->id);
    co_return response;
}

boost::asio::awaitable<ServerResponse> list_replays(const ApiServices& services, Call call) {
    ListReplays list{call.principal.org, call.params.at(0)};
    auto found = co_await services.reader.run(std::move(list));
    if (!found) co_return not_found_or(found.error(), "webhook");
    json::array replays;
    for (const auto& replay : *found) replays.push_back(replay_json(replay));
    json::object data;
    data.emplace("replays", std::move(replays));
    co_return envelope(200, data);
}

boost::asio::awaitable<ServerResponse> get_replay(const ApiServices& services, Call call) {
    ReadReplay read{call.principal.org, call.params.at(0)};
    auto replay = co_await services.reader.run(std::move(read));
    if (!replay) co_return not_found_or(replay.error(), "replay");
    co_return answer_with(200, *replay);
}

boost::asio::awaitable<ServerResponse> pause_replay(const ApiServices& services, Call call) {
    return set_state(services, std::move(call), "paused", "The replay is paused; what it has made is still sent");
}

boost::asio::awaitable<ServerResponse> resume_replay(const ApiServices& services, Call call) {
    return set_state(services, std::move(call), "running", "The replay runs");
}

boost::asio::awaitable<ServerResponse> cancel_replay(const ApiServices& services, Call call) {
    return set_state(services, std::move(call), "cancelled", "The replay is cancelled; what it has made is still sent");
}

}  // namespace headgate
