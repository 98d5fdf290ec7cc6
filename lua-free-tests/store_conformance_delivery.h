// Store conformance: claims, results, recovery, counters. See store_conformance.h.
#pragma once

#include "lua-free-tests/store_conformance.h"

namespace headgate::conformance {

// One webhook and one claimed delivery of it.
struct OneDelivery {
    explicit OneDelivery(World& world) {
        world.add_webhook("wh-1");
        auto outcome = world.persist({event}, true);
        World::require(outcome.has_value() && outcome->deliveries.size() == 1);
        delivery = outcome->deliveries[0];
    }
    SampleEvent event{.org = "org-a"};
    PersistedDelivery delivery;
};

inline int record(World& world, const AttemptRecord& attempt) {
    return code_of(world.store->record_attempts({&attempt, 1}, world.owned->lane_epochs));
}

inline void test_attempt_success_finishes_and_counts(void** state) {
    World& world = world_of(state);
    OneDelivery one(world);
    AttemptRecord attempt = world.attempt(one.delivery, AttemptOutcome::kSuccess);
    assert_int_equal(record(world, attempt), kOk);
    assert_true(world.state_of(one.event.id) == "success/success");
    auto webhook = world.store->get_webhook("org-a", "wh-1");
    assert_true(webhook->success_count == 1 && webhook->failure_count == 0);
    assert_true(webhook->last_triggered_at == attempt.finished_at && webhook->version == 1);
    auto stats = world.store->webhook_stats("org-a", "wh-1");
    assert_true(stats->total == 1 && stats->success == 1 && stats->avg_response_time_ms == 20.0 &&
                stats->last_response_time_ms == 20.0);
    auto attempts = world.store->attempts_of_delivery("org-a", one.delivery.delivery_id);
    assert_true(attempts.has_value() && attempts->size() == 1);
    assert_true((*attempts)[0].response_body == "the answer" && (*attempts)[0].status_code == 200 &&
                (*attempts)[0].request_headers == attempt.request_headers);
    assert_int_equal(code_of(world.store->attempts_of_delivery("org-b", one.delivery.delivery_id)), kNotFound);
    assert_true(world.store->deliveries_of_event("org-b", one.event.id)->empty());
}

inline void test_attempt_retry_waits_until_due_and_counts_once(void** state) {
    World& world = world_of(state);
    OneDelivery one(world);
    assert_int_equal(record(world, world.attempt(one.delivery, AttemptOutcome::kRetry)), kOk);
    assert_true(world.state_of(one.event.id) == "retrying/failed");
    assert_true(world.store->get_webhook("org-a", "wh-1")->failure_count == 0);
    assert_true(*world.store->next_due_at(world.owned->lane_epochs) == kNow + 60'000);
    assert_false(world.store->oldest_due_at(kNow + 60'000, world.owned->lane_epochs, {})
                     ->has_value());  // a retry is not free to start
    assert_true(world.claim(kNow + 59'999, 10, 10).empty());
    auto claimed = world.claim(kNow + 60'000, 10, 10);
    assert_true(claimed.size() == 1 && claimed[0].attempts == 1 && claimed[0].delivery_id == one.delivery.delivery_id);
    assert_true(claimed[0].event->payload == one.event.payload && claimed[0].event->seq == 1);
    assert_true(world.state_of(one.event.id) == "in_flight/failed");
    assert_int_equal(record(world, world.attempt(one.delivery, AttemptOutcome::kDead, 2)), kOk);
    assert_true(world.state_of(one.event.id) == "dead/failed");
    auto webhook = world.store->get_webhook("org-a", "wh-1");
    assert_true(webhook->success_count == 0 && webhook->failure_count == 1);
    assert_int_equal(world.store->attempts_of_delivery("org-a", one.delivery.delivery_id)->size(), 2);
}

inline void test_attempt_interrupted_uses_up_nothing(void** state) {
    World& world = world_of(state);
    OneDelivery one(world);
    AttemptRecord attempt = world.attempt(one.delivery, AttemptOutcome::kInterrupted);
    attempt.next_attempt_at = kNow + 30;
    assert_int_equal(record(world, attempt), kOk);
    assert_true(world.state_of(one.event.id) == "queued/pending");
    auto claimed = world.claim(kNow + 30, 10, 10);
    assert_true(claimed.size() == 1 && claimed[0].attempts == 0);
    auto webhook = world.store->get_webhook("org-a", "wh-1");
    assert_true(webhook->success_count == 0 && webhook->failure_count == 0 && !webhook->last_triggered_at);
}

inline void test_attempt_cancelled_counts_nothing(void** state) {
    World& world = world_of(state);
    OneDelivery one(world);
    assert_int_equal(record(world, world.attempt(one.delivery, AttemptOutcome::kCancelled)), kOk);
    assert_true(world.state_of(one.event.id) == "cancelled/cancelled");
    assert_int_equal(world.store->webhook_stats("org-a", "wh-1")->total, 0);
}

inline void test_attempt_of_finished_delivery_keeps_only_its_row(void** state) {
    World& world = world_of(state);
    OneDelivery one(world);
    World::require(record(world, world.attempt(one.delivery, AttemptOutcome::kSuccess)) == kOk);
    assert_int_equal(record(world, world.attempt(one.delivery, AttemptOutcome::kRetry, 2)), kOk);
    assert_true(world.state_of(one.event.id) == "success/success");
    assert_int_equal(world.store->webhook_stats("org-a", "wh-1")->total, 1);
    assert_int_equal(world.store->attempts_of_delivery("org-a", one.delivery.delivery_id)->size(), 2);
}

// One record that has lost its delivery must not take the others of its batch with it.
inline void test_attempt_of_unknown_delivery_spares_the_others(void** state) {
    World& world = world_of(state);
    OneDelivery one(world);
    AttemptRecord attempts[] = {world.attempt(one.delivery, AttemptOutcome::kSuccess),
                                world.attempt(one.delivery, AttemptOutcome::kSuccess)};
    attempts[0].delivery_id = "no-such-delivery";
    assert_int_equal(code_of(world.store->record_attempts(attempts, world.owned->lane_epochs)), kOk);
    assert_true(world.state_of(one.event.id) == "success/success");
    assert_int_equal(world.store->webhook_stats("org-a", "wh-1")->total, 1);
}

inline void test_attempt_without_its_row_changes_its_delivery(void** state) {
    World& world = world_of(state);
    OneDelivery one(world);
    AttemptRecord attempt = world.attempt(one.delivery, AttemptOutcome::kSuccess);
    attempt.is_kept = false;
    assert_int_equal(record(world, attempt), kOk);
    assert_true(world.state_of(one.event.id) == "success/success");
    assert_true(world.store->attempts_of_delivery("org-a", one.delivery.delivery_id)->empty());
    assert_int_equal(world.store->webhook_stats("org-a", "wh-1")->success, 1);
}

// What waits for its retry follows its webhook: it stays while that is disabled, goes on when it is enabled again, with
// the new configuration, and is cancelled with it.
inline void test_retry_pending_follows_its_webhook(void** state) {
    World& world = world_of(state);
    OneDelivery one(world);
    World::require(record(world, world.attempt(one.delivery, AttemptOutcome::kRetry)) == kOk);
    World::require(world.store->set_webhook_active("org-a", "wh-1", false, "by hand", kNow + 1).has_value());
    assert_true(world.state_of(one.event.id) == "retrying/failed");
    assert_true(world.claim(kNow + 60'000, 10, 10).empty());
    assert_false(world.store->next_due_at(world.owned->lane_epochs)->has_value());
    Webhook change = *world.store->get_webhook("org-a", "wh-1");
    change.url = "https://example.org/elsewhere";
    change.is_active = true;
    World::require(world.store->update_webhook(change, std::nullopt).has_value());
    World::require(
        world.store->add_webhook_secret("org-a", "wh-1", {"rotated", kNow + 2, std::nullopt}, kNow + 3).has_value());
    auto claimed = world.claim(kNow + 60'000, 10, 10);
    assert_true(claimed.size() == 1 && claimed[0].attempts == 1);
    auto target = world.store->delivery_target("wh-1");
    assert_true(target->webhook.url == change.url && target->webhook.secrets.front().key_bytes == "rotated");
    assert_true(target->generation > claimed[0].generation);  // by which the dispatcher learns of it
    World::require(record(world, world.attempt(one.delivery, AttemptOutcome::kRetry, 2)) == kOk);
    World::require(world.store->delete_webhook("org-a", "wh-1", kNow + 4).has_value());
    assert_true(world.state_of(one.event.id) == "cancelled/cancelled");
    assert_true(world.claim(kNow + 1'000'000, 10, 10).empty());
}

inline void test_attempt_disables_the_webhook_once(void** state) {
    World& world = world_of(state);
    OneDelivery one(world);
    std::int64_t before = world.store->delivery_target("wh-1")->generation;
    AttemptRecord attempt = world.attempt(one.delivery, AttemptOutcome::kDead);
    attempt.disable_webhook_reason = "410 Gone";
    assert_int_equal(record(world, attempt), kOk);
    assert_int_equal(record(world, attempt), kOk);
    auto target = world.store->delivery_target("wh-1");
    assert_true(!target->webhook.is_active && target->webhook.disabled_reason == "410 Gone");
    assert_true(target->generation == before + 1 && target->webhook.version == 2);
    auto later = world.persist({{.org = "org-a"}});
    assert_true(later.has_value() && later->deliveries.empty());
}

inline void test_delete_webhook_cancels_waiting_and_in_flight(void** state) {
    World& world = world_of(state);
    OneDelivery one(world);
    auto queued = world.persist({{.org = "org-a"}});
    World::require(queued.has_value() && queued->deliveries.size() == 1);
    World::require(world.store->delete_webhook("org-a", "wh-1", kNow).has_value());
    assert_true(world.state_of(one.event.id) == "cancelled/cancelled");
    assert_true(world.claim(kNow, 10, 10).empty());
    assert_int_equal(world.store->totals()->pending, 0);
    assert_int_equal(record(world, world.attempt(one.delivery, AttemptOutcome::kSuccess)), kOk);
    assert_true(world.state_of(one.event.id) == "cancelled/cancelled");
    assert_int_equal(world.store->attempts_of_delivery("org-a", one.delivery.delivery_id)->size(), 1);
}

inline void test_summary_averages_rates_and_counts_events_once(void** state) {
    World& world = world_of(state);
    for (const char* id : {"wh-1", "wh-2", "wh-3"}) world.add_webhook(id);
    auto outcome = world.persist({{.org = "org-a"}, {.org = "org-a"}, {.org = "org-a", .type = "other"}}, true);
    World::require(outcome.has_value() && outcome->deliveries.size() == 6);
    // wh-1: one of two succeeds; wh-2: both; wh-3: nothing finished, so it has no rate.
    int of_first = 0;
    std::vector<AttemptRecord> attempts;
    for (const PersistedDelivery& delivery : outcome->deliveries) {
        if (delivery.webhook_id == "wh-3") continue;
        bool fails = delivery.webhook_id == "wh-1" && of_first++ == 0;
        attempts.push_back(world.attempt(delivery, fails ? AttemptOutcome::kDead : AttemptOutcome::kSuccess));
    }
    World::require(world.store->record_attempts(attempts, world.owned->lane_epochs).has_value());
    auto list = world.store->list_webhooks("org-a", {});
    assert_true(list->avg_success_rate && *list->avg_success_rate == 75.0);
    assert_int_equal(list->total_events, 2);
    auto totals = world.store->totals();
    assert_true(totals->success == 3 && totals->dead == 1 && totals->pending == 2 && totals->events == 3);
}

inline void test_claim_due_gives_oldest_first_within_room_and_total(void** state) {
    World& world = world_of(state);
    world.add_webhook("wh-1");
    auto ids = world.add_deliveries(6, kNow);
    auto none = world.claim(kNow + 5, 6, 0);
    assert_true(none.empty());
    auto first = world.claim(kNow + 5, 6, 2);  // room decides
    assert_true(first.size() == 2 && first[0].delivery_id == ids[0] && first[1].delivery_id == ids[1]);
    auto second = world.claim(kNow + 4, 2, 100);  // the total decides
    assert_true(second.size() == 2 && second[0].delivery_id == ids[2] && second[1].delivery_id == ids[3]);
    auto third = world.claim(kNow + 4, 10, 10);  // the clock decides
    assert_true(third.size() == 1 && third[0].delivery_id == ids[4]);
    assert_true(*world.store->next_due_at(world.owned->lane_epochs) == kNow + 5);
    assert_true(world.claim(kNow + 5, 0, 10).empty());
    assert_int_equal(world.claim(kNow + 5, 10, 10).size(), 1);
    assert_false(world.store->next_due_at(world.owned->lane_epochs)->has_value());
}

inline void test_claim_due_full_webhook_does_not_hold_back_another(void** state) {
    World& world = world_of(state);
    world.add_webhook("wh-1");
    World::require(world.add_deliveries(300, kNow).size() == 300);
    world.add_webhook("wh-2");
    SampleEvent last{.org = "org-a"};
    World::require(world.persist({last}, false, nullptr, kNow + 1000).has_value());
    int asked = 0;
    auto claimed = world.store->claim_due({kNow + 1000, 10, world.owned->lane_epochs, [&](std::string_view webhook_id) {
                                               asked++;
                                               return webhook_id == "wh-2" ? 5 : 0;
                                           }});
    assert_true(claimed.has_value() && claimed->size() == 1 && (*claimed)[0].webhook_id == "wh-2");
    assert_true((*claimed)[0].event->id == last.id);
    assert_int_equal(asked, 2);
}

inline void test_claim_due_mixes_webhooks_by_age(void** state) {
    World& world = world_of(state);
    world.add_webhook("wh-1");
    world.add_webhook("wh-2");
    World::require(world.add_deliveries(3, kNow).size() == 6);
    auto claimed = world.claim(kNow + 2, 4, 10);
    assert_int_equal(claimed.size(), 4);
    assert_true(claimed[0].event->id == claimed[1].event->id && claimed[2].event->id == claimed[3].event->id);
    assert_true(claimed[0].event == claimed[1].event);  // one copy of an event
    auto rest = world.claim(kNow + 2, 4, 10);
    assert_true(rest.size() == 2 && rest[0].event->id == rest[1].event->id);
}

inline void test_claim_due_leaves_disabled_webhooks_alone(void** state) {
    World& world = world_of(state);
    OneDelivery one(world);
    auto queued = world.persist({{.org = "org-a"}});
    World::require(queued.has_value() && queued->deliveries.size() == 1);
    assert_true(*world.store->oldest_due_at(kNow, world.owned->lane_epochs, {}) == kNow);
    AttemptRecord attempt = world.attempt(one.delivery, AttemptOutcome::kDead);
    attempt.disable_webhook_reason = "410 Gone";
    World::require(record(world, attempt) == kOk);
    assert_true(world.claim(kNow, 10, 10).empty());
    assert_false(world.store->next_due_at(world.owned->lane_epochs)->has_value());
    assert_false(world.store->oldest_due_at(kNow, world.owned->lane_epochs, {})->has_value());
    assert_int_equal(world.store->totals()->pending, 1);
}

inline void test_oldest_due_is_the_first_queued(void** state) {
    World& world = world_of(state);
    world.add_webhook("wh-1");
    World::require(world.add_deliveries(2, kNow + 5).size() == 2);
    assert_false(world.store->oldest_due_at(kNow + 4, world.owned->lane_epochs, {})->has_value());
    assert_true(*world.store->oldest_due_at(kNow + 100, world.owned->lane_epochs, {}) == kNow + 5);
    const std::vector<std::string> held_back = {"wh-1"};
    assert_false(world.store->oldest_due_at(kNow + 100, world.owned->lane_epochs, held_back)->has_value());
}

inline void test_delivery_counts_are_by_state(void** state) {
    World& world = world_of(state);
    world.add_webhook("wh-1");
    auto added = world.add_deliveries(5, kNow);
    World::require(added.size() == 5 && world.claim(kNow + 10, 3, 10).size() == 3);  // the oldest
    auto attempt_of = [&](std::size_t place, AttemptOutcome outcome) {
        PersistedDelivery delivery;
        delivery.delivery_id = added[place];
        delivery.webhook_id = "wh-1";
        return world.attempt(delivery, outcome);
    };
    World::require(record(world, attempt_of(0, AttemptOutcome::kDead)) == kOk);
    AttemptRecord retry = attempt_of(1, AttemptOutcome::kRetry);
    retry.next_attempt_at = kNow + 5000;
    World::require(record(world, retry) == kOk);
    auto counts = world.store->delivery_counts(kNow + 10);
    assert_true(counts.has_value());
    assert_int_equal(counts->due, 2);
    assert_int_equal(counts->later, 1);
    assert_int_equal(counts->in_flight, 1);
    assert_int_equal(counts->blocked, 0);
    assert_int_equal(counts->dead, 1);
}

inline void test_recover_makes_in_flight_due_with_an_interrupted_attempt(void** state) {
    World& world = world_of(state);
    OneDelivery one(world);
    SampleEvent retried{.org = "org-a"};
    auto second = world.persist({retried}, true);
    World::require(second.has_value());
    World::require(record(world, world.attempt(second->deliveries[0], AttemptOutcome::kRetry)) == kOk);
    World::require(world.claim(kNow + 60'000, 10, 10).size() == 1);
    auto recovered = world.store->recover_in_flight(every_lane(), world.owned->lane_epochs, kNow + 70'000);
    assert_true(recovered.has_value() && *recovered == 2);
    assert_true(world.state_of(one.event.id) == "queued/pending" && world.state_of(retried.id) == "retrying/failed");
    assert_true(*world.store->next_due_at(world.owned->lane_epochs) == kNow + 70'000);
    auto attempts = world.store->attempts_of_delivery("org-a", second->deliveries[0].delivery_id);
    assert_true(attempts->size() == 2 && (*attempts)[1].outcome == AttemptOutcome::kInterrupted &&
                (*attempts)[1].number == 2);
    assert_int_equal(*world.store->recover_in_flight(every_lane(), world.owned->lane_epochs, kNow + 80'000), 0);
    auto claimed = world.claim(kNow + 70'000, 10, 10);
    assert_int_equal(claimed.size(), 2);
    assert_int_equal(claimed[0].attempts + claimed[1].attempts, 1);
}

inline std::vector<CMUnitTest> delivery_tests() {
    return {
        WORLD_TEST(test_attempt_success_finishes_and_counts),
        WORLD_TEST(test_attempt_retry_waits_until_due_and_counts_once),
        WORLD_TEST(test_attempt_interrupted_uses_up_nothing),
        WORLD_TEST(test_attempt_cancelled_counts_nothing),
        WORLD_TEST(test_attempt_of_finished_delivery_keeps_only_its_row),
        WORLD_TEST(test_attempt_of_unknown_delivery_spares_the_others),
        WORLD_TEST(test_attempt_without_its_row_changes_its_delivery),
        WORLD_TEST(test_retry_pending_follows_its_webhook),
        WORLD_TEST(test_attempt_disables_the_webhook_once),
        WORLD_TEST(test_delete_webhook_cancels_waiting_and_in_flight),
        WORLD_TEST(test_summary_averages_rates_and_counts_events_once),
        WORLD_TEST(test_claim_due_gives_oldest_first_within_room_and_total),
        WORLD_TEST(test_claim_due_full_webhook_does_not_hold_back_another),
        WORLD_TEST(test_claim_due_mixes_webhooks_by_age),
        WORLD_TEST(test_claim_due_leaves_disabled_webhooks_alone),
        WORLD_TEST(test_oldest_due_is_the_first_queued),
        WORLD_TEST(test_delivery_counts_are_by_state),
        WORLD_TEST(test_recover_makes_in_flight_due_with_an_interrupted_attempt),
    };
}

}  // namespace headgate::conformance
