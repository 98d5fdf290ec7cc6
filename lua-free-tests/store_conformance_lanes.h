// Store conformance: who lost a lane writes nothing for it. See store_conformance.h.
#pragma once

#include "lua-free-tests/store_conformance.h"
#include "lua-free-tests/store_conformance_delivery.h"

namespace headgate::conformance {

inline void test_lane_late_result_is_counted_and_not_written(void** state) {
    World& world = world_of(state);
    OneDelivery one(world);
    OwnedPartsPtr late = world.hand_over();
    AttemptRecord attempt = world.attempt(one.delivery, AttemptOutcome::kDead);
    attempt.disable_webhook_reason = "410 Gone";
    auto recorded = world.store->record_attempts({&attempt, 1}, late->lane_epochs);
    assert_true(recorded.has_value() && recorded->late == 1);
    assert_true(world.state_of(one.event.id) == "in_flight/pending");
    assert_true(world.store->attempts_of_delivery("org-a", one.delivery.delivery_id)->empty());
    assert_true(world.store->get_webhook("org-a", "wh-1")->is_active);
    recorded = world.store->record_attempts({&attempt, 1}, world.owned->lane_epochs);
    assert_true(recorded.has_value() && recorded->late == 0);
    assert_true(world.state_of(one.event.id) == "dead/failed");
}

inline void test_lane_that_is_not_ours_is_not_claimed(void** state) {
    World& world = world_of(state);
    world.add_webhook("wh-1");
    world.add_webhook("wh-2");
    World::require(lane_of("wh-1") != lane_of("wh-2"));
    World::require(world.persist({{.org = "org-a"}}).has_value());
    std::vector<std::int64_t> some = world.owned->lane_epochs;
    some[static_cast<std::size_t>(lane_of("wh-1"))] = 0;
    auto claimed = world.store->claim_due({kNow, 10, some, [](std::string_view) { return 10; }});
    assert_true(claimed.has_value() && claimed->size() == 1 && (*claimed)[0].webhook_id == "wh-2");
    assert_false(world.store->next_due_at(some)->has_value());
    assert_false(world.store->oldest_due_at(kNow, some, {})->has_value());
    OwnedPartsPtr late = world.hand_over();
    claimed = world.store->claim_due({kNow, 10, late->lane_epochs, [](std::string_view) { return 10; }});
    assert_true(claimed.has_value() && claimed->empty());
    assert_int_equal(world.claim(kNow, 10, 10).size(), 1);
}

inline void test_lane_that_is_not_ours_is_persisted_unclaimed(void** state) {
    World& world = world_of(state);
    world.add_webhook("wh-1");
    world.add_webhook("wh-2");
    auto mixed = std::make_shared<OwnedParts>(*world.owned);
    mixed->lane_epochs[static_cast<std::size_t>(lane_of("wh-1"))]++;  // an epoch that it does not have
    auto outcome = world.persist({{.org = "org-a"}}, true, mixed);
    assert_true(outcome.has_value() && outcome->deliveries.size() == 2);
    for (const PersistedDelivery& delivery : outcome->deliveries) {
        assert_int_equal(delivery.claimed, delivery.webhook_id == "wh-2");
    }
    assert_int_equal(world.claim(kNow, 10, 10).size(), 1);
}

inline void test_lane_recovery_is_of_the_lanes_named(void** state) {
    World& world = world_of(state);
    world.add_webhook("wh-1");
    world.add_webhook("wh-2");
    World::require(world.persist({{.org = "org-a"}}, true).has_value());
    OwnedPartsPtr late = world.hand_over();
    const int lane = lane_of("wh-2");
    assert_int_equal(code_of(world.store->recover_in_flight({&lane, 1}, late->lane_epochs, kNow)), kLeaseLost);
    auto recovered = world.store->recover_in_flight({&lane, 1}, world.owned->lane_epochs, kNow);
    assert_true(recovered.has_value() && *recovered == 1);
    auto claimed = world.claim(kNow, 10, 10);
    assert_true(claimed.size() == 1 && claimed[0].webhook_id == "wh-2");
    recovered = world.store->recover_in_flight(every_lane(), world.owned->lane_epochs, kNow);
    assert_true(recovered.has_value() && *recovered == 2);
}

inline void test_spread_overdue_is_even_and_spares_the_young(void** state) {
    World& world = world_of(state);
    world.add_webhook("wh-1");
    World::require(world.add_deliveries(60, kNow - 100'000).size() == 60);
    World::require(world.add_deliveries(1, kNow - 10).size() == 1);
    const TimeMs now = kNow;
    OwnedPartsPtr late = world.hand_over();
    auto refused = world.store->spread_overdue(every_lane(), late->lane_epochs, now, 1000, 60'000);
    assert_true(!refused.has_value() || *refused == 0);
    const int other_lane = (lane_of("wh-1") + 1) % kLanes;
    assert_int_equal(*world.store->spread_overdue({&other_lane, 1}, world.owned->lane_epochs, now, 1000, 60'000), 0);
    auto spread = world.store->spread_overdue(every_lane(), world.owned->lane_epochs, now, 1000, 60'000);
    assert_true(spread.has_value() && *spread == 60);
    assert_int_equal(world.claim(now, 100, 100).size(), 2);  // the young one, and the first
    for (int second = 1; second < 60; second++) {
        assert_true(world.claim(now + second * 1000 - 1, 100, 100).empty());
        assert_int_equal(world.claim(now + second * 1000, 100, 100).size(), 1);
    }
}

// An hour ahead, then set back: what was written meanwhile waits as long as it was to wait, not an hour more.
inline void test_times_set_by_a_clock_ahead_are_mended(void** state) {
    constexpr TimeMs kHour = 3'600'000;
    World& world = world_of(state);
    world.add_webhook("wh-1");
    auto before = world.persist({{.org = "org-a"}}, true, nullptr, kNow);
    auto ahead = world.persist({{.org = "org-a"}, {.org = "org-a"}}, true, nullptr, kNow + kHour);
    World::require(before.has_value() && ahead.has_value() && ahead->deliveries.size() == 2);
    auto fail_at = [&](const PersistedDelivery& delivery, TimeMs at, TimeMs delay) {
        AttemptRecord attempt = world.attempt(delivery, AttemptOutcome::kRetry);
        attempt.finished_at = at;
        attempt.next_attempt_at = at + delay;
        World::require(record(world, attempt) == kOk);
    };
    fail_at(before->deliveries[0], kNow, 2 * kHour);
    fail_at(ahead->deliveries[0], kNow + kHour, 30'000);
    World::require(world.store
                       ->record_attempts(std::vector{world.attempt(ahead->deliveries[1], AttemptOutcome::kSuccess)},
                                         world.owned->lane_epochs)
                       .has_value());
    World::require(world.persist({{.org = "org-a"}}, false, nullptr, kNow + kHour).has_value());  // queued
    const int other_lane = (lane_of("wh-1") + 1) % kLanes;
    assert_int_equal(*world.store->spread_overdue({&other_lane, 1}, world.owned->lane_epochs, kNow, 1000, 60'000), 0);
    assert_int_equal(*world.store->spread_overdue(every_lane(), world.owned->lane_epochs, kNow, 1000, 60'000), 2);
    assert_int_equal(world.claim(kNow, 10, 10).size(), 1);  // the queued one
    assert_true(world.claim(kNow + 29'999, 10, 10).empty());
    auto claimed = world.claim(kNow + 30'000, 10, 10);
    assert_true(claimed.size() == 1 && claimed[0].delivery_id == ahead->deliveries[0].delivery_id);
    assert_true(world.claim(kNow + 2 * kHour - 1, 10, 10).empty());  // a long delay is no clock ahead
    assert_int_equal(world.claim(kNow + 2 * kHour, 10, 10).size(), 1);
    assert_int_equal(*world.store->spread_overdue(every_lane(), world.owned->lane_epochs, kNow, 1000, 60'000), 0);
}

inline std::vector<CMUnitTest> lane_tests() {
    return {
        WORLD_TEST(test_lane_late_result_is_counted_and_not_written),
        WORLD_TEST(test_lane_that_is_not_ours_is_not_claimed),
        WORLD_TEST(test_lane_that_is_not_ours_is_persisted_unclaimed),
        WORLD_TEST(test_lane_recovery_is_of_the_lanes_named),
        WORLD_TEST(test_spread_overdue_is_even_and_spares_the_young),
        WORLD_TEST(test_times_set_by_a_clock_ahead_are_mended),
    };
}

}  // namespace headgate::conformance
