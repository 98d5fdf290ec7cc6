// GET and POST /api/webhooks/explain-url: why the caller's organization may or may not send to a URL.
#include "sidecar/api/explain_url.h"

#include <boost/json.hpp>

#include "common/limits.h"
#include "sidecar/api/call.h"
#include "sidecar/api/form.h"
#include "sidecar/api/json_body.h"
#include "sidecar/api/reply.h"

namespace headgate {
namespace json = boost::json;
namespace {

struct ReadOrg {
    std::string org;
    Result<Organization> operator()(Store& store) const { return store.get_org(org); }
};

boost::asio::awaitable<ServerResponse> explain(const ApiServices& services, std::string org_id, std::string url) {
    ReadOrg read{std::move(org_id)};
    auto org = co_await services.reader.run(std::move(read));
    if (!org) co_return error_response(org.error());
    HttpResponse lookup;
    if (parse_target_url(url)) {
        ProbeLimits::Place place = services.probes.enter(org->id);
        if (!place) {
            auto refusal = problem_response(429, "Too many look-ups are under way; wait for one to end");
            refusal.headers.emplace_back("Retry-After", "1");
            co_return refusal;
        }
        auto sending = services.http.send(lookup_request(url, org->allow_networks));
        lookup = co_await std::move(sending);
    }
    const TargetReport report =
        explain_target({services.guard, url, org->allow_networks, services.http.has_proxy(), &lookup});
    co_return envelope(200, target_report_json(url, report));
}

}  // namespace

json::object target_report_json(std::string_view url, const TargetReport& report) {
    json::array steps;
    for (const TargetStep& step : report.steps) {
        json::object shown;
        shown.emplace("step", step.name);
        shown.emplace("allowed", step.is_allowed ? json::value(*step.is_allowed) : json::value(nullptr));
        shown.emplace("detail", step.detail);
        steps.push_back(std::move(shown));
    }
    json::object shown;
    shown.emplace("url", url);
    shown.emplace("allowed", report.is_allowed);
    shown.emplace("conclusion", report.steps.back().detail);
    shown.emplace("steps", std::move(steps));
    return shown;
}

boost::asio::awaitable<ServerResponse> get_explain_url(const ApiServices& services, Call call) {
    auto form = Form::parse(call.request.query);
    if (!form) co_return error_response(form.error());
    std::string url(form->value("url"));
    if (url.empty()) co_return field_problem({{{"query", "url"}, "url is required"}});
    auto answer = explain(services, call.principal.org, std::move(url));
    co_return co_await std::move(answer);
}

boost::asio::awaitable<ServerResponse> post_explain_url(const ApiServices& services, Call call) {
    auto members = read_json_object(call.request);
    if (!members.refusal.body.empty()) co_return std::move(members.refusal);
    const json::value* value = members.object.if_contains("url");
    if (value == nullptr || !value->is_string() || members.object.size() != 1)
        co_return field_problem({{{"body", "url"}, "the body must be {\"url\": \"…\"}"}});
    std::string url(value->get_string().data(), value->get_string().size());
    auto answer = explain(services, call.principal.org, std::move(url));
    co_return co_await std::move(answer);
}

}  // namespace headgate
