// Store conformance: replays. See store_conformance.h.
#pragma once

#include "lua-free-tests/store_conformance.h"
#include "lua-free-tests/store_conformance_delivery.h"

namespace headgate::conformance {

// Six events at kNow + 0 … 5. The webhook came after the first two; of the others one is dead, one cancelled, one
// succeeded, and one was not wanted by anybody.
struct Missed {
    explicit Missed(World& in) : world(in) {
        add(2);
        Webhook webhook = world.sample_webhook("wh-1");
        webhook.events = {"order.created"};
        World::require(world.store->create_webhook(webhook).has_value());
        add(3);
        World::require(deliveries.size() == 3);
        AttemptRecord results[] = {world.attempt(deliveries[0], AttemptOutcome::kDead),
                                   world.attempt(deliveries[1], AttemptOutcome::kSuccess)};
        World::require(world.store->record_attempts(results, world.owned->lane_epochs).has_value());
        World::require(world.store->cancel_delivery("org-a", deliveries[2].delivery_id, kNow).has_value());
        events.push_back({.org = "org-a", .type = "user.created", .at = kNow + 5});
        World::require(world.persist({events.back()}).has_value());
    }
    void add(int count) {
        for (int i = 0; i < count; i++) {
            events.push_back({.org = "org-a", .at = kNow + static_cast<TimeMs>(events.size())});
            auto outcome = world.persist({events.back()});
            World::require(outcome.has_value());
            deliveries.insert(deliveries.end(), outcome->deliveries.begin(), outcome->deliveries.end());
        }
    }
    [[nodiscard]] Replay replay(const std::string& id, const std::string& which) const {
        Replay replay;
        replay.id = id;
        replay.org = "org-a";
        replay.webhook_id = "wh-1";
        replay.since = kNow;
        replay.until = kNow + 1000;
        replay.which = which;
        replay.created_at = replay.updated_at = kNow + 2000;
        return replay;
    }
    static bool wants(const EventRecord& event) { return event.type == "order.created"; }
    std::size_t advance(const std::string& id, std::size_t queued_max = 100) {
        auto made = world.store->advance_replay(id, wants, queued_max, kNow + 3000);
        World::require(made.has_value());
        return *made;
    }
    Replay get(const std::string& id) { return *world.store->get_replay("org-a", id); }

    World& world;
    std::vector<SampleEvent> events;
    std::vector<PersistedDelivery> deliveries;
};

inline void test_replay_counts_missing_failed_and_all(void** state) {
    World& world = world_of(state);
    Missed missed(world);
    auto count = [&](const Replay& replay) { return world.store->count_replay(replay, Missed::wants).value_or(-1); };
    assert_int_equal(count(missed.replay("r", "missing")), 2);
    assert_int_equal(count(missed.replay("r", "failed")), 2);
    assert_int_equal(count(missed.replay("r", "all")), 5);
    Replay part = missed.replay("r", "all");
    part.since = kNow + 1;
    part.until = kNow + 4;
    assert_int_equal(count(part), 3);
    part.which = "some";
    assert_int_equal(code_of(world.store->count_replay(part, Missed::wants)),
                     static_cast<int>(ErrorCode::kInvalidArgument));
    part.which = "all";
    part.org = "org-b";
    assert_int_equal(code_of(world.store->create_replay(part, Missed::wants)), kNotFound);
}

inline void test_replay_makes_unordered_deliveries_and_ends(void** state) {
    World& world = world_of(state);
    Missed missed(world);
    auto made = world.store->create_replay(missed.replay("r-1", "missing"), Missed::wants);
    assert_true(made.has_value() && made->total == 2 && made->made == 0 && made->state == "running");
    assert_int_equal(world.store->running_replays()->size(), 1);
    assert_int_equal(missed.advance("r-1"), 2);
    Replay done = missed.get("r-1");
    assert_true(done.state == "done" && done.made == 2 && done.total == 2 && done.since == kNow &&
                done.which == "missing");
    assert_true(world.store->running_replays()->empty());
    assert_int_equal(missed.advance("r-1"), 0);
    auto claimed = world.claim(kNow + 3000, 10, 10);
    assert_int_equal(claimed.size(), 2);
    assert_true(claimed[0].event->id == missed.events[0].id && claimed[1].event->id == missed.events[1].id);
    auto delivery = world.store->get_delivery("org-a", claimed[0].delivery_id);
    assert_true(delivery->kind == "replay" && delivery->created_at == kNow + 3000 && delivery->ordering_key.empty());
    // Their results count for the replay, not for the webhook.
    auto before = world.store->webhook_stats("org-a", "wh-1");
    PersistedDelivery first{claimed[0].delivery_id, "wh-1", 0, 0, true};
    PersistedDelivery second{claimed[1].delivery_id, "wh-1", 0, 0, true};
    World::require(record(world, world.attempt(first, AttemptOutcome::kSuccess)) == kOk);
    World::require(record(world, world.attempt(second, AttemptOutcome::kRetry)) == kOk);
    assert_true(missed.get("r-1").succeeded == 1 && missed.get("r-1").failed == 0);
    World::require(record(world, world.attempt(second, AttemptOutcome::kDead, 2)) == kOk);
    assert_true(missed.get("r-1").succeeded == 1 && missed.get("r-1").failed == 1);
    auto after = world.store->webhook_stats("org-a", "wh-1");
    assert_true(after->total == before->total && after->failed == before->failed);
    // Nothing is missing now; one more has failed.
    assert_int_equal(*world.store->count_replay(missed.replay("r", "missing"), Missed::wants), 0);
    assert_int_equal(*world.store->count_replay(missed.replay("r", "failed"), Missed::wants), 3);
}

inline void test_replay_goes_on_bit_by_bit_after_a_restart(void** state) {
    World& world = world_of(state);
    Missed missed(world);
    World::require(world.store->create_replay(missed.replay("r-1", "all"), Missed::wants).has_value());
    assert_int_equal(missed.advance("r-1", 2), 2);
    assert_int_equal(missed.advance("r-1", 2), 0);  // two are unfinished
    assert_true(missed.get("r-1").state == "running" && missed.get("r-1").made == 2);
    missed.add(1);  // delivered by itself: no part of it, however late it is
    world.store.reset();
    world.store = world.factory->open();
    std::vector<std::string> sent;
    for (int round = 0; round < 10; round++) {
        for (const ClaimedDelivery& claimed : world.claim(kNow + 3000, 10, 10)) {
            if (world.store->get_delivery("org-a", claimed.delivery_id)->kind == "replay")
                sent.push_back(claimed.event->id);
            PersistedDelivery delivery{claimed.delivery_id, "wh-1", 0, 0, true};
            World::require(record(world, world.attempt(delivery, AttemptOutcome::kSuccess)) == kOk);
        }
        missed.advance("r-1", 2);
    }
    Replay done = missed.get("r-1");
    assert_true(done.state == "done" && done.made == 5 && done.total == 5 && done.succeeded == 5);
    assert_int_equal(sent.size(), 5);
    for (std::size_t i = 0; i < 5; i++) assert_true(sent[i] == missed.events[i].id);
}

inline void test_replay_paused_and_cancelled_make_nothing(void** state) {
    World& world = world_of(state);
    Missed missed(world);
    World::require(world.store->create_replay(missed.replay("r-1", "all"), Missed::wants).has_value());
    auto set = [&](const char* to) { return world.store->set_replay_state("org-a", "r-1", to, kNow + 2500); };
    auto paused = set("paused");
    assert_true(paused.has_value() && paused->state == "paused" && paused->updated_at == kNow + 2500);
    assert_int_equal(missed.advance("r-1"), 0);
    assert_true(world.store->running_replays()->empty());
    assert_true(set("running")->state == "running");
    assert_int_equal(missed.advance("r-1", 1), 1);
    assert_true(set("cancelled")->state == "cancelled");
    assert_int_equal(missed.advance("r-1"), 0);
    assert_int_equal(code_of(set("running")), kConflict);
    assert_int_equal(code_of(set("cancelled")), kOk);
    assert_int_equal(code_of(set("done")), static_cast<int>(ErrorCode::kInvalidArgument));
    assert_int_equal(code_of(world.store->set_replay_state("org-b", "r-1", "paused", kNow)), kNotFound);
    assert_int_equal(world.claim(kNow + 3000, 10, 10).size(), 1);  // what was made is sent
}

inline void test_replay_lists_and_foreigners(void** state) {
    World& world = world_of(state);
    Missed missed(world);
    World::require(world.store->create_replay(missed.replay("r-1", "all"), Missed::wants).has_value());
    World::require(world.store->create_replay(missed.replay("r-2", "failed"), Missed::wants).has_value());
    auto replays = world.store->list_replays("org-a", "wh-1");
    assert_true(replays.has_value() && replays->size() == 2 && (*replays)[0].id == "r-2" && (*replays)[0].total == 2);
    assert_true(world.store->list_replays("org-b", "wh-1")->empty());
    assert_int_equal(code_of(world.store->get_replay("org-b", "r-1")), kNotFound);
    World::require(world.store->delete_webhook("org-a", "wh-1", kNow).has_value());
    assert_true(missed.get("r-1").state == "cancelled" && world.store->running_replays()->empty());
}

// A range longer than what one transaction looks at.
inline void test_replay_of_a_long_range_is_exact(void** state) {
    World& world = world_of(state);
    world.add_webhook("wh-1", "org-a", false);
    std::vector<SampleEvent> events;
    for (int i = 0; i < 1203; i++) {
        events.push_back({.org = "org-a", .type = i % 2 == 0 ? "order.created" : "user.created", .at = kNow + i / 100});
    }
    World::require(world.persist(events).has_value());
    Replay replay;
    replay.id = "r-1";
    replay.org = "org-a";
    replay.webhook_id = "wh-1";
    replay.since = 0;
    replay.until = kNow + 12;  // the last three are later
    replay.which = "missing";
    auto created = world.store->create_replay(replay, Missed::wants);
    assert_true(created.has_value() && created->total == 600);
    std::size_t made = 0;
    for (int call = 0; call < 50 && !world.store->running_replays()->empty(); call++) {
        made += world.store->advance_replay("r-1", Missed::wants, 100'000, kNow).value_or(100'000);
    }
    assert_int_equal(made, 600);
    assert_true(world.store->get_replay("org-a", "r-1")->state == "done");
}

inline std::vector<CMUnitTest> replay_tests() {
    return {
        WORLD_TEST(test_replay_counts_missing_failed_and_all),
        WORLD_TEST(test_replay_makes_unordered_deliveries_and_ends),
        WORLD_TEST(test_replay_goes_on_bit_by_bit_after_a_restart),
        WORLD_TEST(test_replay_paused_and_cancelled_make_nothing),
        WORLD_TEST(test_replay_lists_and_foreigners),
        WORLD_TEST(test_replay_of_a_long_range_is_exact),
    };
}

}  // namespace headgate::conformance
