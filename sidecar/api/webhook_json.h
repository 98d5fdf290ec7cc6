// A webhook as the API shows it. Secrets only where a caller passes them in; header values masked. Pure.
#pragma once

#include <boost/json/fwd.hpp>
#include <string_view>

#include "sidecar/store/store.h"

namespace headgate {

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
