// /api/events: lists, one, and why each webhook did or did not get it. Like the inbox, each sees what was answered 201
// before the request came.
#include <boost/json.hpp>

#include "sidecar/api/call.h"
#include "sidecar/api/form.h"
#include "sidecar/api/recovery.h"
#include "sidecar/api/recovery_input.h"
#include "sidecar/api/recovery_json.h"
#include "sidecar/api/reply.h"

namespace headgate {
namespace json = boost::json;
namespace {

struct ListEvents {
    std::string org;
    EventQuery query;
    Result<EventPage> operator()(Store& store) const { return store.list_events(org, query); }
};
struct ReadEvent {
    std::string org, id;
    Result<Event> operator()(Store& store) const { return store.get_event(org, id); }
};
struct ExplainEvent {
    std::string org, id;
    Result<Explanation> operator()(Store& store) const { return explain(store, org, id); }
};

ServerResponse not_found_or(const Error& error) {
    if (error.code == ErrorCode::kNotFound) return problem_response(404, "There is no such event");
    return error_response(error);
}

}  // namespace

boost::asio::awaitable<ServerResponse> list_events(const ApiServices& services, Call call) {
    auto form = Form::parse(call.request.query);
    if (!form) co_return error_response(form.error());
    EventListInput input = read_event_list(*form);
    if (!input.errors.empty()) co_return field_problem(input.errors);
    (void)co_await services.inbox_barrier();
    ListEvents list{call.principal.org, std::move(input.query)};
    auto page = co_await services.reader.run(std::move(list));
    if (!page && page.error().code == ErrorCode::kInvalidArgument)
        co_return field_problem({{{"query", "cursor"}, page.error().message}});
    if (!page) co_return error_response(page.error());
    json::array events;
    for (const auto& event : page->events) events.push_back(event_json(event));
    json::object data;
    data.emplace("events", std::move(events));
    data.emplace("next_cursor", cursor_json(page->next));
    co_return envelope(200, data);
}

boost::asio::awaitable<ServerResponse> get_event(const ApiServices& services, Call call) {
    (void)co_await services.inbox_barrier();
    ReadEvent read{call.principal.org, call.params.at(0)};
    auto event = co_await services.reader.run(std::move(read));
    if (!event) co_return not_found_or(event.error());
    co_return bare_response(200, "{\"success\":true,\"data\":{\"event\":" + event_text(*event) + "}}");
}

boost::asio::awaitable<ServerResponse> explain_event(const ApiServices& services, Call call) {
    (void)co_await services.inbox_barrier();
    ExplainEvent explain_it{call.principal.org, call.params.at(0)};
    auto explanation = co_await services.reader.run(std::move(explain_it));
    if (!explanation) co_return not_found_or(explanation.error());
    co_return envelope(200, explanation_json(*explanation));
}

}  // namespace headgate
