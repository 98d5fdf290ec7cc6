// The headers of a delivery: ours, the signatures, and the webhook's own; with the copy for the
// attempt's record, in which the webhook's own values and the signatures are masked. Pure. Next file: http_client.h.
#pragma once

#include <cstdint>
#include <optional>
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
// control characters, at most kWebhookHeaderBytesMax. What the webhook's signature_style sends is ours as well.
[[nodiscard]] Result<void> validate_webhook_headers(const std::vector<std::pair<std::string, std::string>>& headers,
                                                    std::string_view signature_style = {});

// Empty, stripe, github or shopify. A style adds the headers of that provider's webhooks, so that endpoints which
// verify those need no change. Its key is webhook_secret_as_text().
//   stripe   Stripe-Signature: t=<s>,v1=<hex>[,v1=<hex>]: one for each secret that is valid
//   github   X-Hub-Signature-256: sha256=<hex> by the newest secret, X-GitHub-Event, X-GitHub-Delivery (the event's id)
//   shopify  X-Shopify-Hmac-Sha256: <base64> by the newest, X-Shopify-Topic, -Webhook-Id, -Event-Id, -Triggered-At;
//            what else its library asks for (-Shop-Domain, -API-Version) can be headers of the webhook
[[nodiscard]] bool signature_style_is_valid(std::string_view style) noexcept;

// A webhook's secrets and key pair, made ready once and used for every attempt. Newest first.
struct SigningKeys {
    struct Key {
        HmacSha256Key hmac;
        TimeMs expires_at;                   // INT64_MAX: never
        std::optional<HmacSha256Key> style;  // of the signature style, if there is one
    };
    std::vector<Key> keys;
    std::optional<Ed25519Key> key_pair;
};
[[nodiscard]] SigningKeys make_signing_keys(const Webhook& webhook);

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
    std::uint64_t span = 0;         // of this attempt: what the endpoint sees as its parent in the event's trace
    bool tells_signatures = false;  // in `redacted` as well: for a test call's answer, which nobody keeps
};
[[nodiscard]] DeliveryHeaders build_delivery_headers(const DeliveryHeadersInput& input);

}  // namespace headgate
