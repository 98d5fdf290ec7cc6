// Store conformance: changes of webhooks and organizations. See store_conformance.h.
#pragma once

#include "lua-free-tests/store_conformance.h"

namespace headgate::conformance {

inline const std::string kSeed = std::string("ed25519-seed-of-32-bytes\0......", 32);

// What 0002 brought, each with another value than its default.
inline void choose_everything(Webhook& webhook) {
    webhook.payload_format = PayloadFormat::kTemplate;
    webhook.body_template = R"({"text": "{{type}}"})";
    webhook.ordering_policy = OrderingPolicy::kBlock;
    webhook.rate = "600r/m";
    webhook.signature_style = "stripe";
    webhook.ed25519_seed = kSeed;
}
inline bool chose_everything(const Webhook& webhook) {
    return webhook.payload_format == PayloadFormat::kTemplate && webhook.body_template == R"({"text": "{{type}}"})" &&
           webhook.ordering_policy == OrderingPolicy::kBlock && webhook.rate == "600r/m" &&
           webhook.signature_style == "stripe" && webhook.ed25519_seed == kSeed;
}

inline void test_webhook_update_replaces_what_an_owner_chooses(void** state) {
    World& world = world_of(state);
    world.add_webhook("wh-1");
    auto before = world.store->delivery_target("wh-1");
    Webhook change = world.sample_webhook("wh-1");
    change.name = "another";
    change.description = "described";
    change.url = "https://example.org/";
    change.events = {"*", "order.paid"};
    change.headers = {{"X-New", "new-value"}};
    change.secrets = {};
    change.filters = "{}";
    change.retry = {.max_retries = 1, .schedule_ms = {}, .retry_delay_ms = 7, .backoff_multiplier = 1.5};
    change.content_type = "application/x-www-form-urlencoded";
    change.timeout_ms = 1000;
    change.max_in_flight = 3;
    change.ordering = "key";
    change.updated_at = kNow + 9;
    choose_everything(change);
    auto changed = world.store->update_webhook(change, 1);
    assert_int_equal(code_of(changed), kOk);
    for (const Webhook& read : {*changed, *world.store->get_webhook("org-a", "wh-1")}) {
        assert_true(read.name == "another" && read.description == "described" && read.url == change.url);
        assert_true(read.events == change.events && read.headers == change.headers && read.filters == "{}");
        assert_true(read.retry.max_retries == 1 && read.retry.schedule_ms.empty() && read.retry.retry_delay_ms == 7 &&
                    read.retry.backoff_multiplier == 1.5);
        assert_true(read.content_type == change.content_type && read.timeout_ms == 1000 && read.max_in_flight == 3);
        assert_true(read.ordering == "key" && chose_everything(read));
        assert_true(read.version == 2 && read.created_at == kNow && read.updated_at == kNow + 9);
        assert_int_equal(read.secrets.size(), 2);  // only rotation changes them
    }
    assert_true(world.store->delivery_target("wh-1")->generation > before->generation);
}

inline void test_webhook_update_of_another_version_is_a_conflict(void** state) {
    World& world = world_of(state);
    world.add_webhook("wh-1");
    Webhook change = world.sample_webhook("wh-1");
    change.name = "first";
    assert_int_equal(code_of(world.store->update_webhook(change, 1)), kOk);
    change.name = "second";
    assert_int_equal(code_of(world.store->update_webhook(change, 1)), kConflict);
    assert_true(world.store->get_webhook("org-a", "wh-1")->name == "first");
    assert_int_equal(code_of(world.store->update_webhook(change, std::nullopt)), kOk);
    world.add_org("org-b");
    change.org = "org-b";
    assert_int_equal(code_of(world.store->update_webhook(change, std::nullopt)), kNotFound);
    change.org = "org-a";
    World::require(world.store->delete_webhook("org-a", "wh-1", kNow).has_value());
    assert_int_equal(code_of(world.store->update_webhook(change, std::nullopt)), kNotFound);
}

inline void test_webhook_active_again_is_no_longer_failing(void** state) {
    World& world = world_of(state);
    Webhook failing = world.sample_webhook("wh-1");
    failing.failing_since = kNow - 5;
    World::require(world.store->create_webhook(failing).has_value());
    assert_true(world.store->get_webhook("org-a", "wh-1")->failing_since == kNow - 5);
    std::int64_t before = world.store->delivery_target("wh-1")->generation;
    auto off = world.store->set_webhook_active("org-a", "wh-1", false, "by hand", kNow + 1);
    assert_true(off.has_value() && !off->is_active && off->disabled_reason == "by hand" && off->version == 2);
    assert_true(off->failing_since == kNow - 5 && off->updated_at == kNow + 1);
    auto on = world.store->set_webhook_active("org-a", "wh-1", true, "", kNow + 2);
    assert_true(on.has_value() && on->is_active && on->disabled_reason.empty() && on->version == 3);
    assert_true(!on->failing_since);
    assert_true(world.store->delivery_target("wh-1")->generation == before + 2);
    auto again = world.store->set_webhook_active("org-a", "wh-1", true, "", kNow + 3);
    assert_true(again.has_value() && again->version == 3);  // no change, no new version
    assert_int_equal(code_of(world.store->set_webhook_active("org-b", "wh-1", false, "", kNow)), kNotFound);
    failing = *again;
    failing.is_active = false;
    failing.disabled_reason = "by its owner";
    auto updated = world.store->update_webhook(failing, 3);
    assert_true(updated.has_value() && !updated->is_active && updated->disabled_reason == "by its owner");
}

inline void test_webhook_secret_rotation_lets_the_old_one_expire(void** state) {
    World& world = world_of(state);
    world.add_webhook("wh-1");  // its old secret expires at kNow + 5000
    std::int64_t before = world.store->delivery_target("wh-1")->generation;
    auto add = [&](const std::string& bytes, TimeMs at, TimeMs others) {
        return code_of(world.store->add_webhook_secret("org-a", "wh-1", {bytes, at, std::nullopt}, others));
    };
    assert_int_equal(add("third", kNow + 1000, kNow + 8000), kOk);
    auto webhook = world.store->get_webhook("org-a", "wh-1");
    assert_true(webhook->secrets.size() == 3 && webhook->version == 2);
    assert_true(webhook->secrets[0].key_bytes == "third" && !webhook->secrets[0].expires_at);
    assert_true(webhook->secrets[1].expires_at == kNow + 8000 && webhook->secrets[2].expires_at == kNow + 5000);
    assert_true(world.store->delivery_target("wh-1")->generation > before);
    assert_int_equal(add("fourth", kNow + 5000, kNow + 6000), kOk);  // the oldest has expired by now
    webhook = world.store->get_webhook("org-a", "wh-1");
    assert_int_equal(webhook->secrets.size(), 3);
    assert_true(webhook->secrets[1].key_bytes == "third" && webhook->secrets[1].expires_at == kNow + 6000);
    assert_true(webhook->secrets[2].expires_at == kNow + 6000);
    assert_int_equal(code_of(world.store->add_webhook_secret("org-b", "wh-1", {"x", kNow, std::nullopt}, kNow)),
                     kNotFound);
}

inline void test_org_update_reaches_deliveries(void** state) {
    World& world = world_of(state);
    world.add_webhook("wh-1");
    std::int64_t before = world.store->delivery_target("wh-1")->generation;
    Organization org = *world.store->get_org("org-a");
    org.name = "renamed";
    org.plan = "free";
    org.is_suspended = true;
    org.allow_networks = {"*", "127.0.0.0/8"};
    org.updated_at = kNow + 3;
    assert_int_equal(code_of(world.store->update_org(org)), kOk);
    auto read = world.store->get_org("org-a");
    assert_true(read->name == "renamed" && read->plan == "free" && read->is_suspended && read->updated_at == kNow + 3);
    auto target = world.store->delivery_target("wh-1");
    assert_true(target->org_suspended && target->allow_networks == org.allow_networks);
    assert_true(target->generation > before);
    org.id = "org-z";
    assert_int_equal(code_of(world.store->update_org(org)), kNotFound);
}

inline std::vector<CMUnitTest> change_tests() {
    return {
        WORLD_TEST(test_webhook_update_replaces_what_an_owner_chooses),
        WORLD_TEST(test_webhook_update_of_another_version_is_a_conflict),
        WORLD_TEST(test_webhook_active_again_is_no_longer_failing),
        WORLD_TEST(test_webhook_secret_rotation_lets_the_old_one_expire),
        WORLD_TEST(test_org_update_reaches_deliveries),
    };
}

}  // namespace headgate::conformance
