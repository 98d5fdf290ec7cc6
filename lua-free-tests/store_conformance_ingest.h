// Store conformance: leases and the persist transaction. See store_conformance.h.
#pragma once

#include "lua-free-tests/store_conformance.h"

namespace headgate::conformance {

inline void test_persist_keeps_bytes_and_counts_seq_by_organization(void** state) {
    World& world = world_of(state);
    world.add_org("org-b");
    SampleEvent odd{.org = "org-a", .payload = "{\"k\": \"\xc3\xa9\\u0000 \\ud834 \x7f\", \"n\": 1e400}"};
    std::vector<SampleEvent> events = {odd, {.org = "org-b"}, {.org = "org-a"}};
    auto outcome = world.persist(events);
    assert_int_equal(code_of(outcome), kOk);
    assert_true(outcome->events_new == 3 && outcome->events_unmatched == 3 && outcome->deliveries.empty());
    assert_true(world.store->get_event("org-a", odd.id)->payload == odd.payload);
    assert_int_equal(world.store->get_event("org-a", events[0].id)->seq, 1);
    assert_int_equal(world.store->get_event("org-b", events[1].id)->seq, 1);
    assert_int_equal(world.store->get_event("org-a", events[2].id)->seq, 2);
    auto event = world.store->get_event("org-a", events[2].id);
    assert_true(event->key_id == "key-1" && event->source == "shop" && event->via == "api" &&
                event->created_at == kNow);
}

inline void test_persist_duplicates_persist_once_and_deliver_once(void** state) {
    World& world = world_of(state);
    world.add_webhook("wh-1");
    SampleEvent event{.org = "org-a"};
    auto first = world.persist({event, event});
    assert_true(first.has_value() && first->events_new == 1 && first->deliveries.size() == 1);
    auto again = world.persist({event, {.org = "org-a"}});
    assert_true(again.has_value() && again->events_new == 1 && again->deliveries.size() == 1);
    assert_int_equal(again->deliveries[0].event_index, 1);
    assert_true(world.state_of(event.id) == "queued/pending");
    auto totals = world.store->totals();
    assert_true(totals->events == 2 && totals->deliveries == 2 && totals->pending == 2);
}

inline void test_persist_claims_what_memory_has_room_for(void** state) {
    World& world = world_of(state);
    world.add_webhook("wh-1");
    world.add_webhook("wh-2");
    SampleEvent event{.org = "org-a"};
    EventRecord record = event.record();
    auto outcome = world.store->persist({.shard = 3,
                                         .shard_epochs = world.owned->shard_epochs,
                                         .lane_epochs = world.owned->lane_epochs,
                                         .events = {&record, 1},
                                         .positions = {},
                                         .quarantine = {},
                                         .now = kNow,
                                         .claim = [](std::string_view webhook_id) { return webhook_id == "wh-2"; }},
                                        world.matcher);
    assert_true(outcome.has_value() && outcome->deliveries.size() == 2);
    for (const PersistedDelivery& delivery : outcome->deliveries) {
        assert_int_equal(delivery.claimed, delivery.webhook_id == "wh-2");
        assert_true(delivery.generation > 0 && delivery.delivery_id.size() == 36);
    }
    auto rows = world.store->deliveries_of_event("org-a", event.id);
    for (const Delivery& row : *rows) {
        assert_true(row.state == (row.webhook_id == "wh-2" ? "in_flight" : "queued") && row.status == "pending");
    }
    assert_int_equal(world.claim(kNow, 10, 10).size(), 1);  // the other one is claimed already
}

inline void test_persist_suspended_organization_claims_nothing(void** state) {
    World& world = world_of(state);
    world.add_org("org-s", true);
    World::require(world.store->create_webhook(world.sample_webhook("wh-1", "org-s")).has_value());
    auto outcome = world.persist({{.org = "org-s"}}, true);
    assert_true(outcome.has_value() && outcome->deliveries.size() == 1 && !outcome->deliveries[0].claimed);
    assert_true(world.claim(kNow, 10, 10).empty());
    assert_false(world.store->next_due_at(world.owned->lane_epochs)->has_value());
    assert_false(world.store->oldest_due_at(kNow, world.owned->lane_epochs, {})->has_value());
}

inline void test_persist_reads_the_generation_each_time(void** state) {
    World& world = world_of(state);
    World::require(world.persist({{.org = "org-a"}}).has_value());
    assert_int_equal(world.matcher.loads, 1);
    // Another connection subscribes: what is persisted from then on must be matched.
    auto other = world.factory->open();
    World::require(other->create_webhook(world.sample_webhook("wh-1")).has_value());
    auto matched = world.persist({{.org = "org-a"}});
    assert_true(matched.has_value() && matched->deliveries.size() == 1);
    assert_int_equal(world.matcher.loads, 2);
    World::require(world.persist({{.org = "org-a"}}).has_value());
    assert_int_equal(world.matcher.loads, 2);
    World::require(other->delete_webhook("org-a", "wh-1", kNow).has_value());
    auto unmatched = world.persist({{.org = "org-a"}});
    assert_true(unmatched.has_value() && unmatched->deliveries.empty() && unmatched->events_unmatched == 1);
}

inline void test_persist_inactive_webhook_gets_nothing(void** state) {
    World& world = world_of(state);
    world.add_webhook("wh-1", "org-a", false);
    auto outcome = world.persist({{.org = "org-a"}});
    assert_true(outcome.has_value() && outcome->deliveries.empty() && outcome->events_unmatched == 1);
}

inline void test_persist_unknown_organization_goes_to_quarantine(void** state) {
    World& world = world_of(state);
    auto outcome = world.persist({{.org = "org-a"}, {.org = "org-z"}, {.org = "org-a"}});
    assert_true(outcome.has_value() && outcome->events_new == 2 && outcome->events_quarantined == 1);
    assert_int_equal(world.store->totals()->quarantined, 1);
}

inline void test_persist_quarantine_entries_are_kept_once(void** state) {
    World& world = world_of(state);
    std::vector<QuarantineEntry> entries = {{"5-1", "no id", std::string("*2\r\n\0", 5), 2}, {"5-1", "no id", "x", 3}};
    for (int repeat = 0; repeat < 2; repeat++) {
        auto outcome = world.store->persist({.shard_epochs = world.owned->shard_epochs,
                                             .lane_epochs = world.owned->lane_epochs,
                                             .events = {},
                                             .positions = {},
                                             .quarantine = entries,
                                             .now = kNow,
                                             .claim = {}},
                                            world.matcher);
        assert_int_equal(code_of(outcome), kOk);
    }
    assert_int_equal(world.store->totals()->quarantined, 2);
}

inline void test_persist_needs_the_current_epoch(void** state) {
    World& world = world_of(state);
    world.factory->expire_leases();
    OwnedPartsPtr taken = take_parts(*world.store, "other");
    assert_true(taken->shard_epochs[0] > world.owned->shard_epochs[0]);
    SampleEvent event{.org = "org-a"};
    assert_int_equal(code_of(world.persist({event})), kLeaseLost);
    assert_int_equal(code_of(world.store->get_event("org-a", event.id)), kNotFound);
    assert_int_equal(code_of(world.persist({event}, false, taken)), kOk);
}

inline void test_persist_shard_without_lease_is_refused(void** state) {
    World& world = world_of(state);  // shards 0 to 3 are leased
    SampleEvent event{.org = "org-a"};
    EventRecord record = event.record();
    auto persist_at = [&](int shard) {
        StreamPosition position{shard, 1, 1};
        return code_of(world.store->persist({.shard_epochs = world.owned->shard_epochs,
                                             .lane_epochs = world.owned->lane_epochs,
                                             .events = {&record, 1},
                                             .positions = {&position, 1},
                                             .quarantine = {},
                                             .now = kNow,
                                             .claim = {}},
                                            world.matcher));
    };
    assert_int_equal(persist_at(4), kLeaseLost);
    assert_int_equal(persist_at(3), kOk);
}

// A matcher that throws must cost neither the connection nor what stands before it in the batch.
inline void test_persist_failing_matcher_rolls_back(void** state) {
    World& world = world_of(state);
    SampleEvent good{.org = "org-a"};
    SampleEvent poison{.org = "org-a", .type = "poison.pill"};
    assert_int_equal(code_of(world.persist({good, poison})), kUnprocessable);
    assert_int_equal(code_of(world.store->get_event("org-a", good.id)), kNotFound);
    auto outcome = world.persist({good});
    assert_true(outcome.has_value() && outcome->events_new == 1);
    assert_int_equal(world.store->get_event("org-a", good.id)->seq, 1);
}

inline std::vector<CMUnitTest> ingest_tests() {
    return {
        WORLD_TEST(test_persist_keeps_bytes_and_counts_seq_by_organization),
        WORLD_TEST(test_persist_duplicates_persist_once_and_deliver_once),
        WORLD_TEST(test_persist_claims_what_memory_has_room_for),
        WORLD_TEST(test_persist_suspended_organization_claims_nothing),
        WORLD_TEST(test_persist_reads_the_generation_each_time),
        WORLD_TEST(test_persist_inactive_webhook_gets_nothing),
        WORLD_TEST(test_persist_unknown_organization_goes_to_quarantine),
        WORLD_TEST(test_persist_quarantine_entries_are_kept_once),
        WORLD_TEST(test_persist_needs_the_current_epoch),
        WORLD_TEST(test_persist_shard_without_lease_is_refused),
        WORLD_TEST(test_persist_failing_matcher_rolls_back),
    };
}

}  // namespace headgate::conformance
