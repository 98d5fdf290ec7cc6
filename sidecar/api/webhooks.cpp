// /api/webhooks/: create, list, read, delete. See webhook_input.cpp for what may be created. Next file:
// webhook_changes.cpp.
#include <boost/json.hpp>

#include "common/limits.h"
#include "sidecar/api/call.h"
#include "sidecar/api/form.h"
#include "sidecar/api/json_body.h"
#include "sidecar/api/reply.h"
#include "sidecar/api/webhook_input.h"
#include "sidecar/api/webhook_json.h"
#include "sidecar/base/json_text.h"
#include "sidecar/base/wall_clock.h"

namespace headgate {
namespace json = boost::json;
namespace {

// What runs on the DB threads: function objects, so that nothing is captured in an expression with co_await.
struct GetOrg {
    std::string org;
    Result<Organization> operator()(Store& store) const { return store.get_org(org); }
};
struct CreateWebhook {
    Webhook webhook;
    Result<void> operator()(Store& store) const { return store.create_webhook(webhook); }
};
struct ListWebhooks {
    std::string org;
    Store::WebhookFilter filter;
    Result<Store::WebhookList> operator()(Store& store) const { return store.list_webhooks(org, filter); }
};
struct ReadWebhook {
    std::string org, id;
    Result<std::pair<Webhook, Store::DeliveryStats>> operator()(Store& store) const {
        auto webhook = store.get_webhook(org, id);
        if (!webhook) return tl::unexpected(webhook.error());
        auto stats = store.webhook_stats(org, id);
        if (!stats) return tl::unexpected(stats.error());
        return std::pair(std::move(*webhook), *stats);
    }
};
struct DeleteWebhook {
    std::string org, id;
    Result<void> operator()(Store& store) const { return store.delete_webhook(org, id, wall_clock_ms()); }
};

ServerResponse not_found_or(const Error& error) {
    if (error.code == ErrorCode::kNotFound) return problem_response(404, "There is no such webhook");
    return error_response(error);
}

struct ListQuery {
    Store::WebhookFilter filter;
    std::vector<FieldError> errors;
};

ListQuery read_list_query(const Form& form) {
    ListQuery query;
    auto limit = form.integer("limit", limits::kListLimitDefault, 1, limits::kListLimitMax);
    auto offset = form.integer("offset", 0, 0, limits::kListOffsetMax);
    auto status = form.value("status");
    if (!limit) query.errors.push_back({{"query", "limit"}, "limit " + limit.error().message});
    if (!offset) query.errors.push_back({{"query", "offset"}, "offset " + offset.error().message});
    if (!status.empty() && status != "active" && status != "inactive")
        query.errors.push_back({{"query", "status"}, "status must be active or inactive"});
    if (!query.errors.empty()) return query;
    query.filter.page = ListPage{static_cast<int>(*limit), static_cast<int>(*offset)};
    if (!status.empty()) query.filter.is_active = status == "active";
    query.filter.event = form.value("event");
    return query;
}

}  // namespace

boost::asio::awaitable<ServerResponse> post_webhook(const ApiServices& services, Call call) {
    auto members = read_json_object(call.request);
    if (!members.refusal.body.empty()) co_return std::move(members.refusal);
    GetOrg get_org{call.principal.org};
    auto org = co_await services.reader.run(std::move(get_org));
    if (!org) co_return error_response(org.error());
    WebhookInput input =
        read_webhook(members.object, call.principal.org, org->allow_networks, services.guard, wall_clock_ms());
    if (!input.errors.empty()) co_return field_problem(input.errors);
    CreateWebhook create{input.webhook};
    auto created = co_await services.writer.run(std::move(create));
    if (!created) co_return error_response(created.error());
    services.webhook_changed(input.webhook.id);
    json::object data;
    data.emplace("webhook", created_webhook_json(input.webhook, input.secret_text));
    auto response = envelope(201, data, "Webhook created successfully");
    response.headers.emplace_back("Location", "/api/webhooks/" + input.webhook.id + "/");
    response.headers.emplace_back("Cache-Control", "no-store");  // it holds the secret
    co_return response;
}

boost::asio::awaitable<ServerResponse> list_webhooks(const ApiServices& services, Call call) {
    auto form = Form::parse(call.request.query);
    if (!form) co_return error_response(form.error());
    ListQuery query = read_list_query(*form);
    if (!query.errors.empty()) co_return field_problem(query.errors);
    ListWebhooks list{call.principal.org, query.filter};
    auto found = co_await services.reader.run(std::move(list));
    if (!found) co_return error_response(found.error());
    json::array webhooks;
    for (const auto& webhook : found->webhooks) webhooks.push_back(webhook_summary_json(webhook));
    json::object summary;
    summary.emplace("total_webhooks", found->total_webhooks);
    summary.emplace("active_webhooks", found->active_webhooks);
    summary.emplace("total_events", found->total_events);
    summary.emplace("avg_success_rate", rounded_json(found->avg_success_rate));
    json::object data;
    data.emplace("webhooks", std::move(webhooks));
    data.emplace("total", found->total);
    data.emplace("summary", std::move(summary));
    co_return envelope(200, data);
}

boost::asio::awaitable<ServerResponse> get_webhook(const ApiServices& services, Call call) {
    ReadWebhook read{call.principal.org, call.params.at(0)};
    auto found = co_await services.reader.run(std::move(read));
    if (!found) co_return not_found_or(found.error());
    json::object data;
    data.emplace("webhook", webhook_detail_json(found->first, found->second));
    auto response = envelope(200, data);
    response.headers.emplace_back("ETag", "\"" + std::to_string(found->first.version) + "\"");
    co_return response;
}

boost::asio::awaitable<ServerResponse> delete_webhook(const ApiServices& services, Call call) {
    std::string id = call.params.at(0);
    DeleteWebhook remove{call.principal.org, id};
    auto removed = co_await services.writer.run(std::move(remove));
    if (!removed) co_return not_found_or(removed.error());
    services.webhook_changed(id);
    json::object data;
    data.emplace("id", id);
    co_return envelope(200, data, "Webhook deleted successfully");
}

}  // namespace headgate
