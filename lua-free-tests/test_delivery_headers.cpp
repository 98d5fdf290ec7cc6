// links: headgate_deliver
#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "common/base64url.h"
#include "common/webhook_signature.h"
#include "lua-free-tests/cmocka_cpp.h"  // last
#include "lua-free-tests/sample_order.h"
#include "sidecar/deliver/body.h"
#include "sidecar/deliver/delivery_headers.h"

using namespace headgate;

namespace {

constexpr TimeMs kNow = kOrderTime;

// The lines of a request, as "name: value\n…".
std::string lines_of(DeliveryHeaders& headers) {
    std::string text = headers.lines.bytes();
    std::replace(text.begin(), text.end(), '\0', '\n');
    return text;
}

std::string value_of(const std::string& lines, std::string_view name) { return std::string(find_header(lines, name)); }

void test_build_delivery_headers_signed_by_every_valid_secret(void**) {
    Webhook webhook;
    webhook.headers = {{"X-Tenant", "seven"}};
    webhook.secrets = {{"newest-secret-bytes", 3, std::nullopt},
                       {"older-secret-bytes!", 2, kNow + 1},
                       {"expired-secret-byte", 1, kNow}};
    const SigningKeys keys = make_signing_keys(webhook);
    const Event event = order();
    const std::string body = *build_body(event, BodyForm{});
    DeliveryHeaders headers = build_delivery_headers({event, webhook, keys, "dlv_1", body, "Headgate/1", kNow, 0xabc});
    const std::string lines = lines_of(headers);
    const HmacSha256Key newest("newest-secret-bytes");
    const HmacSha256Key older("older-secret-bytes!");
    const std::string wanted = sign_standard_v1(newest, event.id, 1'700'000'000, body) + " " +
                               sign_standard_v1(older, event.id, 1'700'000'000, body);
    assert_string_equal(value_of(lines, "webhook-signature").c_str(), wanted.c_str());
    assert_string_equal(value_of(lines, "X-Webhook-Signature").c_str(), sign_sha256_hex(newest, body).c_str());
    assert_string_equal(value_of(lines, "webhook-id").c_str(), event.id.c_str());
    assert_string_equal(value_of(lines, "webhook-timestamp").c_str(), "1700000000");
    assert_string_equal(value_of(lines, "X-Webhook-Event").c_str(), "order.created");
    assert_string_equal(value_of(lines, "X-Webhook-Delivery").c_str(), "dlv_1");
    assert_string_equal(value_of(lines, "traceparent").c_str(),
                        "00-0af7651916cd43dd8448eb211c80319c-0000000000000abc-01");
    assert_string_equal(value_of(lines, "Content-Type").c_str(), "application/json");
    assert_string_equal(value_of(lines, "User-Agent").c_str(), "Headgate/1");
    assert_string_equal(value_of(lines, "X-Tenant").c_str(), "seven");
    // The record has every name, and no value of the webhook's own.
    assert_true(headers.redacted.find(R"("X-Tenant":"***")") != std::string::npos);
    assert_true(headers.redacted.find("seven") == std::string::npos);
    assert_true(headers.redacted.find(R"("webhook-id":")") != std::string::npos);
    // A signature is good for minutes: none is kept.
    assert_true(headers.redacted.find(R"("webhook-signature":"***","X-Webhook-Signature":"***")") != std::string::npos);
}

void test_build_delivery_headers_nothing_is_injected(void**) {
    Webhook webhook;
    webhook.secrets = {{"newest-secret-bytes", 3, std::nullopt}};
    webhook.headers = {{"X-Bad", "a\r\nX-Evil: 1"}, {"X-Bad\r\nX-Evil", "1"}, {"webhook-id", "forged"},
                       {"Content-Length", "0"},     {"Host", "evil"},         {"X-Empty", ""}};
    Event event = order();
    event.type = "a\r\nX-Evil: 1";
    event.traceparent = "00\r\nX-Evil: 1";
    DeliveryHeaders headers =
        build_delivery_headers({event, webhook, make_signing_keys(webhook), "d", "{}", "Headgate", kNow, 1});
    const std::string lines = lines_of(headers);
    assert_true(lines.find("Evil") == std::string::npos);
    assert_true(lines.find("forged") == std::string::npos);
    assert_true(lines.find("Content-Length") == std::string::npos);
    assert_true(lines.find("Host") == std::string::npos);
    assert_true(lines.find("X-Empty;\n") != std::string::npos);  // libcurl's form of an empty value
    assert_true(headers.redacted.find("Evil") == std::string::npos);
}

void test_validate_webhook_headers_table(void**) {
    const auto is_valid = [](std::string name, std::string value) {
        return validate_webhook_headers({{std::move(name), std::move(value)}}).has_value();
    };
    assert_true(is_valid("Authorization", "Bearer x"));
    assert_true(is_valid("X-Api-Key", "a\tb"));
    assert_true(is_valid("X-Utf8", "\xc3\xa4"));
    for (const std::string_view name : {"",
                                        "X Y",
                                        "X:Y",
                                        "X\r\nY",
                                        "X\xc3\xa4",
                                        "Host",
                                        "host",
                                        "Content-Length",
                                        "content-type",
                                        "Transfer-Encoding",
                                        "Connection",
                                        "Keep-Alive",
                                        "Proxy-Authorization",
                                        "TE",
                                        "Trailer",
                                        "Upgrade",
                                        "Expect",
                                        "User-Agent",
                                        "webhook-id",
                                        "Webhook-Signature",
                                        "webhook-anything",
                                        "X-Webhook-Event",
                                        "x-webhook-delivery",
                                        "traceparent",
                                        "Accept-Encoding"}) {
        if (is_valid(std::string(name), "v")) {
            print_error("%s was accepted\n", name.data());
        }
        assert_false(is_valid(std::string(name), "v"));
    }
    for (const std::string_view value :
         {std::string_view("a\rb"), std::string_view("a\nb"), std::string_view("a\0b", 3), std::string_view("a\x1b"),
          std::string_view("a\x7f")}) {
        assert_false(is_valid("X-A", std::string(value)));
    }
    assert_true(is_valid("X-A", std::string(1024, 'v')));
    assert_false(is_valid("X-A", std::string(1025, 'v')));
    assert_false(validate_webhook_headers({{"X-A", "1"}, {"x-a", "2"}}).has_value());
    std::vector<std::pair<std::string, std::string>> many;
    for (int i = 0; i < 32; ++i) {
        many.emplace_back("X-" + std::to_string(i), "v");
    }
    assert_true(validate_webhook_headers(many).has_value());
    many.emplace_back("X-32", "v");
    assert_false(validate_webhook_headers(many).has_value());
}

void test_headers_json_joined_and_found(void**) {
    const std::string lines = "Content-Type: text/html\nSet-Cookie: a=1\nset-cookie:b=2\nX: \"q\"\nbroken\n";
    assert_string_equal(headers_json(lines).c_str(),
                        R"({"Content-Type":"text/html","Set-Cookie":"a=1, b=2","X":"\"q\""})");
    assert_string_equal(std::string(find_header(lines, "SET-COOKIE")).c_str(), "a=1");
    assert_true(find_header(lines, "absent").empty());
    assert_string_equal(headers_json("").c_str(), "{}");
}

void test_build_delivery_headers_v1a_beside_v1(void**) {
    Webhook webhook;
    webhook.secrets = {{"newest-secret-bytes", 3, std::nullopt}};
    webhook.ed25519_seed = std::string(32, '\x07');
    const SigningKeys keys = make_signing_keys(webhook);
    assert_true(keys.key_pair.has_value());
    const Event event = order();
    DeliveryHeaders headers = build_delivery_headers({event, webhook, keys, "d", "{}", "Headgate", kNow});
    const std::string signature = value_of(lines_of(headers), "webhook-signature");
    const std::string v1 = sign_standard_v1(keys.keys[0].hmac, event.id, 1'700'000'000, "{}");
    assert_string_equal(signature.c_str(),
                        (v1 + " " + sign_standard_v1a(*keys.key_pair, event.id, 1'700'000'000, "{}")).c_str());
    // Without a valid secret the key pair still signs; the older header has nothing to say then.
    webhook.secrets[0].expires_at = kNow;
    headers = build_delivery_headers({event, webhook, make_signing_keys(webhook), "d", "{}", "Headgate", kNow});
    assert_true(value_of(lines_of(headers), "webhook-signature").starts_with("v1a,"));
    assert_true(value_of(lines_of(headers), "X-Webhook-Signature").empty());
    // A seed of another length cannot sign, and takes nothing else away.
    webhook.secrets[0].expires_at = std::nullopt;
    webhook.ed25519_seed = "short";
    headers = build_delivery_headers({event, webhook, make_signing_keys(webhook), "d", "{}", "Headgate", kNow});
    assert_string_equal(value_of(lines_of(headers), "webhook-signature").c_str(), v1.c_str());
}

void test_build_delivery_headers_id_with_a_dot_not_signed(void**) {
    Webhook webhook;
    webhook.secrets = {{"newest-secret-bytes", 3, std::nullopt}};
    webhook.ed25519_seed = std::string(32, '\x07');
    Event event = order();
    event.id = "018f.1700000000";
    DeliveryHeaders headers =
        build_delivery_headers({event, webhook, make_signing_keys(webhook), "d", "{}", "Headgate", kNow});
    assert_true(value_of(lines_of(headers), "webhook-signature").empty());
}

std::string mac_of(std::string_view key, std::string_view text) { return hex_encode(HmacSha256Key(key).sign(text)); }

void test_build_delivery_headers_styles(void**) {
    Webhook webhook;
    const std::string random_bytes("\x80\xff\x00 random bytes, not text..", 29);
    webhook.secrets = {
        {random_bytes, 3, std::nullopt}, {"an own string, as text", 2, kNow + 1}, {"expired expired!", 1, kNow}};
    const Event event = order();
    const std::string newest = webhook_secret_text(random_bytes);
    const auto lines = [&](std::string_view style) {
        webhook.signature_style = style;
        DeliveryHeaders headers =
            build_delivery_headers({event, webhook, make_signing_keys(webhook), "dlv_1", "{}", "Headgate", kNow});
        assert_true(headers.redacted.find("whsec_") == std::string::npos);
        for (const std::string& mac : {mac_of(newest, "{}"), mac_of(newest, "1700000000.{}")}) {
            assert_true(headers.redacted.find(mac) == std::string::npos);
        }
        assert_true(headers.redacted.find("v1,") == std::string::npos);
        return lines_of(headers);
    };
    const std::string stripe = lines("stripe");
    assert_string_equal(value_of(stripe, "Stripe-Signature").c_str(),
                        ("t=1700000000,v1=" + mac_of(newest, "1700000000.{}") +
                         ",v1=" + mac_of("an own string, as text", "1700000000.{}"))
                            .c_str());
    const std::string github = lines("github");
    assert_string_equal(value_of(github, "X-Hub-Signature-256").c_str(), ("sha256=" + mac_of(newest, "{}")).c_str());
    assert_string_equal(value_of(github, "X-GitHub-Event").c_str(), "order.created");
    assert_string_equal(value_of(github, "X-GitHub-Delivery").c_str(), event.id.c_str());
    const std::string shopify = lines("shopify");
    const Sha256Digest mac = HmacSha256Key(newest).sign("{}");
    assert_string_equal(value_of(shopify, "X-Shopify-Hmac-Sha256").c_str(),
                        base64_encode({reinterpret_cast<const char*>(mac.data()), mac.size()}).c_str());
    assert_string_equal(value_of(shopify, "X-Shopify-Topic").c_str(), "order.created");
    assert_string_equal(value_of(shopify, "X-Shopify-Webhook-Id").c_str(), "dlv_1");
    assert_string_equal(value_of(shopify, "X-Shopify-Event-Id").c_str(), event.id.c_str());
    assert_string_equal(value_of(shopify, "X-Shopify-Triggered-At").c_str(), "2023-11-14T22:13:20.123Z");
    // Besides ours, in every style; and none of a style without it.
    for (const std::string& each : {stripe, github, shopify}) {
        assert_true(value_of(each, "webhook-signature").starts_with("v1,"));
    }
    const std::string plain = lines("");
    for (const std::string_view name : {"Stripe-Signature", "X-Hub-Signature-256", "X-Shopify-Hmac-Sha256"}) {
        assert_true(value_of(plain, name).empty());
    }
    assert_true(signature_style_is_valid("") && !signature_style_is_valid("Stripe") && !signature_style_is_valid("x"));
}

// Two headers of one name would leave the endpoint to choose which of them it believes.
void test_headers_of_a_style_are_reserved_in_it(void**) {
    const std::vector<std::pair<std::string, std::string>> forged = {{"X-GitHub-Event", "ping"}};
    assert_true(validate_webhook_headers(forged).has_value());
    assert_true(validate_webhook_headers(forged, "stripe").has_value());
    assert_false(validate_webhook_headers(forged, "github").has_value());
    assert_false(validate_webhook_headers({{"stripe-signature", "t=1"}}, "stripe").has_value());
    assert_true(validate_webhook_headers({{"X-Shopify-Shop-Domain", "a.b"}}, "shopify").has_value());
    Webhook webhook;
    webhook.secrets = {{"newest-secret-bytes", 3, std::nullopt}};
    webhook.headers = forged;
    webhook.signature_style = "github";
    const Event event = order();
    DeliveryHeaders headers =
        build_delivery_headers({event, webhook, make_signing_keys(webhook), "d", "{}", "Headgate", kNow});
    assert_true(lines_of(headers).find("ping") == std::string::npos);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(test_build_delivery_headers_signed_by_every_valid_secret),
        cmocka_unit_test(test_build_delivery_headers_nothing_is_injected),
        cmocka_unit_test(test_validate_webhook_headers_table),
        cmocka_unit_test(test_headers_json_joined_and_found),
        cmocka_unit_test(test_build_delivery_headers_v1a_beside_v1),
        cmocka_unit_test(test_build_delivery_headers_id_with_a_dot_not_signed),
        cmocka_unit_test(test_build_delivery_headers_styles),
        cmocka_unit_test(test_headers_of_a_style_are_reserved_in_it),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
