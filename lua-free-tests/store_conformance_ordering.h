// Store conformance: the head of an ordering key, what it holds back, and what lets it go. See store_conformance.h.
#pragma once

#include "lua-free-tests/store_conformance.h"
#include "lua-free-tests/store_conformance_delivery.h"

namespace headgate::conformance {

// Three events of one key ("k") and one of another ("other"), in this order, for one ordered webhook.
struct Ordered {
    Ordered(World& in, OrderingPolicy policy) : world(in) {
        Webhook webhook = world.sample_webhook("wh-1");
        webhook.ordering = "key";
        webhook.ordering_policy = policy;
        World::require(world.store->create_webhook(webhook).has_value());
        for (const char* key : {"k", "k", "other", "k"}) events.push_back({.org = "org-a", .ordering_key = key});
        persist(events, true, 1000);
    }
    void persist(const std::vector<SampleEvent>& more, bool claims, std::uint64_t ms) {
        std::vector<EventRecord> records;
        std::vector<StreamPosition> positions;
        for (const SampleEvent& event : more) {
            records.push_back(event.record());
            positions.push_back({1, ms + positions.size(), 0});
        }
        auto outcome = world.store->persist({.shard_epochs = world.owned->shard_epochs,
                                             .lane_epochs = world.owned->lane_epochs,
                                             .events = records,
                                             .positions = positions,
                                             .quarantine = {},
                                             .now = kNow,
                                             .claim = [claims](std::string_view) { return claims; }},
                                            world.matcher);
        World::require(outcome.has_value() && outcome->deliveries.size() == more.size());
        deliveries.insert(deliveries.end(), outcome->deliveries.begin(), outcome->deliveries.end());
    }
    // How many deliveries were released by it; -1 when it failed.
    int record(std::size_t index, AttemptOutcome outcome, int number = 1) {
        AttemptRecord attempt = world.attempt(deliveries[index], outcome, number);
        auto recorded = world.store->record_attempts({&attempt, 1}, world.owned->lane_epochs);
        return recorded ? static_cast<int>(recorded->released) : -1;
    }
    std::string state(std::size_t index) {
        auto delivery = world.store->get_delivery("org-a", deliveries[index].delivery_id);
        return delivery ? delivery->state : "none";
    }
    [[nodiscard]] const std::string& id(std::size_t index) const { return deliveries[index].delivery_id; }

    World& world;
    std::vector<SampleEvent> events;
    std::vector<PersistedDelivery> deliveries;
};

inline void test_order_head_is_sent_and_the_rest_waits(void** state) {
    World& world = world_of(state);
    Ordered order(world, OrderingPolicy::kDead);
    assert_true(order.state(0) == "in_flight" && order.state(1) == "blocked" && order.state(2) == "in_flight" &&
                order.state(3) == "blocked");
    assert_true(order.deliveries[0].claimed && !order.deliveries[1].claimed && order.deliveries[2].claimed);
    assert_true(world.store->get_delivery("org-a", order.id(1))->ordering_key == "k");
    // Nobody may start what waits for another: neither a claim nor /health sees it.
    assert_true(world.claim(kNow + 1'000'000, 10, 10).empty());
    assert_false(world.store->next_due_at(world.owned->lane_epochs)->has_value());
    assert_false(world.store->oldest_due_at(kNow + 1'000'000, world.owned->lane_epochs, {})->has_value());
    assert_int_equal(world.store->totals()->pending, 2);
}

inline void test_order_success_releases_one_by_one(void** state) {
    World& world = world_of(state);
    Ordered order(world, OrderingPolicy::kBlock);
    order.persist({{.org = "org-a", .ordering_key = "k"}}, true, 2000);
    assert_int_equal(order.record(0, AttemptOutcome::kSuccess), 1);
    assert_true(order.state(1) == "queued" && order.state(3) == "blocked" && order.state(4) == "blocked");
    assert_int_equal(order.record(0, AttemptOutcome::kSuccess), 0);  // a late repetition lets nobody else go
    assert_true(order.state(3) == "blocked");
    for (std::size_t next : {1, 3, 4}) {
        auto claimed = world.claim(kNow + 30, 10, 10);
        assert_true(claimed.size() == 1 && claimed[0].delivery_id == order.id(next));
        assert_int_equal(order.record(next, AttemptOutcome::kSuccess), next == 4 ? 0 : 1);
    }
    order.persist({{.org = "org-a", .ordering_key = "k"}}, true, 3000);  // the key is free again
    assert_true(order.state(5) == "in_flight");
}

// The order is the stream's, not that of the transactions.
inline void test_order_is_by_stream_position(void** state) {
    World& world = world_of(state);
    Ordered order(world, OrderingPolicy::kDead);
    order.persist({{.org = "org-a", .ordering_key = "k"}}, true, 500);
    assert_int_equal(order.record(0, AttemptOutcome::kSuccess), 1);
    assert_true(order.state(4) == "queued" && order.state(1) == "blocked");
}

inline void test_order_dead_policy_waits_for_the_end(void** state) {
    World& world = world_of(state);
    Ordered order(world, OrderingPolicy::kDead);
    assert_int_equal(order.record(0, AttemptOutcome::kRetry), 0);
    assert_true(order.state(0) == "retrying" && order.state(1) == "blocked");
    assert_int_equal(order.record(0, AttemptOutcome::kDead, 2), 1);
    assert_true(order.state(0) == "dead" && order.state(1) == "queued" && order.state(3) == "blocked");
}

inline void test_order_skip_policy_goes_on_after_the_first_failure(void** state) {
    World& world = world_of(state);
    Ordered order(world, OrderingPolicy::kSkip);
    assert_int_equal(order.record(0, AttemptOutcome::kRetry), 1);
    assert_true(order.state(0) == "retrying" && order.state(1) == "queued");
    assert_int_equal(order.record(0, AttemptOutcome::kDead, 2), 0);  // it holds nothing any more
    assert_true(order.state(3) == "blocked");
    assert_int_equal(order.record(1, AttemptOutcome::kRetry), 1);
    assert_true(order.state(3) == "queued");
}

inline void test_order_block_policy_waits_for_an_operator(void** state) {
    World& world = world_of(state);
    Ordered order(world, OrderingPolicy::kBlock);
    assert_int_equal(order.record(0, AttemptOutcome::kDead), 0);
    assert_true(order.state(0) == "dead" && order.state(1) == "blocked");
    order.persist({{.org = "org-a", .ordering_key = "k"}}, true, 2000);
    assert_true(order.state(4) == "blocked");
    // Retried without success it holds on; with success it lets go.
    assert_int_equal(code_of(world.store->retry_delivery("org-a", order.id(0), kNow + 50)), kOk);
    World::require(world.claim(kNow + 50, 10, 10).size() == 1);
    assert_int_equal(order.record(0, AttemptOutcome::kDead, 2), 0);
    assert_int_equal(code_of(world.store->retry_delivery("org-a", order.id(0), kNow + 60)), kOk);
    assert_int_equal(order.record(0, AttemptOutcome::kSuccess, 3), 1);
    assert_true(order.state(1) == "queued");
    // Cancelling the head lets go as well, also when it is dead.
    assert_int_equal(order.record(1, AttemptOutcome::kDead), 0);
    assert_int_equal(code_of(world.store->cancel_delivery("org-a", order.id(1), kNow + 70)), kOk);
    assert_true(order.state(1) == "cancelled" && order.state(3) == "queued");
    assert_int_equal(code_of(world.store->cancel_delivery("org-a", order.id(3), kNow + 70)), kOk);
    assert_true(order.state(4) == "queued");
    assert_int_equal(order.record(4, AttemptOutcome::kCancelled), 0);
}

inline void test_order_interrupted_head_stays_the_head(void** state) {
    World& world = world_of(state);
    Ordered order(world, OrderingPolicy::kSkip);
    assert_int_equal(order.record(0, AttemptOutcome::kInterrupted), 0);
    assert_true(order.state(0) == "queued" && order.state(1) == "blocked");
    World::require(world.store->recover_in_flight(every_lane(), world.owned->lane_epochs, kNow).has_value());
    assert_true(order.state(1) == "blocked");
}

inline void test_order_events_without_key_are_not_ordered(void** state) {
    World& world = world_of(state);
    Ordered order(world, OrderingPolicy::kDead);
    order.persist({{.org = "org-a"}, {.org = "org-a"}}, true, 2000);
    assert_true(order.state(4) == "in_flight" && order.state(5) == "in_flight");
}

inline void test_order_two_webhooks_do_not_wait_for_each_other(void** state) {
    World& world = world_of(state);
    Webhook first = world.sample_webhook("wh-1");
    first.ordering = "key";
    Webhook second = world.sample_webhook("wh-2");
    second.ordering = "key";
    World::require(world.store->create_webhook(first) && world.store->create_webhook(second));
    world.add_webhook("wh-3");  // not ordered
    auto outcome = world.persist({{.org = "org-a", .ordering_key = "k"}, {.org = "org-a", .ordering_key = "k"}}, true);
    World::require(outcome.has_value() && outcome->deliveries.size() == 6);
    std::string claimed;
    for (const PersistedDelivery& delivery : outcome->deliveries) claimed += delivery.claimed ? 'y' : 'n';
    assert_string_equal(claimed.c_str(), "yyynny");
}

inline void test_order_given_up_releases_all(void** state) {
    World& world = world_of(state);
    Ordered order(world, OrderingPolicy::kBlock);
    World::require(order.record(0, AttemptOutcome::kDead) == 0);
    Webhook webhook = *world.store->get_webhook("org-a", "wh-1");
    webhook.ordering_policy = OrderingPolicy::kDead;  // the dead head holds no longer
    World::require(world.store->update_webhook(webhook, std::nullopt).has_value());
    assert_true(order.state(1) == "queued" && order.state(3) == "blocked");
    webhook.ordering = "";
    World::require(world.store->update_webhook(webhook, std::nullopt).has_value());
    assert_true(order.state(3) == "queued");
    assert_int_equal(order.record(1, AttemptOutcome::kSuccess), 0);
}

inline void test_order_deleted_webhook_cancels_what_waits(void** state) {
    World& world = world_of(state);
    Ordered order(world, OrderingPolicy::kDead);
    World::require(world.store->delete_webhook("org-a", "wh-1", kNow).has_value());
    for (std::size_t i = 0; i < 4; i++) assert_true(order.state(i) == "cancelled");
}

inline std::vector<CMUnitTest> ordering_tests() {
    return {
        WORLD_TEST(test_order_head_is_sent_and_the_rest_waits),
        WORLD_TEST(test_order_success_releases_one_by_one),
        WORLD_TEST(test_order_is_by_stream_position),
        WORLD_TEST(test_order_dead_policy_waits_for_the_end),
        WORLD_TEST(test_order_skip_policy_goes_on_after_the_first_failure),
        WORLD_TEST(test_order_block_policy_waits_for_an_operator),
        WORLD_TEST(test_order_interrupted_head_stays_the_head),
        WORLD_TEST(test_order_events_without_key_are_not_ordered),
        WORLD_TEST(test_order_two_webhooks_do_not_wait_for_each_other),
        WORLD_TEST(test_order_given_up_releases_all),
        WORLD_TEST(test_order_deleted_webhook_cancels_what_waits),
    };
}

}  // namespace headgate::conformance
