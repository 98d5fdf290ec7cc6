// Store conformance: organizations, keys, projection, webhooks, inbox. See store_conformance.h.
#pragma once

#include "lua-free-tests/store_conformance.h"

namespace headgate::conformance {

inline void test_migrate_again_applies_nothing(void** state) {
    World& world = world_of(state);
    auto again = world.store->migrate();
    assert_int_equal(code_of(again), kOk);
    assert_int_equal(*again, 0);
    auto version = world.store->schema_version();
    assert_true(version.has_value() && *version >= 1);
}

inline void test_org_create_get_list_and_duplicates(void** state) {
    World& world = world_of(state);
    world.add_org("org-b", true);
    auto org = world.store->get_org("org-b");
    assert_int_equal(code_of(org), kOk);
    assert_true(org->name == "org-b" && org->plan == "pro" && org->is_suspended);
    assert_true(org->allow_networks == std::vector<std::string>{"10.0.0.0/8"});
    assert_int_equal(org->created_at, kNow);
    auto all = world.store->list_orgs();
    assert_true(all.has_value() && all->size() == 2);
    assert_int_equal(code_of(world.store->create_org(*org)), kConflict);
    assert_int_equal(code_of(world.store->get_org("org-z")), kNotFound);
}

inline ApiKey sample_key(const std::string& id, const std::string& org) {
    ApiKey key;
    key.id = id;
    key.key_hash = "hash-of-" + id;
    key.key_prefix = "hg_abcdefgh";
    key.org = org;
    key.name = "name";
    key.scopes = "events:write inbox:read";
    key.allowed_ips = "10.0.0.0/8 ::1";
    key.plan = "free";
    key.limits = "60r/m";
    key.expires_at = kNow + 1;
    key.created_at = key.updated_at = kNow;
    return key;
}

inline void test_key_round_trip_and_organizations_apart(void** state) {
    World& world = world_of(state);
    Store& store = *world.store;
    world.add_org("org-b");
    assert_int_equal(code_of(store.create_key(sample_key("key-1", "org-a"))), kOk);
    assert_int_equal(code_of(store.create_key(sample_key("key-1", "org-a"))), kConflict);
    assert_int_equal(code_of(store.create_key(sample_key("key-2", "org-z"))), kNotFound);
    auto key = store.get_key("org-a", "key-1");
    assert_int_equal(code_of(key), kOk);
    assert_true(key->scopes == "events:write inbox:read" && key->allowed_ips == "10.0.0.0/8 ::1");
    assert_true(key->plan == "free" && key->limits == "60r/m" && key->is_active && key->user_id.empty());
    assert_true(key->expires_at == kNow + 1 && !key->last_used_at);
    assert_int_equal(code_of(store.get_key("org-b", "key-1")), kNotFound);
    assert_int_equal(code_of(store.revoke_key("org-b", "key-1", kNow)), kNotFound);
    assert_true(store.list_keys("org-b")->empty());
    assert_int_equal(store.list_keys("org-a")->size(), 1);
    assert_true(store.find_key_by_hash("hash-of-key-1")->id == "key-1");
    assert_int_equal(code_of(store.find_key_by_hash("hash-of-nobody")), kNotFound);
    assert_true(store.get_key_any_org("key-1")->org == "org-a");
}

inline void test_keys_after_pages_by_id(void** state) {
    Store& store = *world_of(state).store;
    for (const char* id : {"key-3", "key-1", "key-2"})
        World::require(store.create_key(sample_key(id, "org-a")).has_value());
    auto first = store.keys_after("", 2);
    assert_true(first.has_value() && first->size() == 2 && (*first)[0].id == "key-1" && (*first)[1].id == "key-2");
    auto rest = store.keys_after("key-2", 2);
    assert_true(rest.has_value() && rest->size() == 1 && (*rest)[0].id == "key-3");
}

inline void test_key_changes_leave_projections_in_order(void** state) {
    Store& store = *world_of(state).store;
    World::require(store.create_key(sample_key("key-1", "org-a")).has_value());
    World::require(store.revoke_key("org-a", "key-1", kNow).has_value());
    World::require(store.revoke_key("org-a", "key-1", kNow + 5).has_value());  // a second time changes nothing
    auto entries = store.pending_projections(10);
    assert_true(entries.has_value() && entries->size() == 3);
    assert_true((*entries)[0].op == "key" && (*entries)[0].ref == "key-1");
    assert_true((*entries)[1].op == "key" && (*entries)[1].ref == "key-1");
    assert_true((*entries)[2].op == "revoke" && (*entries)[2].ref == "key:key-1");
    assert_int_equal((*entries)[2].until, kNow + kRevocationKeptMs);
    assert_int_equal(store.pending_projections(1)->size(), 1);
    assert_int_equal(code_of(store.finish_projections((*entries)[1].id)), kOk);
    auto left = store.pending_projections(10);
    assert_true(left.has_value() && left->size() == 1 && left->front().op == "revoke");
    assert_false(store.get_key("org-a", "key-1")->is_active);
    assert_false(store.find_key_by_hash("hash-of-key-1")->is_active);
}

inline void test_revocations_until_they_may_be_forgotten(void** state) {
    Store& store = *world_of(state).store;
    World::require(store.create_key(sample_key("key-1", "org-a")).has_value());
    World::require(store.revoke_key("org-a", "key-1", kNow).has_value());
    auto known = store.revocations(kNow + kRevocationKeptMs - 1);
    assert_true(known.has_value() && known->size() == 1 && known->front().ref == "key:key-1");
    assert_true(store.revocations(kNow + kRevocationKeptMs)->empty());
}

inline void test_webhook_round_trip_with_secrets(void** state) {
    World& world = world_of(state);
    Webhook given = world.sample_webhook("wh-1");
    given.ordering = "key";
    choose_everything(given);
    assert_int_equal(code_of(world.store->create_webhook(given)), kOk);
    assert_int_equal(code_of(world.store->create_webhook(given)), kConflict);
    assert_int_equal(code_of(world.store->create_webhook(world.sample_webhook("wh-2", "org-z"))), kNotFound);
    auto webhook = world.store->get_webhook("org-a", "wh-1");
    assert_int_equal(code_of(webhook), kOk);
    assert_true(webhook->headers == given.headers && webhook->events == given.events);
    assert_int_equal(webhook->secrets.size(), 2);
    assert_true(webhook->secrets[0].key_bytes == given.secrets[0].key_bytes && !webhook->secrets[0].expires_at);
    assert_true(webhook->secrets[1].key_bytes == given.secrets[1].key_bytes &&
                webhook->secrets[1].expires_at == kNow + 5000);
    assert_true(webhook->retry.schedule_ms == given.retry.schedule_ms && webhook->retry.max_retries == 3);
    assert_true(webhook->retry.backoff_multiplier == 2.5 && webhook->retry.retry_delay_ms == 5);
    assert_true(chose_everything(*webhook) && webhook->ordering == "key" && !webhook->failing_since);
    assert_true(webhook->timeout_ms == 12'345 && webhook->max_in_flight == 7 && webhook->filters == given.filters);
    assert_true(webhook->is_active && webhook->version == 1 && !webhook->last_triggered_at);
    auto target = world.store->delivery_target("wh-1");
    assert_int_equal(code_of(target), kOk);
    assert_true(target->webhook.secrets[0].key_bytes == given.secrets[0].key_bytes);
    assert_true(chose_everything(target->webhook));
    assert_true(target->allow_networks == std::vector<std::string>{"10.0.0.0/8"} && !target->is_deleted);
    assert_int_equal(code_of(world.store->delivery_target("wh-9")), kNotFound);
}

inline void test_webhook_foreign_organization_sees_nothing(void** state) {
    World& world = world_of(state);
    Store& store = *world.store;
    world.add_org("org-b");
    world.add_webhook("wh-1");
    assert_int_equal(code_of(store.get_webhook("org-b", "wh-1")), kNotFound);
    assert_int_equal(code_of(store.webhook_stats("org-b", "wh-1")), kNotFound);
    assert_int_equal(code_of(store.delete_webhook("org-b", "wh-1", kNow)), kNotFound);
    auto list = store.list_webhooks("org-b", {});
    assert_true(list.has_value() && list->webhooks.empty() && list->total == 0 && list->total_webhooks == 0);
    assert_int_equal(code_of(store.get_webhook("org-a", "wh-1")), kOk);
}

inline void test_webhook_delete_is_soft_and_raises_generation(void** state) {
    World& world = world_of(state);
    Store& store = *world.store;
    world.add_webhook("wh-1");
    std::int64_t before = store.delivery_target("wh-1")->generation;
    assert_int_equal(code_of(store.delete_webhook("org-a", "wh-1", kNow)), kOk);
    assert_int_equal(code_of(store.delete_webhook("org-a", "wh-1", kNow)), kNotFound);
    assert_int_equal(code_of(store.get_webhook("org-a", "wh-1")), kNotFound);
    assert_true(store.list_webhooks("org-a", {})->webhooks.empty());
    auto target = store.delivery_target("wh-1");
    assert_true(target.has_value() && target->is_deleted && target->generation > before);
}

inline void test_webhook_list_filters_pages_and_counts(void** state) {
    World& world = world_of(state);
    for (int i = 1; i <= 5; i++) world.add_webhook("wh-" + std::to_string(i), "org-a", i != 3);
    auto list = [&](Store::WebhookFilter filter) { return *world.store->list_webhooks("org-a", filter); };
    auto all = list({});
    assert_true(all.total == 5 && all.total_webhooks == 5 && all.active_webhooks == 4 && !all.avg_success_rate);
    assert_true(all.webhooks.front().id == "wh-5");
    auto inactive = list({.is_active = false, .event = "", .page = {}});
    assert_true(inactive.total == 1 && inactive.webhooks.size() == 1 && inactive.webhooks[0].id == "wh-3");
    assert_int_equal(list({.is_active = {}, .event = "order.created", .page = {}}).total, 5);
    assert_int_equal(list({.is_active = {}, .event = "order", .page = {}}).total, 0);
    auto page = list({.is_active = true, .event = "", .page = {.limit = 2, .offset = 2}});
    assert_true(page.total == 4 && page.webhooks.size() == 2 && page.webhooks[0].id == "wh-2");
    assert_int_equal(list({.is_active = {}, .event = "", .page = {.limit = 5, .offset = 5}}).webhooks.size(), 0);
}

inline void test_inbox_order_limit_and_acknowledgement(void** state) {
    World& world = world_of(state);
    Store& store = *world.store;
    world.add_org("org-b");
    // Persisted in another order than they were published in.
    std::vector<SampleEvent> events = {
        {.org = "org-a", .at = kNow + 2}, {.org = "org-a", .at = kNow + 3}, {.org = "org-a", .at = kNow + 1}};
    World::require(world.persist(events).has_value());
    auto newest = store.inbox("org-a", {.limit = 100, .ascending = false});
    assert_true(newest.has_value() && newest->size() == 3);
    assert_true((*newest)[0].id == events[1].id && (*newest)[1].id == events[0].id && (*newest)[2].id == events[2].id);
    assert_true((*newest)[0].payload == events[1].payload && (*newest)[0].status == "pending");
    auto by_seq = store.inbox("org-a", {.limit = 2, .ascending = true});
    assert_true(by_seq.has_value() && by_seq->size() == 2 && (*by_seq)[0].id == events[0].id);
    assert_int_equal(code_of(store.ack_event("org-b", events[0].id, kNow)), kNotFound);
    assert_int_equal(code_of(store.get_event("org-b", events[0].id)), kNotFound);
    auto acked = store.ack_event("org-a", events[0].id, kNow + 50);
    assert_true(acked.has_value() && acked->status == "delivered" && acked->updated_at == kNow + 50);
    auto repeated = store.ack_event("org-a", events[0].id, kNow + 90);
    assert_true(repeated.has_value() && repeated->updated_at == kNow + 50);
    assert_int_equal(store.inbox("org-a", {})->size(), 2);
    assert_true(store.get_event("org-a", events[0].id)->status == "delivered");
    assert_true(store.inbox("org-b", {})->empty());
}

inline void test_store_reopened_keeps_everything(void** state) {
    World& world = world_of(state);
    world.add_webhook("wh-1");
    SampleEvent event{.org = "org-a"};
    World::require(world.persist({event}).has_value());
    world.store.reset();
    world.store = world.factory->open();
    assert_true(world.store->get_webhook("org-a", "wh-1")->secrets.size() == 2);
    assert_true(world.store->get_event("org-a", event.id)->payload == event.payload);
    assert_true(world.state_of(event.id) == "queued/pending");
    assert_int_equal(code_of(world.store->ping()), kOk);
}

inline void test_store_keeps_no_secret_in_the_clear(void** state) {
    World& world = world_of(state);
    Webhook webhook = world.sample_webhook("wh-1");
    webhook.ed25519_seed = kSeed;
    World::require(world.store->create_webhook(webhook).has_value());
    webhook.headers[0].second = "Bearer another-secret-header-value";
    World::require(world.store->update_webhook(webhook, std::nullopt).has_value());
    World::require(world.store->add_webhook_secret("org-a", "wh-1", {"third-webhook-secret", kNow, std::nullopt}, kNow)
                       .has_value());
    std::string raw = world.factory->raw_bytes();
    assert_true(raw.find("https://example.com/wh-1") != std::string::npos);  // this does look at the rows
    for (const char* secret : {"very-secret-header-value", "new-webhook-secret", "old-webhook-secret", "ed25519-seed",
                               "another-secret-header-value", "third-webhook-secret"}) {
        assert_true(raw.find(secret) == std::string::npos);
    }
}

inline std::vector<CMUnitTest> row_tests() {
    return {
        WORLD_TEST(test_migrate_again_applies_nothing),
        WORLD_TEST(test_org_create_get_list_and_duplicates),
        WORLD_TEST(test_key_round_trip_and_organizations_apart),
        WORLD_TEST(test_keys_after_pages_by_id),
        WORLD_TEST(test_key_changes_leave_projections_in_order),
        WORLD_TEST(test_revocations_until_they_may_be_forgotten),
        WORLD_TEST(test_webhook_round_trip_with_secrets),
        WORLD_TEST(test_webhook_foreign_organization_sees_nothing),
        WORLD_TEST(test_webhook_delete_is_soft_and_raises_generation),
        WORLD_TEST(test_webhook_list_filters_pages_and_counts),
        WORLD_TEST(test_inbox_order_limit_and_acknowledgement),
        WORLD_TEST(test_store_reopened_keeps_everything),
        WORLD_TEST(test_store_keeps_no_secret_in_the_clear),
    };
}

}  // namespace headgate::conformance
