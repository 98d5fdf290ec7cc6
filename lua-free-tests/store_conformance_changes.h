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

// What the outbox got since the last time: "key k1, revoke key:k1".
inline std::string take_outbox(World& world) {
    auto entries = world.store->pending_projections(100);
    World::require(entries.has_value());
    std::vector<std::string> words;
    for (const auto& entry : *entries) words.push_back(entry.op + " " + entry.ref);
    if (!entries->empty()) World::require(world.store->finish_projections(entries->back().id).has_value());
    std::sort(words.begin(), words.end());
    std::string text;
    for (const std::string& word : words) text += (text.empty() ? "" : ", ") + word;
    return text;
}
inline ApiKey key_of_plan(const std::string& id, const std::string& plan, const std::string& org = "org-a") {
    ApiKey key;
    key.id = key.name = id;
    key.key_hash = "hash-of-" + id;
    key.org = org;
    key.plan = plan;
    key.created_at = key.updated_at = kNow;
    return key;
}

// Keys are refused while their organization is suspended; one that was revoked stays so at the end.
inline void test_org_suspension_is_projected_and_taken_back(void** state) {
    World& world = world_of(state);
    Store& store = *world.store;
    world.add_org("org-b");
    for (const char* id : {"k1", "k2", "k3"}) World::require(store.create_key(key_of_plan(id, "pro")).has_value());
    World::require(store.create_key(key_of_plan("foreign", "pro", "org-b")).has_value());
    World::require(store.revoke_key("org-a", "k2", kNow).has_value());
    (void)take_outbox(world);
    Organization org = *store.get_org("org-a");
    org.is_suspended = true;
    org.updated_at = kNow + 7;
    World::require(store.update_org(org).has_value());
    assert_string_equal(take_outbox(world).c_str(), "key k1, key k2, key k3, revoke key:k1, revoke key:k3");
    assert_true(store.get_key_any_org("k1")->is_org_suspended && store.get_key_any_org("k1")->is_active);
    assert_false(store.get_key_any_org("foreign")->is_org_suspended);
    auto revocations = store.revocations(kNow);
    assert_int_equal(revocations->size(), 3);
    assert_int_equal(revocations->front().until, kNow + 7 + kRevocationKeptMs);
    World::require(store.update_org(org).has_value());  // nothing new
    assert_string_equal(take_outbox(world).c_str(), "");
    World::require(store.revoke_key("org-a", "k3", kNow + 8).has_value());
    (void)take_outbox(world);
    org.is_suspended = false;
    World::require(store.update_org(org).has_value());
    assert_string_equal(take_outbox(world).c_str(), "key k1, key k2, key k3, unrevoke key:k1");
    revocations = store.revocations(kNow);
    assert_true(revocations->size() == 2 && revocations->front().ref == "key:k2" &&
                revocations->back().ref == "key:k3");
    assert_false(store.get_key_any_org("k1")->is_org_suspended);
}

// Deliveries of a suspended organization wait, and go on behind its end; so does what came meanwhile.
inline void test_org_suspended_keeps_its_deliveries(void** state) {
    World& world = world_of(state);
    world.add_webhook("wh-1");
    World::require(world.persist({{.org = "org-a"}}).has_value());
    Organization org = *world.store->get_org("org-a");
    org.is_suspended = true;
    World::require(world.store->update_org(org).has_value());
    auto meanwhile = world.persist({{.org = "org-a"}}, true);
    assert_true(meanwhile.has_value() && meanwhile->deliveries.size() == 1 && !meanwhile->deliveries[0].claimed);
    assert_int_equal(world.claim(kNow + 1, 10, 10).size(), 0);
    org.is_suspended = false;
    World::require(world.store->update_org(org).has_value());
    assert_int_equal(world.claim(kNow + 1, 10, 10).size(), 2);
}

inline void test_org_plan_goes_to_the_keys_that_have_it(void** state) {
    World& world = world_of(state);
    Store& store = *world.store;
    World::require(store.create_key(key_of_plan("k1", "pro")).has_value());
    World::require(store.create_key(key_of_plan("k2", "free")).has_value());
    (void)take_outbox(world);
    Organization org = *store.get_org("org-a");  // pro
    org.plan = "enterprise";
    World::require(store.update_org(org).has_value());
    assert_true(store.get_key_any_org("k1")->plan == "enterprise" && store.get_key_any_org("k2")->plan == "free");
    assert_string_equal(take_outbox(world).c_str(), "key k1, key k2");
    assert_true(store.revocations(0)->empty());
}

// Told twice, in the wrong order, by one who is late, or by a Redis that has begun anew: each use counts once.
inline void test_usage_is_carried_once(void** state) {
    World& world = world_of(state);
    Store& store = *world.store;
    World::require(store.create_key(key_of_plan("k1", "pro")).has_value());
    World::require(store.create_key(key_of_plan("k2", "pro")).has_value());
    auto tell = [&](std::vector<Store::KeyUsage> usage) {
        return code_of(store.carry_usage(usage, world.owned->shard_epochs));
    };
    auto shown = [&](const char* id) {
        const ApiKey key = *store.get_key_any_org(id);
        return std::to_string(key.usage_count) + " at " +
               (key.last_used_at ? std::to_string(*key.last_used_at - kNow) : "never");
    };
    assert_string_equal(shown("k1").c_str(), "0 at never");
    assert_int_equal(tell({{"k1", "m", 5, kNow + 1}, {"k2", "n", 1, kNow}, {"nobody", "o", 1, kNow}}), kOk);
    assert_int_equal(tell({{"k1", "m", 5, kNow + 1}}), kOk);
    assert_string_equal(shown("k1").c_str(), "5 at 1");
    assert_int_equal(tell({{"k1", "m", 9, kNow + 4}}), kOk);
    assert_int_equal(tell({{"k1", "m", 7, kNow + 3}}), kOk);
    assert_int_equal(tell({{"k1", "m", 9, kNow + 4}}), kOk);
    assert_string_equal(shown("k1").c_str(), "9 at 4");
    assert_int_equal(tell({{"k1", "m", 8, kNow + 5}}), kOk);  // Redis was restored from an older copy, and went on
    assert_string_equal(shown("k1").c_str(), "9 at 5");
    assert_int_equal(tell({{"k1", "another", 2, kNow + 6}}), kOk);
    assert_string_equal(shown("k1").c_str(), "11 at 6");
    assert_string_equal(shown("k2").c_str(), "1 at 0");
    const ApiKey key = *store.get_key_any_org("k1");
    assert_true(key.usage_mark == "another" && key.usage_seen == 2 && key.updated_at == kNow);
    const OwnedPartsPtr late = world.hand_over();
    const Store::KeyUsage more{"k1", "another", 50, kNow + 9};
    assert_int_equal(code_of(store.carry_usage({&more, 1}, late->shard_epochs)), kLeaseLost);
    assert_string_equal(shown("k1").c_str(), "11 at 6");
}

inline std::vector<CMUnitTest> change_tests() {
    return {
        WORLD_TEST(test_webhook_update_replaces_what_an_owner_chooses),
        WORLD_TEST(test_webhook_update_of_another_version_is_a_conflict),
        WORLD_TEST(test_webhook_active_again_is_no_longer_failing),
        WORLD_TEST(test_webhook_secret_rotation_lets_the_old_one_expire),
        WORLD_TEST(test_org_update_reaches_deliveries),
        WORLD_TEST(test_org_suspension_is_projected_and_taken_back),
        WORLD_TEST(test_org_suspended_keeps_its_deliveries),
        WORLD_TEST(test_org_plan_goes_to_the_keys_that_have_it),
        WORLD_TEST(test_usage_is_carried_once),
    };
}

}  // namespace headgate::conformance
