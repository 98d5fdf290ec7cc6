// Builds and checks what delivery_headers.h declares.
#include "sidecar/deliver/delivery_headers.h"

#include <algorithm>
#include <limits>

#include "common/base64url.h"
#include "common/event_record.h"
#include "common/limits.h"
#include "common/problem.h"
#include "common/rfc3339.h"
#include "sidecar/base/text.h"
#include "sidecar/deliver/trace_context.h"

namespace headgate {

namespace {

bool is_token(std::string_view name) noexcept {
    return !name.empty() && std::all_of(name.begin(), name.end(), [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
               std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos;
    });
}

// Tab is legal in a field value (RFC 9110, 5.5); every other control character is not.
bool is_field_value(std::string_view value) noexcept {
    return std::none_of(value.begin(), value.end(),
                        [](char c) { return (static_cast<unsigned char>(c) < 0x20 && c != '\t') || c == 0x7f; });
}

// Ours, hop-by-hop (RFC 9110, 7.6.1), or part of the message's framing. `name` in lowercase.
bool is_reserved(std::string_view name) noexcept {
    static constexpr std::string_view kNames[] = {
        "accept-encoding",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "expect",
        "host",
        "http2-settings",
        "keep-alive",
        "te",
        "traceparent",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "user-agent",
        "via",
    };
    static constexpr std::string_view kPrefixes[] = {"webhook-", "x-webhook-", "proxy-"};
    return std::find(std::begin(kNames), std::end(kNames), name) != std::end(kNames) ||
           std::any_of(std::begin(kPrefixes), std::end(kPrefixes),
                       [&](std::string_view prefix) { return name.starts_with(prefix); });
}

// What a signature style sends. `name` in lowercase.
bool is_of_style(std::string_view style, std::string_view name) noexcept {
    static constexpr std::pair<std::string_view, std::string_view> kNames[] = {
        {"stripe", "stripe-signature"},        {"github", "x-hub-signature-256"},
        {"github", "x-github-event"},          {"github", "x-github-delivery"},
        {"shopify", "x-shopify-hmac-sha256"},  {"shopify", "x-shopify-topic"},
        {"shopify", "x-shopify-webhook-id"},   {"shopify", "x-shopify-event-id"},
        {"shopify", "x-shopify-triggered-at"},
    };
    return std::find(std::begin(kNames), std::end(kNames), std::pair(style, name)) != std::end(kNames);
}

// What is wrong with the header, or nothing.
std::string_view header_problem(std::string_view lowercase_name, std::string_view value,
                                std::string_view style) noexcept {
    if (!is_token(lowercase_name) || lowercase_name.size() > limits::kWebhookNameBytesMax) {
        return "not a header name";
    }
    if (is_reserved(lowercase_name)) {
        return "this header is set by Headgate or by the connection";
    }
    if (is_of_style(style, lowercase_name)) {
        return "this header is set by the webhook's signature_style";
    }
    if (value.size() > limits::kWebhookHeaderBytesMax) {
        return "the value is too long";
    }
    return is_field_value(value) ? "" : "the value has control characters";
}

// Writes each header twice: to the request, and to the record.
class HeaderWriter {
 public:
    HeaderWriter(DeliveryHeaders& headers, bool tells_signatures)
        : headers_(headers), tells_signatures_(tells_signatures) {
        headers_.redacted = "{";
    }
    // An event type or trace id is checked at the edge; here only what could break the request is held back.
    void add(std::string_view name, std::string_view value) {
        if (is_field_value(value)) {
            headers_.lines.add(name, value);
            record(name, value);
        }
    }
    // Good for a few minutes, and whoever reads the record may not send it.
    void add_signature(std::string_view name, std::string_view value) {
        headers_.lines.add(name, value);
        record(name, tells_signatures_ ? value : "***");
    }
    // The webhook's own.
    void add_masked(std::string_view name, std::string_view value) {
        headers_.lines.add(name, value);
        record(name, "***");
    }
    void finish() { headers_.redacted += '}'; }

 private:
    void record(std::string_view name, std::string_view value) {
        if (headers_.redacted.size() > 1) {
            headers_.redacted += ',';
        }
        append_json_string(headers_.redacted, name);
        headers_.redacted += ':';
        append_json_string(headers_.redacted, value);
    }

    DeliveryHeaders& headers_;
    bool tells_signatures_;
};

void add_stripe_header(const DeliveryHeadersInput& input, const std::vector<const SigningKeys::Key*>& valid,
                       HeaderWriter& writer) {
    const std::string seconds = std::to_string(input.now / 1000);
    std::string header = "t=" + seconds;
    for (const SigningKeys::Key* key : valid) {
        if (key->style) {
            header += ",v1=" + hex_encode(key->style->sign(seconds, ".", input.body));
        }
    }
    writer.add_signature("Stripe-Signature", header);
}

// The headers of signature_style_is_valid()'s table. Nothing is sent that is not signed.
void add_style_headers(const DeliveryHeadersInput& input, const std::vector<const SigningKeys::Key*>& valid,
                       HeaderWriter& writer) {
    const std::string_view style = input.webhook.signature_style;
    if (valid.empty() || !valid.front()->style) {
        return;
    }
    if (style == "stripe") {
        add_stripe_header(input, valid, writer);
        return;
    }
    const Sha256Digest mac = valid.front()->style->sign(input.body);
    if (style == "github") {
        writer.add_signature("X-Hub-Signature-256", "sha256=" + hex_encode(mac));
        writer.add("X-GitHub-Event", input.event.type);
        writer.add("X-GitHub-Delivery", input.event.id);
    } else if (style == "shopify") {
        writer.add_signature("X-Shopify-Hmac-Sha256",
                             base64_encode({reinterpret_cast<const char*>(mac.data()), mac.size()}));
        writer.add("X-Shopify-Topic", input.event.type);
        writer.add("X-Shopify-Webhook-Id", input.delivery_id);
        writer.add("X-Shopify-Event-Id", input.event.id);
        writer.add("X-Shopify-Triggered-At", rfc3339_format(input.event.created_at));
    }
}

}  // namespace

bool signature_style_is_valid(std::string_view style) noexcept {
    return style.empty() || style == "stripe" || style == "github" || style == "shopify";
}

Result<void> validate_webhook_headers(const std::vector<std::pair<std::string, std::string>>& headers,
                                      std::string_view signature_style) {
    if (headers.size() > limits::kWebhookHeadersMax) {
        return fail(ErrorCode::kUnprocessable,
                    "headers: at most " + std::to_string(limits::kWebhookHeadersMax) + " of them");
    }
    std::vector<std::string> names;
    for (const auto& [name, value] : headers) {
        names.push_back(to_lower(name));
        if (const std::string_view problem = header_problem(names.back(), value, signature_style); !problem.empty()) {
            // The name may be what is wrong with it: it is not repeated when it is not a token.
            const std::string_view shown = is_token(name) ? std::string_view(name) : std::string_view("?");
            return fail(ErrorCode::kUnprocessable, "headers: " + std::string(shown) + ": " + std::string(problem));
        }
    }
    std::sort(names.begin(), names.end());
    if (const auto twice = std::adjacent_find(names.begin(), names.end()); twice != names.end()) {
        return fail(ErrorCode::kUnprocessable, "headers: " + *twice + ": given twice");
    }
    return {};
}

SigningKeys make_signing_keys(const Webhook& webhook) {
    SigningKeys signing;
    for (const WebhookSecret& secret : webhook.secrets) {
        SigningKeys::Key key{HmacSha256Key(secret.key_bytes),
                             secret.expires_at.value_or(std::numeric_limits<TimeMs>::max()), std::nullopt};
        if (!webhook.signature_style.empty()) {
            key.style.emplace(webhook_secret_as_text(secret.key_bytes));
        }
        signing.keys.push_back(std::move(key));
    }
    if (!webhook.ed25519_seed.empty()) {
        signing.key_pair = Ed25519Key::from_seed(webhook.ed25519_seed);
    }
    return signing;
}

DeliveryHeaders build_delivery_headers(const DeliveryHeadersInput& input) {
    const std::int64_t seconds = input.now / 1000;
    std::vector<const SigningKeys::Key*> valid;
    std::string signatures;
    const auto add_signature = [&signatures](const std::string& signature) {
        signatures += signatures.empty() || signature.empty() ? "" : " ";
        signatures += signature;
    };
    for (const SigningKeys::Key& key : input.keys.keys) {
        if (key.expires_at > input.now) {
            valid.push_back(&key);
            add_signature(sign_standard_v1(key.hmac, input.event.id, seconds, input.body));
        }
    }
    if (input.keys.key_pair) {
        add_signature(sign_standard_v1a(*input.keys.key_pair, input.event.id, seconds, input.body));
    }
    DeliveryHeaders headers;
    HeaderWriter writer(headers, input.tells_signatures);
    writer.add("Content-Type", input.webhook.content_type);
    writer.add("User-Agent", input.user_agent);
    writer.add("webhook-id", input.event.id);
    writer.add("webhook-timestamp", std::to_string(seconds));
    if (!signatures.empty()) {
        writer.add_signature("webhook-signature", signatures);
    }
    if (!valid.empty()) {
        writer.add_signature("X-Webhook-Signature", sign_sha256_hex(valid.front()->hmac, input.body));
    }
    writer.add("X-Webhook-Event", input.event.type);
    writer.add("X-Webhook-Delivery", input.delivery_id);
    if (const std::string traceparent = child_traceparent(input.event.traceparent, input.span); !traceparent.empty()) {
        writer.add("traceparent", traceparent);
    }
    add_style_headers(input, valid, writer);
    for (const auto& [name, value] : input.webhook.headers) {
        if (header_problem(to_lower(name), value, input.webhook.signature_style).empty()) {
            writer.add_masked(name, value);
        }
    }
    writer.finish();
    return headers;
}

}  // namespace headgate
