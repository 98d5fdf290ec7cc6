// Reading and checking a webhook; see webhook_input.h. Next file: webhooks.cpp.
#include "sidecar/api/webhook_input.h"

#include <algorithm>
#include <array>
#include <boost/json.hpp>

#include "common/event_id.h"
#include "common/event_record.h"
#include "common/limits.h"
#include "common/rate_plan.h"
#include "common/webhook_signature.h"
#include "sidecar/api/member_reader.h"
#include "sidecar/api/webhook_json.h"
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
constexpr std::int64_t kGraceSecondsDefault = 24 * 3600;
constexpr std::int64_t kGraceSecondsMax = 7 * 24 * 3600;
constexpr double kOldRetryDelayMs = 5000;  // of a retry_config that names a delay or a multiplier only
constexpr double kOldBackoffMultiplier = 2;

// What webhook_json.cpp shows and nobody can set.
constexpr std::array kShownOnly = {
    "id",           "created_at", "updated_at", "last_triggered",  "success_count", "failure_count",
    "success_rate", "public_key", "jwks_path",  "disabled_reason", "delivery_stats"};

// A caller's own, or a new one when there is none.
std::optional<WebhookSecret> secret_of(const json::value* value, TimeMs now, std::vector<FieldError>& errors) {
    std::string text = value == nullptr ? make_webhook_secret() : std::string();
    if (value != nullptr && value->is_string()) text = view(value->get_string());
    auto bytes = webhook_secret_bytes(text);
    if (bytes) return WebhookSecret{std::move(*bytes), now, std::nullopt};
    errors.push_back({{"body", "secret"},
                      "secret must be a string of " + std::to_string(limits::kWebhookSecretBytesMin) + " to " +
                          std::to_string(limits::kWebhookSecretBytesMax) + " bytes, or whsec_ and base64 of such"});
    return std::nullopt;
}

class SecretReader : MemberReader {
 public:
    SecretReader(const json::object& members, SecretInput& out) : MemberReader(members, out.errors), out_(out) {}

    void read(TimeMs now) {
        if (auto secret = secret_of(take("secret"), now, out_.errors)) out_.secret = std::move(*secret);
        auto grace = integer(take("grace_seconds"), {"grace_seconds"}, kGraceSecondsDefault, 0, kGraceSecondsMax);
        out_.others_expire_at = now + grace.value_or(0) * 1000;
        refuse_unknown();
    }

 private:
    SecretInput& out_;
};

class WebhookReader : MemberReader {
 public:
    WebhookReader(const json::object& members, WebhookInput& out) : MemberReader(members, out.errors), out_(out) {}

    void create(std::string_view org, const std::vector<std::string>& networks, const TargetGuard& guard, TimeMs now) {
        Webhook& webhook = out_.webhook;
        webhook.id = uuid7(now);
        webhook.org = org;
        webhook.created_at = webhook.updated_at = now;
        read_url(networks, guard);
        read_text("name", webhook.name, limits::kWebhookNameBytesMax);
        read_secret(now);
        read_rest();
    }

    // out_.webhook is what there is: what is given replaces it, and null puts the default in its place.
    void change(const std::vector<std::string>& networks, const TargetGuard& guard, TimeMs now, WebhookChange kind) {
        is_change_ = true;
        is_put_ = kind == WebhookChange::kPut;
        if (is_put_)
            for (const char* shown : kShownOnly) take(shown);
        Webhook& webhook = out_.webhook;
        webhook.updated_at = now;
        if (has("url")) read_url(networks, guard);
        if (const json::value* name = take("name"); name == nullptr && has("name"))
            error({"name"}, "name must be a string");
        read_text("name", webhook.name, limits::kWebhookNameBytesMax);
        if (has("secret")) error({"secret"}, "secret is changed by POST /api/webhooks/{id}/rotate-secret");
        take("secret");
        if (has("description") && take("description") == nullptr) webhook.description.clear();
        if (has("is_active") && take("is_active") == nullptr) webhook.is_active = true;
        read_rest();
        if (webhook.is_active) webhook.disabled_reason.clear();
    }

 private:
    // Is the member to be read? On a change only what is given; null is the default then as well.
    bool concerns(std::string_view name) { return !is_change_ || has(name); }

    void read_rest() {
        Webhook& webhook = out_.webhook;
        read_text("description", webhook.description, kDescriptionBytesMax);
        if (concerns("events")) read_events();
        take("events");
        read_style();  // the headers depend on it
        read_headers();
        read_bool("is_active", webhook.is_active);
        if (concerns("retry_config") || has("retry_count") || has("retry_delay_seconds")) read_retry();
        for (const char* name : {"retry_config", "retry_count", "retry_delay_seconds"}) take(name);
        if (concerns("filters") || has("event_filters")) read_filters();
        for (const char* name : {"filters", "event_filters"}) take(name);
        read_ordering();
        read_format();
        read_limits();
        refuse_unknown();
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
        if (!is_change_) out_.webhook.name = target->host.substr(0, limits::kWebhookNameBytesMax);
    }

    void read_events() {
        const json::value* value = take("events");
        if (value == nullptr) return error({"events"}, "events is required");
        if (!value->is_array()) return error({"events"}, "events must be an array of strings");
        const auto& list = value->get_array();
        if (list.empty() || list.size() > limits::kWebhookEventsMax)
            return error({"events"}, "events must have 1 to " + std::to_string(limits::kWebhookEventsMax) + " items");
        out_.webhook.events.clear();
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

    // A change is merged by name: values are never shown, so that nobody could send them all again.
    void read_headers() {
        const json::value* value = take("headers");
        auto& headers = out_.webhook.headers;
        if (is_put_ && value != nullptr && value->is_object()) {
            std::erase_if(headers, [&](const auto& header) {
                return to_lower(header.first) != "authorization" && !names(value->get_object(), header.first);
            });
        }
        if (value == nullptr) {
            if (has("headers")) headers.clear();
        } else if (!value->is_object()) {
            return error({"headers"}, "headers must be an object of strings");
        } else {
            for (const auto& [member, text] : value->get_object()) {
                std::string name(member.data(), member.size());
                if (!text.is_string() && !(is_change_ && text.is_null()))
                    return error({"headers", name}, "a header's value must be a string");
                if (is_change_ && text.is_string() && view(text.get_string()) == kHeaderMask && has_header(name))
                    continue;
                if (is_change_)
                    std::erase_if(headers,
                                  [&](const auto& header) { return to_lower(header.first) == to_lower(name); });
                if (text.is_string()) headers.emplace_back(std::move(name), view(text.get_string()));
            }
        }
        if (value == nullptr && !has("signature_style")) return;
        auto valid = validate_webhook_headers(headers, out_.webhook.signature_style);
        if (!valid) error({"headers"}, valid.error().message);
    }

    static bool names(const json::object& members, const std::string& header) {
        return std::any_of(members.begin(), members.end(), [&](const auto& member) {
            return to_lower(std::string_view(member.key().data(), member.key().size())) == to_lower(header);
        });
    }

    bool has_header(const std::string& name) const {
        const auto& headers = out_.webhook.headers;
        return std::any_of(headers.begin(), headers.end(),
                           [&](const auto& header) { return to_lower(header.first) == to_lower(name); });
    }

    void read_style() {
        Webhook& webhook = out_.webhook;
        if (has("signature_style")) {
            webhook.signature_style.clear();
            read_text("signature_style", webhook.signature_style, 16);
            if (!signature_style_is_valid(webhook.signature_style))
                error({"signature_style"}, R"(signature_style must be "stripe", "github", "shopify" or absent)");
        }
        take("signature_style");
        const json::value* key = take("ed25519_key");
        const json::value* wanted = take("sign_ed25519");
        bool signs = !webhook.ed25519_seed.empty();
        if (wanted != nullptr && !wanted->is_bool())
            return error({"sign_ed25519"}, "sign_ed25519 must be true or false");
        if (wanted != nullptr) signs = wanted->get_bool();
        if (wanted == nullptr && has("sign_ed25519")) signs = false;
        if (key != nullptr) {
            auto seed = key->is_string() ? webhook_private_key_seed(view(key->get_string())) : std::nullopt;
            if (!seed) return error({"ed25519_key"}, "ed25519_key must be whsk_ and base64 of an Ed25519 private key");
            if (wanted != nullptr && !signs) return error({"ed25519_key"}, "ed25519_key needs sign_ed25519 to be true");
            webhook.ed25519_seed = std::move(*seed);
            return;
        }
        if (!signs) webhook.ed25519_seed.clear();
        if (signs && webhook.ed25519_seed.empty()) webhook.ed25519_seed = make_ed25519_seed();
    }

    void read_secret(TimeMs now) {
        if (auto secret = secret_of(take("secret"), now, out_.errors)) {
            out_.secret_text = webhook_secret_text(secret->key_bytes);
            out_.webhook.secrets.push_back(std::move(*secret));
        }
    }

    void read_retry() {
        const json::value* config = take("retry_config");
        const json::value* count = take("retry_count");
        const json::value* delay_seconds = take("retry_delay_seconds");
        RetryConfig& retry = out_.webhook.retry;
        retry = {};
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
        out_.webhook.filters = "{}";
        if (filters == nullptr) return;
        if (!filters->is_object()) return error({name}, name + " must be an object");
        std::string text = json_text(*filters);
        auto compiled = Filter::compile(text);
        if (!compiled) return error({name}, compiled.error().message);
        out_.webhook.filters = std::move(text);
    }

    void read_ordering() {
        Webhook& webhook = out_.webhook;
        if (has("ordering")) {
            webhook.ordering.clear();
            read_text("ordering", webhook.ordering, 16);
            if (!webhook.ordering.empty() && webhook.ordering != "key")
                error({"ordering"}, R"(ordering must be "key" or absent)");
        }
        take("ordering");
        const json::value* given = take("ordering_policy");
        if (given == nullptr) {
            if (has("ordering_policy") || webhook.ordering.empty()) webhook.ordering_policy = OrderingPolicy::kDead;
            return;
        }
        auto policy = given->is_string() ? ordering_policy_of(view(given->get_string())) : std::nullopt;
        if (!policy) return error({"ordering_policy"}, R"(ordering_policy must be "dead", "skip" or "block")");
        if (webhook.ordering.empty()) return error({"ordering_policy"}, R"(ordering_policy needs "ordering": "key")");
        webhook.ordering_policy = *policy;
    }

    void read_format() {
        Webhook& webhook = out_.webhook;
        if (has("payload_format")) {
            std::string format = "envelope";
            read_text("payload_format", format, 16);
            if (auto found = payload_format_of(format))
                webhook.payload_format = *found;
            else
                error({"payload_format"}, R"(payload_format must be "envelope", "standard", "raw" or "template")");
        }
        take("payload_format");
        if (has("content_type")) {
            webhook.content_type = Webhook{}.content_type;
            read_text("content_type", webhook.content_type, 64);
            if (!content_type_is_valid(webhook.content_type))
                return error({"content_type"},
                             R"(content_type must be "application/json" or "application/x-www-form-urlencoded")");
        }
        take("content_type");
        read_template();
    }

    void read_template() {
        Webhook& webhook = out_.webhook;
        const json::value* given = take("body_template");
        const bool is_template = webhook.payload_format == PayloadFormat::kTemplate;
        if (given != nullptr && !given->is_string()) return error({"body_template"}, "body_template must be a string");
        if (given != nullptr && !is_template)
            return error({"body_template"}, R"(body_template needs "payload_format": "template")");
        if (given != nullptr) webhook.body_template = view(given->get_string());
        if (!is_template || (given == nullptr && has("body_template"))) webhook.body_template.clear();
        if (!is_template) return;
        if (webhook.body_template.empty())
            return error({"body_template"}, R"(body_template is required with "payload_format": "template")");
        if (const BodyForm form = make_body_form(webhook); form.body_template == nullptr)
            error({"body_template"}, form.problem);
    }

    void read_limits() {
        Webhook& webhook = out_.webhook;
        const json::value* rate = take("rate");
        if (has("rate")) webhook.rate.clear();
        if (rate != nullptr) {
            auto window = rate->is_string() ? parse_rate_window(view(rate->get_string()))
                                            : Result<RateWindow>(fail(ErrorCode::kInvalidArgument, "not a string"));
            if (window)
                webhook.rate = format_rate_plan({*window});
            else
                error({"rate"}, "rate must be one window such as \"600r/m\": " + window.error().message);
        }
        const std::int64_t seconds_now = is_change_ && !has("timeout_seconds")
                                             ? webhook.timeout_ms / 1000
                                             : limits::kDeliveryTimeoutMsDefault / 1000;
        if (auto seconds = integer(take("timeout_seconds"), {"timeout_seconds"}, seconds_now, 1,
                                   limits::kDeliveryTimeoutMsMax / 1000))
            webhook.timeout_ms = *seconds * 1000;
        const std::int64_t in_flight_now =
            is_change_ && !has("max_in_flight") ? webhook.max_in_flight : limits::kWebhookInFlightDefault;
        if (auto in_flight = integer(take("max_in_flight"), {"max_in_flight"}, in_flight_now, 1, kInFlightMax))
            webhook.max_in_flight = static_cast<int>(*in_flight);
    }

    bool is_change_ = false, is_put_ = false;
    WebhookInput& out_;
};

}  // namespace

WebhookInput read_webhook(const json::object& members, std::string_view org,
                          const std::vector<std::string>& org_networks, const TargetGuard& guard, TimeMs now) {
    WebhookInput input;
    WebhookReader(members, input).create(org, org_networks, guard, now);
    return input;
}

WebhookInput read_webhook_change(const json::object& members, const Webhook& before,
                                 const std::vector<std::string>& org_networks, const TargetGuard& guard, TimeMs now,
                                 WebhookChange kind) {
    WebhookInput input;
    input.webhook = before;
    WebhookReader(members, input).change(org_networks, guard, now, kind);
    return input;
}

SecretInput read_new_secret(const json::object& members, TimeMs now) {
    SecretInput input;
    SecretReader(members, input).read(now);
    return input;
}

Result<void> rotate_webhook_secret(Store& store, std::string_view org, std::string_view id, const SecretInput& input) {
    auto webhook = store.get_webhook(org, id);
    if (!webhook) return tl::unexpected(webhook.error());
    auto valid = std::count_if(webhook->secrets.begin(), webhook->secrets.end(), [&](const WebhookSecret& other) {
        return std::min(other.expires_at.value_or(input.others_expire_at), input.others_expire_at) >
               input.secret.created_at;
    });
    if (static_cast<std::size_t>(valid) >= limits::kWebhookSecretsMax)
        return fail(ErrorCode::kConflict,
                    "At most " + std::to_string(limits::kWebhookSecretsMax) +
                        " secrets are valid at once; rotate with a shorter time for the others, or later");
    return store.add_webhook_secret(org, id, input.secret, input.others_expire_at);
}

}  // namespace headgate
