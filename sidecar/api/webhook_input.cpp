// Reading and checking a webhook; see webhook_input.h. Next file: webhooks.cpp.
#include "sidecar/api/webhook_input.h"

#include <array>
#include <boost/json.hpp>
#include <cmath>

#include "common/event_id.h"
#include "common/event_record.h"
#include "common/limits.h"
#include "common/webhook_signature.h"
#include "sidecar/base/json_text.h"
#include "sidecar/base/text.h"
#include "sidecar/deliver/body.h"
#include "sidecar/deliver/delivery_headers.h"
#include "sidecar/deliver/retry_policy.h"
#include "sidecar/match/event_pattern.h"
#include "sidecar/match/filter.h"

namespace headgate {
namespace json = boost::json;
namespace {

constexpr std::size_t kDescriptionBytesMax = 1024;
constexpr int kInFlightMax = 256;
constexpr double kOldRetryDelayMs = 5000;  // of a retry_config that names a delay or a multiplier only
constexpr double kOldBackoffMultiplier = 2;

std::string_view view(const json::string& text) { return {text.data(), text.size()}; }

class WebhookReader {
 public:
    WebhookReader(const json::object& members, WebhookInput& out) : members_(members), out_(out) {}

    void read(std::string_view org, const std::vector<std::string>& networks, const TargetGuard& guard, TimeMs now) {
        Webhook& webhook = out_.webhook;
        webhook.id = uuid7(now);
        webhook.org = org;
        webhook.created_at = webhook.updated_at = now;
        read_url(networks, guard);
        read_text("name", webhook.name, limits::kWebhookNameBytesMax);
        read_text("description", webhook.description, kDescriptionBytesMax);
        read_events();
        read_headers();
        read_secret(now);
        read_bool("is_active", webhook.is_active);
        read_retry();
        read_filters();
        read_choices();
        refuse_unknown();
    }

 private:
    void error(std::vector<std::string> loc, std::string msg) {
        loc.insert(loc.begin(), "body");
        out_.errors.push_back({std::move(loc), std::move(msg)});
    }

    // nullptr when absent or null: both mean the default.
    const json::value* take(std::string_view name) {
        known_.push_back(name);
        const json::value* value = members_.if_contains(name);
        return value == nullptr || value->is_null() ? nullptr : value;
    }

    void read_url(const std::vector<std::string>& networks, const TargetGuard& guard) {
        const json::value* value = take("url");
        if (value == nullptr) return error({"url"}, "url is required");
        if (!value->is_string()) return error({"url"}, "url must be a string");
        std::string_view url = view(value->get_string());
        if (url.size() > limits::kWebhookUrlBytesMax)
            return error({"url"}, "url is longer than " + std::to_string(limits::kWebhookUrlBytesMax) + " bytes");
        auto target = guard.check_url(url, networks);
        if (!target) return error({"url"}, target.error().message);
        out_.webhook.url = url;
        out_.webhook.name = target->host.substr(0, limits::kWebhookNameBytesMax);
    }

    void read_text(std::string_view name, std::string& out, std::size_t bytes_max) {
        const json::value* value = take(name);
        if (value == nullptr) return;
        std::string member(name);
        if (!value->is_string()) return error({member}, member + " must be a string");
        std::string_view text = view(value->get_string());
        if (text.size() > bytes_max)
            return error({member}, member + " is longer than " + std::to_string(bytes_max) + " bytes");
        if (has_control_characters(text)) return error({member}, member + " has control characters");
        if (name == "name" && text.empty()) return error({member}, "name is empty");
        out = text;
    }

    void read_bool(std::string_view name, bool& out) {
        const json::value* value = take(name);
        if (value == nullptr) return;
        if (!value->is_bool()) return error({std::string(name)}, std::string(name) + " must be true or false");
        out = value->get_bool();
    }

    void read_events() {
        const json::value* value = take("events");
        if (value == nullptr) return error({"events"}, "events is required");
        if (!value->is_array()) return error({"events"}, "events must be an array of strings");
        const auto& list = value->get_array();
        if (list.empty() || list.size() > limits::kWebhookEventsMax)
            return error({"events"}, "events must have 1 to " + std::to_string(limits::kWebhookEventsMax) + " items");
        for (std::size_t i = 0; i < list.size(); ++i) {
            if (!list[i].is_string()) {
                error({"events", std::to_string(i)}, "an event must be a string");
                continue;
            }
            auto pattern = parse_event_pattern(view(list[i].get_string()));
            if (!pattern) {
                error({"events", std::to_string(i)}, pattern.error().message);
                continue;
            }
            out_.webhook.events.emplace_back(view(list[i].get_string()));
        }
    }

    void read_headers() {
        const json::value* value = take("headers");
        if (value == nullptr) return;
        if (!value->is_object()) return error({"headers"}, "headers must be an object of strings");
        for (const auto& [name, text] : value->get_object()) {
            if (!text.is_string())
                return error({"headers", std::string(name.data(), name.size())}, "a header's value must be a string");
            out_.webhook.headers.emplace_back(std::string(name.data(), name.size()), view(text.get_string()));
        }
        auto valid = validate_webhook_headers(out_.webhook.headers);
        if (!valid) error({"headers"}, valid.error().message);
    }

    void read_secret(TimeMs now) {
        const json::value* value = take("secret");
        std::string text = value == nullptr ? make_webhook_secret() : std::string();
        if (value != nullptr && value->is_string()) text = view(value->get_string());
        auto bytes = webhook_secret_bytes(text);
        if (!bytes)
            return error({"secret"}, "secret must be a string of " + std::to_string(limits::kWebhookSecretBytesMin) +
                                         " to " + std::to_string(limits::kWebhookSecretBytesMax) +
                                         " bytes, or whsec_ and base64 of such");
        out_.secret_text = webhook_secret_text(*bytes);
        out_.webhook.secrets.push_back(WebhookSecret{std::move(*bytes), now, std::nullopt});
    }

    // A number in its place; `fallback` when absent, nothing when it is wrong.
    std::optional<double> number(const json::value* value, std::vector<std::string> loc, double fallback) {
        if (value == nullptr) return fallback;
        if (!value->is_number()) {
            error(loc, loc.back() + " must be a number");
            return std::nullopt;
        }
        return value->to_number<double>();
    }

    std::optional<std::int64_t> integer(const json::value* value, std::vector<std::string> loc, std::int64_t fallback,
                                        std::int64_t min, std::int64_t max) {
        auto found = number(value, loc, static_cast<double>(fallback));
        if (!found) return std::nullopt;
        if (*found != std::floor(*found) || *found < static_cast<double>(min) || *found > static_cast<double>(max)) {
            error(loc,
                  loc.back() + " must be a whole number from " + std::to_string(min) + " to " + std::to_string(max));
            return std::nullopt;
        }
        return static_cast<std::int64_t>(*found);
    }

    void read_retry() {
        const json::value* config = take("retry_config");
        const json::value* count = take("retry_count");
        const json::value* delay_seconds = take("retry_delay_seconds");
        RetryConfig& retry = out_.webhook.retry;
        retry.schedule_ms = default_retry_schedule_ms();
        if (config != nullptr && (count != nullptr || delay_seconds != nullptr))
            return error({"retry_config"}, "give either retry_config, or retry_count and retry_delay_seconds");
        if (config != nullptr) return read_retry_config(*config, retry);
        if (count == nullptr && delay_seconds == nullptr) return;
        // A delay of 0 stands for no delay of its own: the default schedule would run instead.
        auto retries = integer(count, {"retry_count"}, 3, 0, limits::kWebhookRetriesMax);
        auto seconds = integer(delay_seconds, {"retry_delay_seconds"}, 60, 1, limits::kRetryDelayMsMax / 1000);
        if (!retries || !seconds) return;
        retry = RetryConfig{static_cast<int>(*retries), {}, *seconds * 1000, 1.0};
    }

    void read_retry_config(const json::value& value, RetryConfig& retry) {
        if (!value.is_object()) return error({"retry_config"}, "retry_config must be an object");
        const auto& config = value.get_object();
        constexpr std::array<std::string_view, 4> kMembers = {"max_retries", "schedule", "retry_delay",
                                                              "backoff_multiplier"};
        for (const auto& [name, ignored] : config)
            if (std::find(kMembers.begin(), kMembers.end(), std::string_view(name.data(), name.size())) ==
                kMembers.end())
                error({"retry_config", std::string(name.data(), name.size())},
                      "no such member; retry_config has max_retries, and schedule or retry_delay and "
                      "backoff_multiplier");
        const json::value* schedule = config.if_contains("schedule");
        const json::value* delay = config.if_contains("retry_delay");
        const json::value* multiplier = config.if_contains("backoff_multiplier");
        if (schedule != nullptr && (delay != nullptr || multiplier != nullptr))
            return error({"retry_config"}, "give either schedule, or retry_delay and backoff_multiplier");
        if (schedule != nullptr && !read_schedule(*schedule, retry)) return;
        std::int64_t fallback = static_cast<std::int64_t>(retry.schedule_ms.size());
        if (delay != nullptr || multiplier != nullptr) {
            auto delay_ms =
                integer(delay, {"retry_config", "retry_delay"}, kOldRetryDelayMs, 1, limits::kRetryDelayMsMax);
            auto factor = number(multiplier, {"retry_config", "backoff_multiplier"}, kOldBackoffMultiplier);
            if (!delay_ms || !factor) return;
            retry.schedule_ms.clear();
            retry.retry_delay_ms = *delay_ms;
            retry.backoff_multiplier = *factor;
            fallback = 3;
        }
        auto retries = integer(config.if_contains("max_retries"), {"retry_config", "max_retries"}, fallback, 0,
                               limits::kWebhookRetriesMax);
        if (!retries) return;
        retry.max_retries = static_cast<int>(*retries);
        auto valid = validate_retry_config(retry);
        if (!valid) error({"retry_config"}, valid.error().message);
    }

    bool read_schedule(const json::value& value, RetryConfig& retry) {
        retry.schedule_ms.clear();
        if (!value.is_array() || value.get_array().empty() ||
            value.get_array().size() > static_cast<std::size_t>(limits::kWebhookRetriesMax)) {
            error({"retry_config", "schedule"}, "schedule must be an array of 1 to " +
                                                    std::to_string(limits::kWebhookRetriesMax) +
                                                    " delays in milliseconds");
            return false;
        }
        for (const auto& item : value.get_array()) {
            auto ms = integer(&item, {"retry_config", "schedule"}, 0, 0, limits::kRetryDelayMsMax);
            if (!ms) return false;
            retry.schedule_ms.push_back(*ms);
        }
        return true;
    }

    void read_filters() {
        const json::value* filters = take("filters");
        const json::value* older = take("event_filters");
        if (filters != nullptr && older != nullptr) return error({"filters"}, "give either filters or event_filters");
        std::string name = older != nullptr ? "event_filters" : "filters";
        if (older != nullptr) filters = older;
        if (filters == nullptr) return;
        if (!filters->is_object()) return error({name}, name + " must be an object");
        std::string text = json_text(*filters);
        auto compiled = Filter::compile(text);
        if (!compiled) return error({name}, compiled.error().message);
        out_.webhook.filters = std::move(text);
    }

    void read_choices() {
        Webhook& webhook = out_.webhook;
        std::string ordering, format = "envelope";
        read_text("ordering", ordering, 16);
        if (!ordering.empty() && ordering != "key") error({"ordering"}, "ordering must be \"key\" or absent");
        webhook.ordering = ordering == "key" ? ordering : "";
        read_text("payload_format", format, 16);
        if (format != "envelope" && format != "standard")
            error({"payload_format"}, "payload_format must be \"envelope\" or \"standard\"");
        webhook.payload_format = format == "standard" ? PayloadFormat::kStandard : PayloadFormat::kEnvelope;
        read_text("content_type", webhook.content_type, 64);
        if (!content_type_is_valid(webhook.content_type))
            error({"content_type"},
                  "content_type must be \"application/json\" or \"application/x-www-form-urlencoded\"");
        if (auto seconds = integer(take("timeout_seconds"), {"timeout_seconds"},
                                   limits::kDeliveryTimeoutMsDefault / 1000, 1, limits::kDeliveryTimeoutMsMax / 1000))
            webhook.timeout_ms = *seconds * 1000;
        if (auto in_flight =
                integer(take("max_in_flight"), {"max_in_flight"}, limits::kWebhookInFlightDefault, 1, kInFlightMax))
            webhook.max_in_flight = static_cast<int>(*in_flight);
    }

    void refuse_unknown() {
        for (const auto& [name, ignored] : members_) {
            std::string_view member(name.data(), name.size());
            if (std::find(known_.begin(), known_.end(), member) == known_.end())
                error({std::string(member)},
                      "no such member; the nearest known one is " + std::string(nearest(member.substr(0, 64), known_)));
        }
    }

    const json::object& members_;
    WebhookInput& out_;
    std::vector<std::string_view> known_;
};

}  // namespace

WebhookInput read_webhook(const json::object& members, std::string_view org,
                          const std::vector<std::string>& org_networks, const TargetGuard& guard, TimeMs now) {
    WebhookInput input;
    WebhookReader(members, input).read(org, org_networks, guard, now);
    return input;
}

}  // namespace headgate
