// GET /inbox and POST /inbox/{id}/ack: events that wait for a poller. Bare bodies; the payload is
// spliced in as the bytes that were published.
#include <spdlog/spdlog.h>

#include "common/limits.h"
#include "common/problem.h"
#include "common/rfc3339.h"
#include "sidecar/api/call.h"
#include "sidecar/api/form.h"
#include "sidecar/api/json_body.h"
#include "sidecar/api/reply.h"
#include "sidecar/base/wall_clock.h"

namespace headgate {
namespace {

struct ReadInbox {
    std::string org;
    Store::InboxQuery query;
    Result<std::vector<Event>> operator()(Store& store) const { return store.inbox(org, query); }
};
struct AckEvent {
    std::string org, id;
    Result<Event> operator()(Store& store) const { return store.ack_event(org, id, wall_clock_ms()); }
};

void append_member(std::string& out, std::string_view name, std::string_view text) {
    out += '"';
    out += name;
    out += "\":";
    append_json_string(out, text);
    out += ',';
}

void append_event(std::string& out, const Event& event, bool with_payload) {
    out += '{';
    append_member(out, "id", event.id);
    append_member(out, "type", event.type);
    append_member(out, "source", event.source);
    if (with_payload) out += "\"payload\":" + event.payload + ',';
    append_member(out, "status", event.status);
    append_member(out, "created_at", rfc3339_format(event.created_at));
    append_member(out, "updated_at", rfc3339_format(event.updated_at));
    out.back() = '}';  // in place of the last comma
}

}  // namespace

boost::asio::awaitable<ServerResponse> get_inbox(const ApiServices& services, Call call) {
    auto form = Form::parse(call.request.query);
    if (!form) co_return error_response(form.error());
    auto limit = form->integer("limit", limits::kInboxLimitDefault, 1, limits::kListLimitMax);
    if (!limit) co_return query_problem("limit", limit.error());
    auto order = form->value("order");
    if (!order.empty() && order != "asc" && order != "desc")
        co_return query_problem("order", Error{ErrorCode::kUnprocessable, "must be asc or desc"});
    if (!co_await services.inbox_barrier()) spdlog::debug("inbox_behind org={}", call.principal.org);
    ReadInbox read{call.principal.org, Store::InboxQuery{static_cast<int>(*limit), order == "asc"}};
    auto events = co_await services.reader.run(std::move(read));
    if (!events) co_return error_response(events.error());
    std::string body = "[";
    for (const auto& event : *events) {
        if (body.size() > 1) body += ',';
        append_event(body, event, true);
    }
    auto response = bare_response(200, body + "]");
    response.headers.emplace_back("Cache-Control", "no-store");
    co_return response;
}

boost::asio::awaitable<ServerResponse> post_inbox_ack(const ApiServices& services, Call call) {
    auto body = read_optional_json_object(call.request);
    if (!body.refusal.body.empty()) co_return std::move(body.refusal);
    AckEvent ack{call.principal.org, call.params.at(0)};
    auto event = co_await services.writer.run(std::move(ack));
    if (!event && event.error().code == ErrorCode::kNotFound) co_return problem_response(404, "There is no such event");
    if (!event) co_return error_response(event.error());
    std::string shown;
    append_event(shown, *event, false);
    co_return bare_response(200, std::move(shown));
}

}  // namespace headgate
