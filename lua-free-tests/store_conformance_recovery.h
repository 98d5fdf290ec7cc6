// Store conformance: deliveries by hand, lists, the ledger. See store_conformance.h.
#pragma once

#include "lua-free-tests/store_conformance.h"
#include "lua-free-tests/store_conformance_delivery.h"

namespace headgate::conformance {

inline void test_delivery_one_and_foreign(void** state) {
    World& world = world_of(state);
    OneDelivery one(world);
    auto delivery = world.store->get_delivery("org-a", one.delivery.delivery_id);
    assert_true(delivery.has_value() && delivery->webhook_id == "wh-1" && delivery->event_id == one.event.id);
    assert_true(delivery->state == "in_flight" && delivery->status == "pending" && delivery->kind == "event");
    assert_true(delivery->attempts == 0 && delivery->due_at == kNow && delivery->created_at == kNow);
    world.add_org("org-b");
    assert_int_equal(code_of(world.store->get_delivery("org-b", one.delivery.delivery_id)), kNotFound);
    assert_int_equal(code_of(world.store->retry_delivery("org-b", one.delivery.delivery_id, kNow)), kNotFound);
    assert_int_equal(code_of(world.store->cancel_delivery("org-b", one.delivery.delivery_id, kNow)), kNotFound);
    assert_int_equal(code_of(world.store->get_delivery("org-a", "no-such")), kNotFound);
}

inline DeliveryQuery ask(const std::string& webhook_id, const std::string& event_id = "",
                         const std::string& delivery_state = "") {
    DeliveryQuery query;
    query.webhook_id = webhook_id;
    query.event_id = event_id;
    query.state = delivery_state;
    return query;
}

inline void test_delivery_list_is_newest_first_by_page(void** state) {
    World& world = world_of(state);
    world.add_org("org-b");
    world.add_webhook("wh-1");
    auto ids = world.add_deliveries(7, kNow);
    world.add_webhook("wh-2");
    SampleEvent both{.org = "org-a"};
    auto last = world.persist({both}, true, nullptr, kNow + 100);
    World::require(last.has_value() && last->deliveries.size() == 2);
    auto list = [&](const DeliveryQuery& query, const std::string& org = "org-a") {
        auto found = world.store->list_deliveries(org, query);
        World::require(found.has_value());
        return std::move(*found);
    };
    DeliveryQuery query;
    query.webhook_id = "wh-1";
    query.limit = 3;
    std::vector<std::string> seen;
    for (auto page = list(query); !page.empty(); page = list(query)) {
        for (const Delivery& delivery : page) seen.push_back(delivery.id);
        query.after = seen.back();
    }
    assert_int_equal(seen.size(), 8);
    for (std::size_t i = 0; i < 7; i++) assert_true(seen[7 - i] == ids[i]);
    assert_int_equal(list(ask("", both.id)).size(), 2);
    assert_int_equal(list(ask("wh-2", both.id)).size(), 1);
    assert_int_equal(list(ask("wh-1", "", "in_flight")).size(), 1);
    query = ask("wh-1");
    query.since = kNow + 2;
    query.until = kNow + 4;
    auto middle = list(query);
    assert_true(middle.size() == 2 && middle[0].id == ids[3] && middle[1].id == ids[2]);
    // Of all webhooks of the organization, and of nobody else's.
    query = {};
    query.limit = 4;
    seen.clear();
    for (auto page = list(query); !page.empty(); page = list(query)) {
        for (const Delivery& delivery : page) seen.push_back(delivery.id);
        query.after = seen.back();
    }
    assert_int_equal(seen.size(), 9);
    assert_true(std::is_sorted(seen.rbegin(), seen.rend()));
    assert_true(list({}, "org-b").empty());
    assert_true(list(ask("wh-1"), "org-b").empty());
    AttemptRecord attempt = world.attempt(last->deliveries[0], AttemptOutcome::kDead);
    World::require(record(world, attempt) == kOk);
    auto dead = list(ask(attempt.webhook_id, "", "dead"));
    assert_true(dead.size() == 1 && dead[0].id == attempt.delivery_id);
}

inline void test_delivery_retry_makes_the_dead_due(void** state) {
    World& world = world_of(state);
    OneDelivery one(world);
    const std::string& id = one.delivery.delivery_id;
    assert_int_equal(code_of(world.store->retry_delivery("org-a", id, kNow)), kConflict);  // in flight
    World::require(record(world, world.attempt(one.delivery, AttemptOutcome::kDead)) == kOk);
    assert_int_equal(world.store->webhook_stats("org-a", "wh-1")->failed, 1);
    auto retried = world.store->retry_delivery("org-a", id, kNow + 100);
    assert_true(retried.has_value() && retried->state == "retrying" && retried->status == "failed" &&
                retried->due_at == kNow + 100 && retried->attempts == 1);
    assert_int_equal(world.store->webhook_stats("org-a", "wh-1")->total, 0);  // not finished any more
    auto claimed = world.claim(kNow + 100, 10, 10);
    assert_true(claimed.size() == 1 && claimed[0].delivery_id == id && claimed[0].attempts == 1);
    World::require(record(world, world.attempt(one.delivery, AttemptOutcome::kSuccess, 2)) == kOk);
    auto stats = world.store->webhook_stats("org-a", "wh-1");
    assert_true(stats->total == 1 && stats->failed == 0);
    assert_int_equal(code_of(world.store->retry_delivery("org-a", id, kNow)), kConflict);   // succeeded
    assert_int_equal(code_of(world.store->cancel_delivery("org-a", id, kNow)), kConflict);  // succeeded
}

inline void test_delivery_retry_hurries_one_that_waits(void** state) {
    World& world = world_of(state);
    OneDelivery one(world);
    World::require(record(world, world.attempt(one.delivery, AttemptOutcome::kRetry)) == kOk);
    World::require(*world.store->next_due_at(world.owned->lane_epochs) == kNow + 60'000);
    assert_int_equal(code_of(world.store->retry_delivery("org-a", one.delivery.delivery_id, kNow + 40)), kOk);
    assert_true(*world.store->next_due_at(world.owned->lane_epochs) == kNow + 40);
}

inline void test_delivery_cancel_and_its_retry(void** state) {
    World& world = world_of(state);
    world.add_webhook("wh-1");
    SampleEvent event{.org = "org-a"};
    auto outcome = world.persist({event});
    World::require(outcome.has_value());
    const std::string id = outcome->deliveries[0].delivery_id;
    auto cancelled = world.store->cancel_delivery("org-a", id, kNow + 1);
    assert_true(cancelled.has_value() && cancelled->state == "cancelled" && cancelled->status == "cancelled");
    assert_int_equal(code_of(world.store->cancel_delivery("org-a", id, kNow + 2)), kOk);
    assert_true(world.claim(kNow + 10, 10, 10).empty());
    auto retried = world.store->retry_delivery("org-a", id, kNow + 20);
    assert_true(retried.has_value() && retried->state == "queued" && retried->status == "pending");
    World::require(world.claim(kNow + 20, 10, 10).size() == 1);
    assert_int_equal(code_of(world.store->cancel_delivery("org-a", id, kNow)), kConflict);  // in flight
    World::require(world.store->delete_webhook("org-a", "wh-1", kNow).has_value());
    assert_int_equal(code_of(world.store->retry_delivery("org-a", id, kNow)), kConflict);  // nobody would send it
}

inline void test_delivery_that_waits_for_another_cannot_be_retried(void** state) {
    World& world = world_of(state);
    Webhook webhook = world.sample_webhook("wh-1");
    webhook.ordering = "key";
    World::require(world.store->create_webhook(webhook).has_value());
    auto outcome = world.persist({{.org = "org-a", .ordering_key = "k"}, {.org = "org-a", .ordering_key = "k"}});
    World::require(outcome.has_value() && outcome->deliveries.size() == 2);
    const std::string& waiting = outcome->deliveries[1].delivery_id;
    assert_int_equal(code_of(world.store->retry_delivery("org-a", waiting, kNow)), kConflict);
    assert_int_equal(code_of(world.store->cancel_delivery("org-a", waiting, kNow)), kOk);
    AttemptRecord attempt = world.attempt(outcome->deliveries[0], AttemptOutcome::kSuccess);
    auto recorded = world.store->record_attempts({&attempt, 1}, world.owned->lane_epochs);
    assert_true(recorded.has_value() && recorded->released == 0);
}

inline void test_ledger_says_why_nobody_got_an_event(void** state) {
    World& world = world_of(state);
    SampleEvent unknown{.org = "org-a", .type = "nobody.wants"};
    SampleEvent filtered{.org = "org-a", .type = "filtered.out"};
    SampleEvent disabled{.org = "org-a", .type = "order.created"};
    SampleEvent wanted{.org = "org-a", .type = "order.paid"};
    Webhook webhook = world.sample_webhook("wh-1");
    webhook.events = {"filtered.out", "order.paid"};
    webhook.filters = kNothing;
    World::require(world.store->create_webhook(webhook).has_value());
    webhook = world.sample_webhook("wh-2");
    webhook.events = {"order.paid"};
    World::require(world.store->create_webhook(webhook).has_value());
    world.add_webhook("wh-3", "org-a", false);
    auto outcome = world.persist({unknown, filtered, disabled, wanted});
    assert_true(outcome.has_value() && outcome->events_unmatched == 3 && outcome->deliveries.size() == 1);
    auto reason = [&](const SampleEvent& event) {
        auto entries = world.store->ledger_of_event("org-a", event.id);
        World::require(entries.has_value());
        return entries->size() == 1 && (*entries)[0].webhook_id.empty() ? (*entries)[0].reason : "";
    };
    assert_string_equal(reason(unknown).c_str(), "no_matching_webhook");
    assert_string_equal(reason(filtered).c_str(), "filtered");
    assert_string_equal(reason(disabled).c_str(), "webhook_disabled");
    assert_string_equal(reason(wanted).c_str(), "");
    assert_true(world.store->ledger_of_event("org-b", unknown.id)->empty());
    // Those are counted beside the transaction, which has only what was made.
    const TimeMs hour = kNow - kNow % 3'600'000;
    auto before = world.store->rollups("org-a", "wh-1", hour, hour + 1);
    assert_true(before.has_value() && before->empty());
    const std::vector<UnwantedCount> counts = world.matcher.take_unwanted();
    assert_int_equal(counts.size(), 3);
    for (std::int64_t times = 1; times <= 2; times++) {
        assert_true(world.store->add_unwanted(counts).has_value());
        auto of_filtered = world.store->rollups("org-a", "wh-1", hour, hour + 1);
        assert_true(of_filtered.has_value() && of_filtered->size() == 2);
        assert_true((*of_filtered)[0].event_type == "filtered.out" && (*of_filtered)[0].filtered == times);
        assert_true((*of_filtered)[1].event_type == "order.paid" && (*of_filtered)[1].filtered == times);
        auto of_disabled = world.store->rollups("org-a", "wh-3", hour, hour + 1);
        assert_true(of_disabled->size() == 1 && (*of_disabled)[0].disabled == times && (*of_disabled)[0].pending == 0);
        auto of_wanted = world.store->rollups("org-a", "wh-2", hour, hour + 1);
        assert_true(of_wanted->size() == 1 && (*of_wanted)[0].pending == 1 && (*of_wanted)[0].filtered == 0);
    }
    // What was persisted before is not counted again, and neither is what is not committed.
    World::require(world.persist({filtered, disabled}).has_value());
    assert_true(world.matcher.take_unwanted().empty());
    SampleEvent poison{.org = "org-a", .type = "poison.pill"}, another{.org = "org-a", .type = "filtered.out"};
    another.id = uuid7(kNow + 7);
    World::require(!world.persist({another, poison}).has_value());
    assert_true(world.matcher.take_unwanted().empty());
}

inline std::vector<CMUnitTest> recovery_tests() {
    return {
        WORLD_TEST(test_delivery_one_and_foreign),
        WORLD_TEST(test_delivery_list_is_newest_first_by_page),
        WORLD_TEST(test_delivery_retry_makes_the_dead_due),
        WORLD_TEST(test_delivery_retry_hurries_one_that_waits),
        WORLD_TEST(test_delivery_cancel_and_its_retry),
        WORLD_TEST(test_delivery_that_waits_for_another_cannot_be_retried),
        WORLD_TEST(test_ledger_says_why_nobody_got_an_event),
    };
}

}  // namespace headgate::conformance
