// Store conformance: another master key. See store_conformance.h.
#pragma once

#include "lua-free-tests/store_conformance.h"
#include "sidecar/store/secret_box.h"

namespace headgate::conformance {

inline const std::string kNewKey(32, 'n');

// Why the store does not open with these keys; empty: it does.
inline std::string refusal_of(World& world, const std::vector<std::string>& keys) {
    try {
        (void)world.factory->open_with(keys);
        return {};
    } catch (const std::runtime_error& refused) {
        return refused.what();
    }
}
inline bool needs_another_key(const std::string& refusal) {
    return refusal.find("the master key is not the one") != std::string::npos;
}

inline std::int64_t values_under(Store& store, bool is_current) {
    auto sealed = store.sealed_under();
    if (!sealed) throw std::runtime_error(sealed.error().message);
    std::int64_t values = 0;
    for (const Store::SealedUnder& row : *sealed) values += row.is_current == is_current ? row.values : 0;
    return values;
}

// One pass, one row at a time; at most `steps_max` steps of it. Returns what was sealed anew.
inline std::size_t reseal_pass(Store& store, int steps_max, bool& is_done) {
    std::size_t resealed = 0;
    std::string after;
    is_done = false;
    do {
        auto step = store.reseal(after, 1);
        if (!step) throw std::runtime_error(step.error().message);
        assert_true(step->resealed <= 1);
        resealed += step->resealed;
        is_done = step->is_done;
        after = step->next;
    } while (!after.empty() && --steps_max > 0);
    return resealed;
}

// Everything that is sealed in a store: secrets, headers, a seed, a deleted webhook's, an integration's token.
inline void seal_one_of_each(World& world) {
    Webhook webhook = world.sample_webhook("wh-1");
    webhook.ed25519_seed = std::string(32, 's');
    World::require(world.store->create_webhook(webhook).has_value());
    world.add_webhook("wh-2");
    World::require(world.store->delete_webhook("org-a", "wh-2", kNow).has_value());
    auto token = SecretBox::make(kMasterKey, {})->seal("token", "integrations|access_token|i1");
    (void)world.factory->run_sql(
        "INSERT INTO integrations (id, organization_id, integration_type, name, access_token, created_at, updated_at)"
        " VALUES ('i1', 'org-a', 'slack', 'n', '" +
        *token + "', 0, 0)");
}

inline void test_master_key_is_replaced_step_by_step(void** state) {
    World& world = world_of(state);
    seal_one_of_each(world);
    const std::int64_t values = values_under(*world.store, true);
    assert_int_equal(values, 4 + 4 + 1 + 1);  // secrets and headers of two webhooks, a seed, a token
    assert_true(needs_another_key(refusal_of(world, {kNewKey})));

    auto store = world.factory->open_with({kNewKey, kMasterKey});
    World::require(store->migrate().has_value());
    assert_true(needs_another_key(refusal_of(world, {kMasterKey})));  // from here on something may need the new one
    assert_string_equal(refusal_of(world, {kMasterKey, kNewKey}).c_str(), "");
    assert_int_equal(values_under(*store, false), values);
    bool is_done = true;
    assert_int_equal(reseal_pass(*store, 3, is_done), 3);  // and it ends there
    assert_false(is_done);
    assert_true(needs_another_key(refusal_of(world, {kNewKey})));
    auto read = store->get_webhook("org-a", "wh-1");
    assert_true(read.has_value() && read->secrets.size() == 2);

    // Begun anew, what was sealed before is left as it is. Headers of one webhook are one value to write.
    store = world.factory->open_with({kNewKey, kMasterKey});
    assert_int_equal(reseal_pass(*store, 1000, is_done), 4 + 2 + 1 + 1 - 3);
    assert_true(is_done);
    assert_int_equal(reseal_pass(*store, 1000, is_done), 0);
    assert_true(is_done);
    assert_int_equal(values_under(*store, true), values);
    assert_true(needs_another_key(refusal_of(world, {kMasterKey})));
    store = world.factory->open_with({kNewKey});
    read = store->get_webhook("org-a", "wh-1");
    const Webhook expected = world.sample_webhook("wh-1");
    assert_true(read.has_value() && read->headers == expected.headers && read->ed25519_seed == std::string(32, 's'));
    assert_true(read->secrets[0].key_bytes == expected.secrets[0].key_bytes && read->version == 1);
    auto token = SecretBox::make(kNewKey, {})
                     ->open(world.factory->run_sql("SELECT access_token FROM integrations WHERE id = 'i1'"),
                            "integrations|access_token|i1");
    assert_true(token.has_value() && *token == "token");
}

// One that still has the old key as its current one goes on sealing with it: the store asks for that key again.
inline void test_master_key_that_still_seals_is_asked_for(void** state) {
    World& world = world_of(state);
    world.add_webhook("wh-1");
    auto store = world.factory->open_with({kNewKey, kMasterKey});
    World::require(store->migrate().has_value());
    bool is_done = false;
    (void)reseal_pass(*store, 1000, is_done);
    assert_true(is_done && refusal_of(world, {kNewKey}).empty());
    world.add_webhook("wh-2");
    assert_true(needs_another_key(refusal_of(world, {kNewKey})));
    (void)reseal_pass(*store, 1000, is_done);
    assert_true(is_done && refusal_of(world, {kNewKey}).empty());
    assert_true(world.factory->open_with({kNewKey})->get_webhook("org-a", "wh-2").has_value());
}

// A value whose key nobody gave stops the work where it is, and says where.
inline void test_master_key_that_is_missing_is_named(void** state) {
    World& world = world_of(state);
    world.add_webhook("wh-1");
    auto strange = SecretBox::make(std::string(32, 'x'), {});
    (void)world.factory->run_sql("UPDATE webhooks SET ed25519_seed = '" +
                                 *strange->seal("seed", "webhooks|ed25519_seed|wh-1") + "' WHERE id = 'wh-1'");
    auto sealed = world.store->sealed_under();
    assert_true(sealed.has_value() && sealed->size() == 2);
    for (const Store::SealedUnder& row : *sealed) assert_int_equal(row.is_given, row.kid != strange->kid());
    std::string after;
    Result<Store::ResealStep> step;
    do {
        step = world.store->reseal(after, 10);
        if (step) after = step->next;
    } while (step && !after.empty());
    assert_int_equal(code_of(step), kNotFound);
    assert_true(step.error().message.find("webhooks|ed25519_seed|wh-1") != std::string::npos &&
                step.error().message.find(strange->kid()) != std::string::npos);
}

inline std::vector<CMUnitTest> master_key_tests() {
    return {
        WORLD_TEST(test_master_key_is_replaced_step_by_step),
        WORLD_TEST(test_master_key_that_still_seals_is_asked_for),
        WORLD_TEST(test_master_key_that_is_missing_is_named),
    };
}

}  // namespace headgate::conformance
