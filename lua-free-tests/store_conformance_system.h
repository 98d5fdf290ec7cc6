// Store conformance: operational events, and webhooks that only fail. See store_conformance.h.
#pragma once

#include "lua-free-tests/store_conformance.h"
#include "lua-free-tests/store_conformance_delivery.h"

namespace headgate::conformance {

// A webhook that names operational events, and one ("wh-all") that wants everything else.
inline void add_listeners(World& world) {
    Webhook webhook = world.sample_webhook("wh-ops");
    webhook.events = {"webhook.disabled", "webhook.delivery.exhausted"};
    World::require(world.store->create_webhook(webhook).has_value());
    webhook = world.sample_webhook("wh-all");
    webhook.events = {"*"};
    webhook.is_active = false;
    World::require(world.store->create_webhook(webhook).has_value());
    World::require(world.store->set_webhook_active("org-a", "wh-all", true, "", kNow).has_value());
}

// The types of the operational events made, in order: "disabled exhausted ".
inline std::string relayed(World& world, TimeMs now) {
    auto count = world.store->relay_system_events(world.matcher, 100, now);
    World::require(count.has_value());
    std::string types;
    for (const ClaimedDelivery& claimed : world.claim(now, 100, 100)) {
        if (claimed.event->via != "system") continue;
        types += claimed.event->type.substr(claimed.event->type.rfind('.') + 1) + " ";
    }
    return types;
}

inline void test_system_event_of_an_exhausted_delivery(void** state) {
    World& world = world_of(state);
    OneDelivery one(world);
    add_listeners(world);
    World::require(record(world, world.attempt(one.delivery, AttemptOutcome::kRetry)) == kOk);
    assert_int_equal(*world.store->relay_system_events(world.matcher, 10, kNow + 50), 0);
    World::require(record(world, world.attempt(one.delivery, AttemptOutcome::kDead, 2)) == kOk);
    World::require(record(world, world.attempt(one.delivery, AttemptOutcome::kDead, 3)) == kOk);  // finished before
    assert_int_equal(*world.store->relay_system_events(world.matcher, 10, kNow + 60), 1);
    assert_int_equal(*world.store->relay_system_events(world.matcher, 10, kNow + 70), 0);
    auto claimed = world.claim(kNow + 60, 10, 10);
    assert_true(claimed.size() == 1 && claimed[0].webhook_id == "wh-ops");  // "*" does not name it
    const Event& event = *claimed[0].event;
    assert_true(event.type == "webhook.delivery.exhausted" && event.via == "system" && event.org == "org-a");
    assert_true(event.payload.find(one.delivery.delivery_id) != std::string::npos &&
                event.payload.find(one.event.id) != std::string::npos &&
                event.payload.find("wh-1") != std::string::npos);
    assert_true(event.seq > 1 && event.source == "headgate");
    // Its own death raises nothing more.
    PersistedDelivery delivery{claimed[0].delivery_id, "wh-ops", 0, 0, true};
    AttemptRecord attempt = world.attempt(delivery, AttemptOutcome::kDead);
    attempt.disable_webhook_reason = "410 Gone";
    World::require(record(world, attempt) == kOk);
    assert_false(world.store->get_webhook("org-a", "wh-ops")->is_active);
    assert_int_equal(*world.store->relay_system_events(world.matcher, 10, kNow + 80), 0);
}

inline void test_system_event_of_a_webhook_that_is_gone(void** state) {
    World& world = world_of(state);
    OneDelivery one(world);
    add_listeners(world);
    AttemptRecord attempt = world.attempt(one.delivery, AttemptOutcome::kDead);
    attempt.disable_webhook_reason = "410 Gone";
    World::require(record(world, attempt) == kOk);
    assert_string_equal(relayed(world, kNow + 60).c_str(), "exhausted disabled ");
    World::require(world.store->set_webhook_active("org-a", "wh-1", false, "by hand", kNow).has_value());
    assert_string_equal(relayed(world, kNow + 70).c_str(), "");
}

inline void test_system_events_are_relayed_in_bits(void** state) {
    World& world = world_of(state);
    world.add_webhook("wh-1");
    add_listeners(world);
    auto outcome = world.persist({{.org = "org-a"}, {.org = "org-a"}, {.org = "org-a"}}, true);
    World::require(outcome.has_value());
    for (const PersistedDelivery& delivery : outcome->deliveries) {
        if (delivery.webhook_id != "wh-1") continue;
        World::require(record(world, world.attempt(delivery, AttemptOutcome::kDead)) == kOk);
    }
    assert_int_equal(*world.store->relay_system_events(world.matcher, 2, kNow), 2);
    assert_int_equal(*world.store->relay_system_events(world.matcher, 2, kNow), 1);
    assert_int_equal(*world.store->relay_system_events(world.matcher, 2, kNow), 0);
}

inline void test_failing_since_ends_with_a_success(void** state) {
    World& world = world_of(state);
    world.add_webhook("wh-1");
    auto outcome =
        world.persist({{.org = "org-a"}, {.org = "org-a"}, {.org = "org-a"}, {.org = "org-a"}, {.org = "org-a"}}, true);
    World::require(outcome.has_value() && outcome->deliveries.size() == 5);
    auto attempt_at = [&](std::size_t index, AttemptOutcome result, TimeMs at) {
        AttemptRecord attempt = world.attempt(outcome->deliveries[index], result);
        attempt.finished_at = at;
        return attempt;
    };
    auto failing_since = [&] { return world.store->get_webhook("org-a", "wh-1")->failing_since.value_or(0); };
    World::require(record(world, attempt_at(0, AttemptOutcome::kInterrupted, kNow + 1)) == kOk);
    assert_int_equal(failing_since(), 0);
    World::require(record(world, attempt_at(0, AttemptOutcome::kRetry, kNow + 2)) == kOk);
    World::require(record(world, attempt_at(0, AttemptOutcome::kRetry, kNow + 3)) == kOk);
    assert_int_equal(failing_since(), kNow + 2);
    World::require(record(world, attempt_at(1, AttemptOutcome::kSuccess, kNow + 4)) == kOk);
    assert_int_equal(failing_since(), 0);
    // Within one batch: what comes after the last success.
    AttemptRecord batch[] = {attempt_at(2, AttemptOutcome::kRetry, kNow + 5),
                             attempt_at(3, AttemptOutcome::kSuccess, kNow + 6),
                             attempt_at(4, AttemptOutcome::kDead, kNow + 7)};
    World::require(world.store->record_attempts(batch, world.owned->lane_epochs).has_value());
    assert_int_equal(failing_since(), kNow + 7);
}

inline void test_failing_for_days_disables_the_webhook(void** state) {
    World& world = world_of(state);
    OneDelivery one(world);
    add_listeners(world);
    auto fail_at = [&](TimeMs at) {
        AttemptRecord attempt = world.attempt(one.delivery, AttemptOutcome::kRetry);
        attempt.finished_at = at;
        World::require(record(world, attempt) == kOk);
        return world.store->get_webhook("org-a", "wh-1");
    };
    assert_true(fail_at(kNow)->is_active);
    assert_true(fail_at(kNow + kFailingDisabledAfterMs - 1)->is_active);
    auto webhook = fail_at(kNow + kFailingDisabledAfterMs);
    assert_true(!webhook->is_active && !webhook->disabled_reason.empty() && webhook->version == 2);
    assert_string_equal(relayed(world, kNow + kFailingDisabledAfterMs).c_str(), "disabled ");
    // Made active by hand it gets as long again.
    World::require(world.store->set_webhook_active("org-a", "wh-1", true, "", kNow).has_value());
    assert_true(fail_at(kNow + kFailingDisabledAfterMs + 1)->is_active);
}

inline std::vector<CMUnitTest> system_tests() {
    return {
        WORLD_TEST(test_system_event_of_an_exhausted_delivery), WORLD_TEST(test_system_event_of_a_webhook_that_is_gone),
        WORLD_TEST(test_system_events_are_relayed_in_bits),     WORLD_TEST(test_failing_since_ends_with_a_success),
        WORLD_TEST(test_failing_for_days_disables_the_webhook),
    };
}

}  // namespace headgate::conformance
