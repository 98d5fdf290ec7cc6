// A webhook as the API shows it. Secrets only where a caller passes them in; header values masked. Pure.
#pragma once

#include <boost/json/fwd.hpp>
#include <optional>
#include <string_view>

#include "sidecar/store/store.h"

namespace headgate {

// What stands for a header's value.
inline constexpr std::string_view kHeaderMask = "********";

[[nodiscard]] std::string_view payload_format_name(PayloadFormat format) noexcept;
[[nodiscard]] std::optional<PayloadFormat> payload_format_of(std::string_view name) noexcept;
[[nodiscard]] std::optional<OrderingPolicy> ordering_policy_of(std::string_view name) noexcept;

// The public half of the webhook's key pair as a JWK set (RFC 7517, RFC 8037); nullopt when it has none.
[[nodiscard]] std::optional<boost::json::object> webhook_jwks_json(const Webhook& webhook);

// What creation and reading have in common.
[[nodiscard]] boost::json::object webhook_json(const Webhook& webhook);
// After creation: with the secret, in its place after `headers`.
[[nodiscard]] boost::json::object created_webhook_json(const Webhook& webhook, std::string_view secret_text);
// In lists.
[[nodiscard]] boost::json::object webhook_summary_json(const Webhook& webhook);
// Alone: with updated_at, success_rate and delivery_stats.
[[nodiscard]] boost::json::object webhook_detail_json(const Webhook& webhook, const Store::DeliveryStats& stats);
// 100·s/(s+f) to one decimal; null without either.
[[nodiscard]] boost::json::value success_rate_json(std::int64_t success, std::int64_t failure);
[[nodiscard]] boost::json::value rounded_json(std::optional<double> number);  // to one decimal

}  // namespace headgate
