// The headers of a delivery: ours, the signatures, and the webhook's own; with the copy for the
// attempt's record, in which the webhook's own values are masked. Pure. Next file: http_client.h.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/result.h"
#include "common/webhook_signature.h"
#include "sidecar/deliver/http_client.h"
#include "sidecar/store/store.h"

namespace headgate {

// Write-time check of a webhook's own headers: at most kWebhookHeadersMax, names that are tokens
// (RFC 9110, 5.6.2), each once, none that is ours, hop-by-hop or of the transport; values without
// control characters, at most kWebhookHeaderBytesMax.
[[nodiscard]] Result<void> validate_webhook_headers(const std::vector<std::pair<std::string, std::string>>& headers);

// A webhook's secrets, keyed once and used for every attempt. Newest first.
struct SigningKeys {
    struct Key {
        HmacSha256Key hmac;
        TimeMs expires_at;  // INT64_MAX: never
    };
    std::vector<Key> keys;
};
[[nodiscard]] SigningKeys make_signing_keys(const std::vector<WebhookSecret>& secrets);

struct DeliveryHeaders {
    HeaderLines lines;     // to be sent
    std::string redacted;  // JSON object for the record
};

struct DeliveryHeadersInput {
    const Event& event;
    const Webhook& webhook;
    const SigningKeys& keys;
    std::string_view delivery_id;
    std::string_view body;
    std::string_view user_agent;
    TimeMs now = 0;
    std::uint64_t span = 0;  // of this attempt: what the endpoint sees as its parent in the event's trace
};
[[nodiscard]] DeliveryHeaders build_delivery_headers(const DeliveryHeadersInput& input);

}  // namespace headgate
