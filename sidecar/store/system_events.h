// Operational events: what the delivery engine tells about itself. Both engines write them into their outbox and make
// events of them with these names and payloads. Next file: store.h (relay_system_events).
#pragma once

#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <string>
#include <string_view>

#include "sidecar/store/store.h"

namespace headgate {

inline constexpr std::string_view kWebhookDisabledType = "webhook.disabled";
inline constexpr std::string_view kDeliveryExhaustedType = "webhook.delivery.exhausted";
inline constexpr std::string_view kSystemSource = "headgate";
inline constexpr std::string_view kViaSystem = "system";
inline constexpr std::string_view kFailingReason = "only failures for 5 days";

[[nodiscard]] inline std::string webhook_disabled_payload(std::string_view webhook_id, std::string_view reason) {
    return boost::json::serialize(boost::json::object{{"webhook_id", webhook_id}, {"reason", reason}});
}

// A delivery that will not be tried again. `attempt` is its last.
[[nodiscard]] inline std::string delivery_exhausted_payload(const AttemptRecord& attempt, std::string_view event_id,
                                                            std::string_view event_type) {
    return boost::json::serialize(boost::json::object{{"webhook_id", attempt.webhook_id},
                                                      {"delivery_id", attempt.delivery_id},
                                                      {"event_id", event_id},
                                                      {"event_type", event_type},
                                                      {"attempts", attempt.number},
                                                      {"status_code", attempt.status_code},
                                                      {"error_type", attempt.error_type}});
}

}  // namespace headgate
