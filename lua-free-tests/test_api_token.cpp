// links: headgate_api
// Tokens that are minted verify with the same key and never outlive their API key; what callers
// describe (keys, webhooks) is checked with every error at once.
#include <boost/json.hpp>
#include <string>

#include "common/jwt.h"
#include "sidecar/api/key_input.h"
#include "sidecar/api/token_mint.h"
#include "sidecar/api/webhook_input.h"
#include "sidecar/api/webhook_json.h"
#include "sidecar/base/json_text.h"

// cmocka needs these before it; its macro `fail` must come after everything of ours.
// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
extern "C" {
#include <cmocka.h>
}
// clang-format on

namespace {

using namespace headgate;

constexpr TimeMs kNow = 1'800'000'000'000;
constexpr std::int64_t kDayMs = 86'400'000;
constexpr const char* kSecret = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

VerificationKey signing_key() { return key_set_from_secret(kSecret, JwtAlgorithm::kHs256)->keys.front(); }

ApiKey some_key() {
    ApiKey key;
    key.id = "key-1";
    key.org = "org-1";
    key.scopes = "events:write inbox:read";
    key.plan = "pro";
    key.allowed_ips = "192.0.2.0/24 2001:db8::/32";
    key.limits = "5r/s 100r/h:10";
    return key;
}

JwtVerification verify(const std::string& token, std::int64_t now_seconds) {
    JwtSource source;
    source.keys.keys.push_back(signing_key());
    return verify_jwt(token, {&source}, JwtPolicy{}, now_seconds);
}

void test_mint_token_verifies_with_all_claims(void**) {
    JwtVerification verified;
    MintedToken token;
    {
        token = mint_token(some_key(), "", signing_key(), kNow, kDayMs, "jti-1");
        verified = verify(token.text, kNow / 1000);
    }
    assert_string_equal(std::string(jwt_status_name(verified.status)).c_str(), "ok");
    assert_string_equal(verified.claims.iss.c_str(), "headgate");
    assert_string_equal(verified.claims.sub.c_str(), "api");
    assert_string_equal(verified.claims.org.c_str(), "org-1");
    assert_string_equal(verified.claims.scope.c_str(), "events:write inbox:read");
    assert_string_equal(verified.claims.plan.c_str(), "pro");
    assert_string_equal(verified.claims.key_id.c_str(), "key-1");
    assert_string_equal(verified.claims.allowed_ips.c_str(), "192.0.2.0/24 2001:db8::/32");
    assert_string_equal(verified.claims.limits.c_str(), "5r/s 100r/h:10");
    assert_string_equal(verified.claims.jti.c_str(), "jti-1");
    assert_int_equal(verified.claims.exp_seconds, (kNow + kDayMs) / 1000);
    assert_int_equal(token.expires_in_seconds, 86400);
}

void test_mint_token_never_outlives_its_key(void**) {
    MintedToken token;
    JwtStatus before, after;
    {
        ApiKey key = some_key();
        key.expires_at = kNow + 10'500;
        token = mint_token(key, "inbox:read", signing_key(), kNow, kDayMs, "j");
        before = verify(token.text, kNow / 1000 + 9).status;
        after = verify(token.text, kNow / 1000 + 10).status;
    }
    assert_int_equal(token.expires_in_seconds, 10);
    assert_string_equal(token.scope.c_str(), "inbox:read");
    assert_true(before == JwtStatus::kOk);
    assert_true(after == JwtStatus::kExpired);
}

void test_read_key_reports_every_error(void**) {
    HmacSha256Key pepper(kSecret);
    std::size_t wrong = read_key({"", "Inbox:read", "a b", "1.2.3", "yesterday"}, "o", pepper, kNow).errors.size();
    KeyInput good = read_key({"n", "admin, app:run", "free", "10.0.0.0/8,::1", "90d"}, "o", pepper, kNow);
    assert_int_equal(wrong, 5);
    assert_int_equal(good.errors.size(), 0);
    assert_string_equal(good.key.scopes.c_str(), "admin app:run");
    assert_string_equal(good.key.allowed_ips.c_str(), "10.0.0.0/8 ::1");
    assert_true(good.key.expires_at == kNow + 90 * kDayMs);
    assert_string_equal(good.key.key_hash.c_str(), api_key_hash(pepper, good.api_key).c_str());
}

WebhookInput read(const char* json, const std::vector<std::string>& networks = {"*"}) {
    TargetGuard guard(TargetGuardOptions{{*parse_network("127.0.0.0/8")}, {}, {}});
    return read_webhook(boost::json::parse(json).get_object(), "org-1", networks, guard, kNow);
}

std::string locations(const WebhookInput& input) {
    std::string all;
    for (const auto& error : input.errors) {
        for (const auto& part : error.loc) all += part + ".";
        all += " ";
    }
    return all;
}

void test_read_webhook_defaults(void**) {
    WebhookInput input = read(R"({"url":"https://example.com/h","events":["order.*"]})");
    std::string shown = json_text(webhook_json(input.webhook));
    assert_string_equal(locations(input).c_str(), "");
    assert_string_equal(input.webhook.name.c_str(), "example.com");
    assert_true(input.secret_text.starts_with("whsec_"));
    assert_true(shown.find(R"("retry_config":{"max_retries":9,"schedule":[5000,300000,1800000,7200000,18000000,)"
                           R"(36000000,50400000,72000000,86400000]})") != std::string::npos);
    assert_true(shown.find("secret") == std::string::npos);
}

void test_read_webhook_reports_every_error(void**) {
    WebhookInput input =
        read(R"({"url":"http://10.0.0.1/","events":["webhook.*",1,"a b"],"name":"","headers":{"Host":"x"},
        "secret":"short","is_active":1,"retry_config":{"max_retries":31},"filters":{"a":{"$x":1}},"ordering":"time",
        "payload_format":"xml","content_type":"text/plain","timeout_seconds":61,"max_in_flight":0,"evnts":[]})");
    assert_string_equal(locations(input).c_str(),
                        "body.url. body.name. body.secret. body.events.0. body.events.1. body.events.2. body.headers. "
                        "body.is_active. body.retry_config.max_retries. body.filters. body.ordering. "
                        "body.payload_format. body.content_type. body.timeout_seconds. body.max_in_flight. "
                        "body.evnts. ");
}

void test_read_webhook_network_needs_ceiling_and_organization(void**) {
    const char* json = R"({"url":"http://127.0.0.1:9000/","events":["*"]})";
    assert_int_equal(read(json).errors.size(), 0);
    assert_int_equal(read(json, {}).errors.size(), 1);
}

void test_read_webhook_older_names(void**) {
    WebhookInput input = read(R"({"url":"https://example.com/","events":["*"],"retry_count":3,"retry_delay_seconds":60,
                                  "event_filters":{"event_type":["conference"]}})");
    WebhookInput both = read(R"({"url":"https://example.com/","events":["*"],"retry_count":3,"retry_config":{},
                                 "filters":{},"event_filters":{}})");
    assert_string_equal(locations(input).c_str(), "");
    assert_int_equal(input.webhook.retry.max_retries, 3);
    assert_int_equal(input.webhook.retry.retry_delay_ms, 60'000);
    assert_true(input.webhook.retry.schedule_ms.empty());
    assert_string_equal(input.webhook.filters.c_str(), R"({"event_type":["conference"]})");
    assert_string_equal(locations(both).c_str(), "body.retry_config. body.filters. ");
}

// A delay of 0 was taken and shown as 0, while the default schedule of 5 s to 24 h ran.
void test_read_webhook_refuses_delay_of_zero(void**) {
    const auto refused = [](const char* members) {
        return locations(
            read((std::string(R"({"url":"https://example.com/","events":["*"],)") + members + "}").c_str()));
    };
    assert_string_equal(refused(R"("retry_config":{"retry_delay":0})").c_str(), "body.retry_config.retry_delay. ");
    assert_string_equal(refused(R"("retry_count":1,"retry_delay_seconds":0)").c_str(), "body.retry_delay_seconds. ");
    assert_string_equal(refused(R"("retry_config":{"retry_delay":1})").c_str(), "");
    assert_string_equal(refused(R"("retry_config":{"schedule":[0]})").c_str(), "");
}

void test_webhook_json_masks_headers_and_hides_authorization(void**) {
    WebhookInput input = read(R"({"url":"https://example.com/","events":["*"],
                                  "headers":{"X-Tenant":"t-secret","Authorization":"Bearer s"}})");
    std::string shown = json_text(created_webhook_json(input.webhook, input.secret_text));
    assert_true(shown.find(R"("headers":{"X-Tenant":"********"})") != std::string::npos);
    assert_true(shown.find("t-secret") == std::string::npos);
    assert_true(shown.find("\"secret\":\"" + input.secret_text) != std::string::npos);
}

void test_success_rate_one_decimal_or_null(void**) {
    assert_string_equal(json_text(success_rate_json(25, 2)).c_str(), "92.6");
    assert_string_equal(json_text(success_rate_json(0, 0)).c_str(), "null");
    assert_string_equal(json_text(success_rate_json(3, 0)).c_str(), "100");
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(test_mint_token_verifies_with_all_claims),
        cmocka_unit_test(test_mint_token_never_outlives_its_key),
        cmocka_unit_test(test_read_key_reports_every_error),
        cmocka_unit_test(test_read_webhook_defaults),
        cmocka_unit_test(test_read_webhook_reports_every_error),
        cmocka_unit_test(test_read_webhook_network_needs_ceiling_and_organization),
        cmocka_unit_test(test_read_webhook_older_names),
        cmocka_unit_test(test_read_webhook_refuses_delay_of_zero),
        cmocka_unit_test(test_webhook_json_masks_headers_and_hides_authorization),
        cmocka_unit_test(test_success_rate_one_decimal_or_null),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
