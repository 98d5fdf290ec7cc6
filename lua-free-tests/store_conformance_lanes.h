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

// All parts of it: how many got a new time, or the error's code, negative. More than 60 s ago is overdue, spread over
// a minute.
inline int spread_all(World& world, std::vector<int> lanes, OwnedPartsPtr owned, TimeMs now) {
    OverdueSpread spread;
    spread.lanes = std::move(lanes);
    spread.lane_epochs = owned->lane_epochs;
    spread.now = now;
    spread.overdue_ms = 1000;
    spread.spread_ms = 60'000;
    while (!spread.is_done()) {
        if (auto done = world.store->spread_overdue(spread); !done) return -1 - code_of(done);
    }
    return static_cast<int>(spread.spread + spread.mended);
}

inline void test_spread_overdue_is_even_and_spares_the_young(void** state) {
    World& world = world_of(state);
    world.add_webhook("wh-1");
    World::require(world.add_deliveries(60, kNow - 100'000).size() == 60);
    World::require(world.add_deliveries(1, kNow - 10).size() == 1);
    const TimeMs now = kNow;
    OwnedPartsPtr late = world.hand_over();
    assert_true(spread_all(world, every_lane(), late, now) <= 0);
    const int other_lane = (lane_of("wh-1") + 1) % kLanes;
    assert_int_equal(spread_all(world, {other_lane}, world.owned, now), 0);
    assert_int_equal(spread_all(world, every_lane(), world.owned, now), 60);
    assert_int_equal(world.claim(now, 100, 100).size(), 2);  // the young one, and the first
    for (int second = 1; second < 60; second++) {
        assert_true(world.claim(now + second * 1000 - 1, 100, 100).empty());
        assert_int_equal(world.claim(now + second * 1000, 100, 100).size(), 1);
    }
}

// One call touches a bounded number. Whoever is killed in between has kept what was written, and the next owner does
// the rest.
inline void test_spread_overdue_goes_in_parts_and_on_after_a_kill(void** state) {
    World& world = world_of(state);
    world.add_webhook("wh-1");
    const auto ids = world.add_deliveries(25, kNow - 100'000);
    World::require(ids.size() == 25);
    OverdueSpread spread;
    spread.lanes = every_lane();
    spread.lane_epochs = world.owned->lane_epochs;
    spread.now = kNow;
    spread.overdue_ms = 1000;
    spread.spread_ms = 25'000;
    spread.part_max = 10;
    auto due_at = [&](std::size_t i) { return world.store->get_delivery("org-a", ids[i])->due_at; };
    World::require(world.store->spread_overdue(spread).has_value());
    // Lanes that have none are settled before anything is counted or written.
    assert_int_equal(std::exchange(spread.settled, {}).size(), kLanes - 1);
    while (spread.step() == OverdueSpread::Step::kCount) {
        World::require(world.store->spread_overdue(spread).has_value());
    }
    assert_true(spread.shares().size() == 1 && spread.shares()[0].overdue == 25);
    assert_true(due_at(0) == kNow - 100'000);
    for (std::size_t part = 1; part <= 2; part++) {
        World::require(world.store->spread_overdue(spread).has_value());
        assert_int_equal(spread.spread, 10 * part);
        assert_true(due_at(10 * part - 1) == kNow + 10'000 * static_cast<TimeMs>(part) - 1000);
        assert_true(due_at(10 * part) == kNow - 100'000 + 10 * static_cast<TimeMs>(part));
        assert_true(spread.settled.empty());
    }
    OwnedPartsPtr late = world.hand_over();
    assert_int_equal(code_of(world.store->spread_overdue(spread)), kLeaseLost);
    assert_int_equal(spread_all(world, every_lane(), world.owned, kNow + 500), 5);
    assert_true(due_at(19) == kNow + 19'000);  // as it was
    for (std::size_t i = 20; i < 25; i++) assert_true(due_at(i) == kNow + 500 + 12'000 * static_cast<TimeMs>(i - 20));
}

// A count goes in parts as well, whatever they end on.
inline void test_spread_overdue_counts_exactly(void** state) {
    World& world = world_of(state);
    world.add_webhook("wh-1");
    for (int i = 0; i < 3; i++) {  // 20 of the same time, three times
        std::vector<SampleEvent> events(20);
        for (SampleEvent& event : events) event = {.id = uuid7(kNow), .org = "org-a"};
        World::require(world.persist(events, false, nullptr, kNow - 100'000 + i).has_value());
    }
    for (std::size_t part_max : {1, 2, 3}) {
        OverdueSpread spread;
        spread.lanes = every_lane();
        spread.lane_epochs = world.owned->lane_epochs;
        spread.now = kNow;
        spread.overdue_ms = 1000;
        spread.part_max = part_max;
        int calls = -1;
        for (; spread.step() <= OverdueSpread::Step::kCount; calls++) {
            World::require(world.store->spread_overdue(spread).has_value());
        }
        assert_true(spread.shares().size() == 1 && spread.shares()[0].overdue == 60);
        assert_int_equal(calls, 60 / (25 * part_max) + 1);
    }
}

// Each webhook's by themselves, one after the other by lane; those with one each do not begin together.
inline void test_spread_overdue_is_even_over_many_webhooks(void** state) {
    World& world = world_of(state);
    for (int i = 0; i < 12; i++) world.add_webhook("wh-" + std::to_string(i));
    World::require(world.persist({{.org = "org-a"}}, false, nullptr, kNow - 100'000).has_value());
    OverdueSpread spread;
    spread.lanes = every_lane();
    spread.lane_epochs = world.owned->lane_epochs;
    spread.now = kNow;
    spread.overdue_ms = 1000;
    spread.spread_ms = 60'000;
    spread.part_max = 5;
    std::vector<int> settled;
    for (int call = 0; call < 100 && !spread.is_done(); call++) {
        World::require(world.store->spread_overdue(spread).has_value());
        settled.insert(settled.end(), spread.settled.begin(), spread.settled.end());
        spread.settled.clear();
    }
    assert_true(spread.is_done() && spread.spread == 12 && spread.mended == 0);
    std::sort(settled.begin(), settled.end());
    assert_true(settled == every_lane());  // each once
    for (int second = 0; second < 60; second++) {
        assert_int_equal(world.claim(kNow + second * 1000, 100, 100).size(), second % 5 == 0);
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
    assert_int_equal(spread_all(world, {other_lane}, world.owned, kNow), 0);
    assert_int_equal(spread_all(world, every_lane(), world.owned, kNow), 2);
    assert_int_equal(world.claim(kNow, 10, 10).size(), 1);  // the queued one
    assert_true(world.claim(kNow + 29'999, 10, 10).empty());
    auto claimed = world.claim(kNow + 30'000, 10, 10);
    assert_true(claimed.size() == 1 && claimed[0].delivery_id == ahead->deliveries[0].delivery_id);
    assert_true(world.claim(kNow + 2 * kHour - 1, 10, 10).empty());  // a long delay is no clock ahead
    assert_int_equal(world.claim(kNow + 2 * kHour, 10, 10).size(), 1);
    assert_int_equal(spread_all(world, every_lane(), world.owned, kNow), 0);
}

inline std::vector<CMUnitTest> lane_tests() {
    return {
        WORLD_TEST(test_lane_late_result_is_counted_and_not_written),
        WORLD_TEST(test_lane_that_is_not_ours_is_not_claimed),
        WORLD_TEST(test_lane_that_is_not_ours_is_persisted_unclaimed),
        WORLD_TEST(test_lane_recovery_is_of_the_lanes_named),
        WORLD_TEST(test_spread_overdue_is_even_and_spares_the_young),
        WORLD_TEST(test_spread_overdue_goes_in_parts_and_on_after_a_kill),
        WORLD_TEST(test_spread_overdue_counts_exactly),
        WORLD_TEST(test_spread_overdue_is_even_over_many_webhooks),
        WORLD_TEST(test_times_set_by_a_clock_ahead_are_mended),
    };
}

}  // namespace headgate::conformance
