// Showing webhooks; see webhook_json.h.
#include "sidecar/api/webhook_json.h"

#include <boost/json.hpp>
#include <cmath>

#include "common/base64url.h"
#include "common/key_material.h"
#include "common/rfc3339.h"
#include "common/webhook_signature.h"
#include "sidecar/base/text.h"

namespace headgate {
namespace json = boost::json;
namespace {

constexpr std::pair<std::string_view, PayloadFormat> kFormats[] = {
    {"envelope", PayloadFormat::kEnvelope},
    {"standard", PayloadFormat::kStandard},
    {"raw", PayloadFormat::kRaw},
    {"template", PayloadFormat::kTemplate},
};
constexpr std::pair<std::string_view, OrderingPolicy> kPolicies[] = {
    {"dead", OrderingPolicy::kDead},
    {"skip", OrderingPolicy::kSkip},
    {"block", OrderingPolicy::kBlock},
};

// Empty stands for none.
json::value text_or_null(std::string_view text) {
    if (text.empty()) return nullptr;
    return json::value(text);
}

std::optional<Ed25519Key> key_pair_of(const Webhook& webhook) {
    return webhook.ed25519_seed.empty() ? std::nullopt : Ed25519Key::from_seed(webhook.ed25519_seed);
}

json::array events_json(const Webhook& webhook) {
    json::array events;
    for (const auto& event : webhook.events) events.emplace_back(event);
    return events;
}

// Authorization is not even named: that a webhook has one is its creator's affair.
json::object headers_json(const Webhook& webhook) {
    json::object headers;
    for (const auto& [name, value] : webhook.headers)
        if (to_lower(name) != "authorization") headers.emplace(name, kHeaderMask);
    return headers;
}

json::object retry_json(const RetryConfig& retry) {
    json::object shown;
    shown.emplace("max_retries", retry.max_retries);
    if (!retry.schedule_ms.empty()) {
        json::array schedule(retry.schedule_ms.begin(), retry.schedule_ms.end());
        shown.emplace("schedule", std::move(schedule));
    } else {
        shown.emplace("retry_delay", retry.retry_delay_ms);
        shown.emplace("backoff_multiplier", retry.backoff_multiplier);
    }
    return shown;
}

json::value time_json(std::optional<TimeMs> time) {
    if (!time) return nullptr;
    return json::value(rfc3339_format(*time));
}

json::object build(const Webhook& webhook, const std::string_view* secret) {
    json::object shown;
    shown.emplace("id", webhook.id);
    shown.emplace("name", webhook.name);
    shown.emplace("description", webhook.description);
    shown.emplace("url", webhook.url);
    shown.emplace("events", events_json(webhook));
    shown.emplace("headers", headers_json(webhook));
    if (secret != nullptr) shown.emplace("secret", *secret);
    shown.emplace("is_active", webhook.is_active);
    shown.emplace("created_at", rfc3339_format(webhook.created_at));
    shown.emplace("last_triggered", time_json(webhook.last_triggered_at));
    shown.emplace("success_count", webhook.success_count);
    shown.emplace("failure_count", webhook.failure_count);
    shown.emplace("retry_config", retry_json(webhook.retry));
    boost::system::error_code ec;
    auto filters = json::parse(webhook.filters, ec);
    shown.emplace("filters", ec ? json::value(json::object()) : std::move(filters));
    shown.emplace("ordering", text_or_null(webhook.ordering));
    json::value policy = nullptr;
    for (const auto& [name, value] : kPolicies)
        if (!webhook.ordering.empty() && value == webhook.ordering_policy) policy = json::value(name);
    shown.emplace("ordering_policy", std::move(policy));
    shown.emplace("payload_format", payload_format_name(webhook.payload_format));
    shown.emplace("body_template", text_or_null(webhook.body_template));
    shown.emplace("content_type", webhook.content_type);
    shown.emplace("timeout_seconds", webhook.timeout_ms / 1000);
    shown.emplace("max_in_flight", webhook.max_in_flight);
    shown.emplace("rate", text_or_null(webhook.rate));
    shown.emplace("signature_style", text_or_null(webhook.signature_style));
    auto key_pair = key_pair_of(webhook);
    shown.emplace("sign_ed25519", key_pair.has_value());
    if (key_pair) {
        shown.emplace("public_key", webhook_public_key_text(*key_pair));
        shown.emplace("jwks_path", "/.well-known/webhooks/" + webhook.id + "/jwks.json");
    }
    if (!webhook.disabled_reason.empty()) shown.emplace("disabled_reason", webhook.disabled_reason);
    return shown;
}

}  // namespace

std::string_view payload_format_name(PayloadFormat format) noexcept {
    for (const auto& [name, value] : kFormats)
        if (value == format) return name;
    return "envelope";
}

std::optional<PayloadFormat> payload_format_of(std::string_view name) noexcept {
    for (const auto& [known, value] : kFormats)
        if (known == name) return value;
    return std::nullopt;
}

std::optional<OrderingPolicy> ordering_policy_of(std::string_view name) noexcept {
    for (const auto& [known, value] : kPolicies)
        if (known == name) return value;
    return std::nullopt;
}

std::optional<json::object> webhook_jwks_json(const Webhook& webhook) {
    auto key_pair = key_pair_of(webhook);
    if (!key_pair) return std::nullopt;
    auto material = KeyMaterial::from_ed25519(key_pair->public_key());
    if (!material) return std::nullopt;
    json::object jwk;
    jwk.emplace("kty", "OKP");
    jwk.emplace("crv", "Ed25519");
    jwk.emplace("x", base64url_encode(key_pair->public_key()));
    jwk.emplace("use", "sig");
    jwk.emplace("alg", "EdDSA");
    jwk.emplace("kid", (*material)->thumbprint());
    json::object set;
    set.emplace("keys", json::array{std::move(jwk)});
    return set;
}

json::value rounded_json(std::optional<double> number) {
    if (!number) return nullptr;
    return std::round(*number * 10) / 10;
}

json::value success_rate_json(std::int64_t success, std::int64_t failure) {
    if (success + failure == 0) return nullptr;
    return rounded_json(100.0 * static_cast<double>(success) / static_cast<double>(success + failure));
}

json::object webhook_json(const Webhook& webhook) { return build(webhook, nullptr); }

json::object created_webhook_json(const Webhook& webhook, std::string_view secret_text) {
    return build(webhook, &secret_text);
}

json::object webhook_summary_json(const Webhook& webhook) {
    json::object shown;
    shown.emplace("id", webhook.id);
    shown.emplace("name", webhook.name);
    shown.emplace("description", webhook.description);
    shown.emplace("url", webhook.url);
    shown.emplace("events", events_json(webhook));
    shown.emplace("is_active", webhook.is_active);
    shown.emplace("created_at", rfc3339_format(webhook.created_at));
    shown.emplace("last_triggered", time_json(webhook.last_triggered_at));
    shown.emplace("success_count", webhook.success_count);
    shown.emplace("failure_count", webhook.failure_count);
    shown.emplace("success_rate", success_rate_json(webhook.success_count, webhook.failure_count));
    return shown;
}

json::object webhook_detail_json(const Webhook& webhook, const Store::DeliveryStats& stats) {
    json::object shown = build(webhook, nullptr);
    shown.emplace("updated_at", rfc3339_format(webhook.updated_at));
    shown.emplace("success_rate", success_rate_json(webhook.success_count, webhook.failure_count));
    json::object delivery_stats;
    delivery_stats.emplace("total_deliveries", stats.total);
    delivery_stats.emplace("successful_deliveries", stats.success);
    delivery_stats.emplace("failed_deliveries", stats.failed);
    delivery_stats.emplace("avg_response_time", rounded_json(stats.avg_response_time_ms));
    delivery_stats.emplace("last_response_time", rounded_json(stats.last_response_time_ms));
    shown.emplace("delivery_stats", std::move(delivery_stats));
    return shown;
}

}  // namespace headgate
