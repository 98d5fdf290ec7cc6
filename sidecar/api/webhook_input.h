// A webhook as a caller describes it, checked member by member. The API and the command line share
// this, so that both refuse the same things with the same words. Pure but for the generated secret and id.
#pragma once

#include <boost/json/fwd.hpp>
#include <cstdint>
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
// new one), is_active, retry_config, filters, ordering, ordering_policy, payload_format, body_template, content_type,
// signature_style, sign_ed25519, ed25519_key (default: a new one), rate, timeout_seconds, max_in_flight; and the older
// names event_filters, retry_count, retry_delay_seconds. Any other is an error, because a mistyped member that is
// silently dropped is a webhook that does not do what its owner believes.
[[nodiscard]] WebhookInput read_webhook(const boost::json::object& members, std::string_view org,
                                        const std::vector<std::string>& org_networks, const TargetGuard& guard,
                                        TimeMs now);

// The same members, but for the secret, each of them optional: what is absent stays, null gives the default back.
// kPatch: `headers` are merged by name, null takes one away. kPut: they are replaced as a whole, but for an
// Authorization that is not named, because it is never shown; and what only the server says of a webhook may stand
// beside, so that what GET answered can be sent back. In both the mask stands for the value that there is.
enum class WebhookChange : std::uint8_t { kPatch, kPut };
[[nodiscard]] WebhookInput read_webhook_change(const boost::json::object& members, const Webhook& before,
                                               const std::vector<std::string>& org_networks, const TargetGuard& guard,
                                               TimeMs now, WebhookChange kind = WebhookChange::kPatch);

// secret (default: a new one) and grace_seconds (24 h, at most 7 days): how long the others go on signing.
struct SecretInput {
    WebhookSecret secret;
    TimeMs others_expire_at = 0;
    std::vector<FieldError> errors;
};
[[nodiscard]] SecretInput read_new_secret(const boost::json::object& members, TimeMs now);
// kConflict: more than limits::kWebhookSecretsMax would be valid at once.
[[nodiscard]] Result<void> rotate_webhook_secret(Store& store, std::string_view org, std::string_view id,
                                                 const SecretInput& input);

}  // namespace headgate
