// A webhook as a caller describes it, checked member by member. The API and the command line share
// this, so that both refuse the same things with the same words. Pure but for the generated secret and id.
#pragma once

#include <boost/json/fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "sidecar/api/reply.h"
#include "sidecar/deliver/target_guard.h"
#include "sidecar/store/store.h"

namespace headgate {

struct WebhookInput {
    Webhook webhook;
    std::string secret_text;         // shown once
    std::vector<FieldError> errors;  // every one; the webhook is good only when there are none
};

// Members: url, events (both required), name (default: the URL's host), description, headers, secret (default: a
// new one), is_active, retry_config, filters, ordering, payload_format, content_type, timeout_seconds,
// max_in_flight; and the older names event_filters, retry_count, retry_delay_seconds. Any other is an error,
// because a mistyped member that is silently dropped is a webhook that does not do what its owner believes.
[[nodiscard]] WebhookInput read_webhook(const boost::json::object& members, std::string_view org,
                                        const std::vector<std::string>& org_networks, const TargetGuard& guard,
                                        TimeMs now);

}  // namespace headgate
