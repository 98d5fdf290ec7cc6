// POST /api/webhooks/test and /api/webhooks/{id}/test: sends one event that exists nowhere else, through the same
// guard, bounds and signature as a delivery, and tells what came back. Nothing is stored, nothing is counted.
#include <algorithm>
#include <boost/json.hpp>

#include "common/event_id.h"
#include "common/limits.h"
#include "common/rfc3339.h"
#include "sidecar/api/call.h"
#include "sidecar/api/json_body.h"
#include "sidecar/api/reply.h"
#include "sidecar/base/json_text.h"
#include "sidecar/base/wall_clock.h"
#include "sidecar/deliver/attempt.h"
#include "sidecar/deliver/body.h"
#include "sidecar/deliver/delivery_headers.h"
#include "sidecar/match/event_pattern.h"

namespace headgate {
namespace json = boost::json;
namespace {

constexpr std::int64_t kTimeoutMsMax = 30'000;  // proxies in front of the API wait for a minute as a rule

struct ReadTarget {
    std::string webhook_id;
    Result<Store::Target> operator()(Store& store) const { return store.delivery_target(webhook_id); }
};
struct ReadOrg {
    std::string org;
    Result<Organization> operator()(Store& store) const { return store.get_org(org); }
};

struct TestInput {
    std::string webhook_id, url, event, payload = "{}";
    std::string secret_bytes;  // of a test by url
    std::string new_secret;    // as it is shown; empty: the caller has its own
    std::vector<FieldError> errors;
};

class TestReader {
 public:
    TestReader(const json::object& members, TestInput& out) : members_(members), out_(out) {}

    // `path_id`: the webhook in the path, or empty.
    void read(std::string path_id) {
        const bool by_path = !path_id.empty();
        out_.webhook_id = std::move(path_id);
        if (!by_path) {
            read_text("webhook_id", out_.webhook_id);
            read_text("url", out_.url);
            if (out_.errors.empty() && out_.webhook_id.empty() == out_.url.empty())
                error("webhook_id", "give either webhook_id or url");
            if (!out_.url.empty()) read_secret();
        }
        read_text("event", out_.event);
        const auto pattern = parse_event_pattern(out_.event);
        if (out_.event.empty()) {
            error("event", "event is required: the type of an event");
        } else if (!pattern || out_.event.find('*') != std::string::npos) {
            error("event", "event must be the type of an event");
        }
        if (const json::value* payload = take("payload")) {
            if (payload->is_object()) {
                out_.payload = json_text(*payload);
            } else {
                error("payload", "payload must be an object");
            }
        }
        for (const auto& [name, ignored] : members_) {
            const std::string_view text(name.data(), name.size());
            if (std::find(known_.begin(), known_.end(), text) == known_.end())
                error(std::string(text), "no such member; a test has " + known_list());
        }
    }

 private:
    void error(std::string member, std::string msg) {
        out_.errors.push_back({{"body", std::move(member)}, std::move(msg)});
    }

    [[nodiscard]] std::string known_list() const {
        std::string list;
        for (const std::string_view name : known_) list.append(list.empty() ? "" : ", ").append(name);
        return list;
    }

    const json::value* take(std::string_view name) {
        known_.push_back(name);
        const json::value* value = members_.if_contains(name);
        return value == nullptr || value->is_null() ? nullptr : value;
    }

    void read_text(std::string_view name, std::string& out) {
        const json::value* value = take(name);
        if (value == nullptr) return;
        if (!value->is_string()) return error(std::string(name), std::string(name) + " must be a string");
        out.assign(value->get_string().data(), value->get_string().size());
    }

    void read_secret() {
        std::string text;
        read_text("secret", text);
        if (text.empty()) text = out_.new_secret = make_webhook_secret();
        auto bytes = webhook_secret_bytes(text);
        if (!bytes)
            return error("secret", "secret must be a string of " + std::to_string(limits::kWebhookSecretBytesMin) +
                                       " to " + std::to_string(limits::kWebhookSecretBytesMax) +
                                       " bytes, or whsec_ and base64 of such");
        out_.secret_bytes = std::move(*bytes);
    }

    const json::object& members_;
    TestInput& out_;
    std::vector<std::string_view> known_;
};

// What a delivery of this event to this webhook would send.
struct TestRequest {
    HttpRequest request;
    std::string headers_sent;  // JSON object; the webhook's own values masked
};

// Fails when the webhook's template cannot make a body of it.
Result<TestRequest> make_request(const Webhook& webhook, std::vector<std::string> networks, const TestInput& input,
                                 TimeMs now) {
    Event event;
    event.id = uuid7(now);
    event.org = webhook.org;
    event.type = input.event;
    event.source = "headgate.test";
    event.payload = input.payload;
    event.created_at = event.updated_at = now;
    TestRequest made;
    auto built = build_body(event, make_body_form(webhook));
    if (!built) return tl::unexpected<Error>(std::move(built.error()));
    auto body = std::make_shared<const std::string>(std::move(*built));
    const SigningKeys keys = make_signing_keys(webhook);
    const std::string delivery_id = uuid7(now);
    DeliveryHeaders headers = build_delivery_headers({.event = event,
                                                      .webhook = webhook,
                                                      .keys = keys,
                                                      .delivery_id = delivery_id,
                                                      .body = *body,
                                                      .user_agent = "Headgate",
                                                      .now = now,
                                                      .tells_signatures = true});
    made.headers_sent = std::move(headers.redacted);
    made.request.url = webhook.url;
    made.request.headers = std::move(headers.lines);
    made.request.body = std::move(body);
    made.request.timeout_ms = std::min(webhook.timeout_ms, kTimeoutMsMax);
    made.request.org_networks = std::make_shared<const std::vector<std::string>>(std::move(networks));
    return made;
}

json::object result_json(HttpResponse response, std::string_view headers_sent, TimeMs now) {
    const bool has_answer = response.failure == HttpFailure::kNone;
    const bool is_success = has_answer && response.status >= 200 && response.status <= 299;
    json::object result;
    result.emplace("status", is_success ? "success" : "failed");
    result.emplace("response_code", response.status == 0 ? json::value(nullptr) : json::value(response.status));
    result.emplace("response_time", response.duration_ms);
    result.emplace("response_body", as_text(std::move(response.body)));
    result.emplace("headers_sent", json::parse(headers_sent));
    result.emplace("timestamp", rfc3339_format(now));
    if (!is_success) {
        result.emplace("error_type", has_answer ? "http_" + std::to_string(response.status)
                                                : std::string(failure_name(response.failure)));
        result.emplace("error_message", has_answer ? "the endpoint answered " + std::to_string(response.status)
                                                   : as_text(std::move(response.message)));
    }
    return result;
}

}  // namespace

boost::asio::awaitable<ServerResponse> post_webhook_test(const ApiServices& services, Call call) {
    auto members = read_json_object(call.request);
    if (!members.refusal.body.empty()) co_return std::move(members.refusal);
    TestInput input;
    TestReader(members.object, input).read(call.params.empty() ? std::string() : call.params.at(0));
    if (!input.errors.empty()) co_return field_problem(input.errors);

    Webhook webhook;
    std::vector<std::string> networks;
    if (!input.webhook_id.empty()) {
        ReadTarget read{input.webhook_id};
        auto target = co_await services.reader.run(std::move(read));
        if (!target && target.error().code != ErrorCode::kNotFound) co_return error_response(target.error());
        if (!target || target->is_deleted || target->webhook.org != call.principal.org)
            co_return problem_response(404, "There is no such webhook");
        webhook = std::move(target->webhook);
        networks = std::move(target->allow_networks);
    } else {
        ReadOrg read{call.principal.org};
        auto org = co_await services.reader.run(std::move(read));
        if (!org) co_return error_response(org.error());
        auto allowed = services.guard.check_url(input.url, org->allow_networks);
        if (!allowed) co_return field_problem({{{"body", "url"}, allowed.error().message}});
        webhook.org = call.principal.org;
        webhook.url = input.url;
        webhook.secrets.push_back({input.secret_bytes, wall_clock_ms(), std::nullopt});
        networks = std::move(org->allow_networks);
    }

    ProbeLimits::Place place = services.probes.enter(call.principal.org);
    if (!place) {
        auto refusal = problem_response(429, "Too many tests are under way; wait for one to end");
        refusal.headers.emplace_back("Retry-After", "1");
        co_return refusal;
    }
    auto made = make_request(webhook, std::move(networks), input, wall_clock_ms());
    if (!made) co_return problem_response(422, made.error().message);
    auto sending = services.http.send(std::move(made->request));
    HttpResponse response = co_await std::move(sending);
    json::object result = result_json(std::move(response), made->headers_sent, wall_clock_ms());
    const bool is_success = result.at("status").get_string() == "success";
    json::object data;
    data.emplace("test_result", std::move(result));
    if (!input.new_secret.empty()) data.emplace("secret", input.new_secret);
    auto answer = envelope(200, data, is_success ? "Webhook test completed successfully" : "Webhook test failed");
    answer.headers.emplace_back("Cache-Control", "no-store");
    co_return answer;
}

}  // namespace headgate
