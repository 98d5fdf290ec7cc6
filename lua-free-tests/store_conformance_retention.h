// Store conformance: retention and the hourly rollups. See store_conformance.h.
#pragma once

#include "lua-free-tests/store_conformance.h"
#include "lua-free-tests/store_conformance_delivery.h"

namespace headgate::conformance {

inline std::size_t purge_all(World& world, TimeMs events_before, TimeMs attempts_before, std::size_t batch_max = 2) {
    std::size_t calls = 0;
    for (;;) {
        auto purged = world.store->purge({events_before, attempts_before, kNow + 1'000'000, batch_max});
        World::require(purged.has_value() && calls++ < 1000);
        if (*purged == 0) return calls;
    }
}

inline void test_purge_keeps_what_is_young_or_unfinished(void** state) {
    World& world = world_of(state);
    world.add_webhook("wh-1");
    std::vector<SampleEvent> events;
    for (int i = 0; i < 8; i++) events.push_back({.org = "org-a", .at = kNow + i});
    events[3].type = "nobody.wants";
    auto outcome = world.persist(events, true);
    World::require(outcome.has_value() && outcome->deliveries.size() == 7);
    // Done: all but the first, which is in flight, and the second, which is retried.
    std::vector<AttemptRecord> results;
    for (std::size_t i = 1; i < 7; i++) {
        results.push_back(
            world.attempt(outcome->deliveries[i], i == 1 ? AttemptOutcome::kRetry : AttemptOutcome::kSuccess));
    }
    World::require(world.store->record_attempts(results, world.owned->lane_epochs).has_value());
    assert_true(purge_all(world, kNow + 6, 0) > 2);  // small batches
    std::string left;
    for (const SampleEvent& event : events) left += world.store->get_event("org-a", event.id) ? 'y' : 'n';
    assert_string_equal(left.c_str(), "yynnnnyy");
    assert_true(world.store->ledger_of_event("org-a", events[3].id)->empty());
    assert_int_equal(code_of(world.store->get_delivery("org-a", outcome->deliveries[2].delivery_id)), kNotFound);
    assert_int_equal(code_of(world.store->attempts_of_delivery("org-a", outcome->deliveries[2].delivery_id)),
                     kNotFound);
    assert_int_equal(world.store->attempts_of_delivery("org-a", outcome->deliveries[6].delivery_id)->size(), 1);
    // The next pass finds what has ended since.
    World::require(record(world, world.attempt(outcome->deliveries[0], AttemptOutcome::kSuccess)) == kOk);
    purge_all(world, kNow + 6, 0);
    assert_int_equal(code_of(world.store->get_event("org-a", events[0].id)), kNotFound);
    assert_int_equal(code_of(world.store->get_event("org-a", events[1].id)), kOk);
    // What was purged and comes again is new: the id is free.
    assert_int_equal(world.persist({events[0]})->events_new, 1);
}

inline void test_purge_attempts_goes_by_their_own_age(void** state) {
    World& world = world_of(state);
    OneDelivery one(world);
    AttemptRecord attempt = world.attempt(one.delivery, AttemptOutcome::kRetry);
    World::require(record(world, attempt) == kOk);
    attempt = world.attempt(one.delivery, AttemptOutcome::kSuccess, 2);
    attempt.finished_at = kNow + 500;
    World::require(record(world, attempt) == kOk);
    purge_all(world, 0, kNow + 500);
    auto attempts = world.store->attempts_of_delivery("org-a", one.delivery.delivery_id);
    assert_true(attempts.has_value() && attempts->size() == 1 && (*attempts)[0].number == 2);
    assert_int_equal(code_of(world.store->get_event("org-a", one.event.id)), kOk);
}

inline void test_purge_deleted_webhook_goes_after_its_deliveries(void** state) {
    World& world = world_of(state);
    OneDelivery one(world);
    World::require(record(world, world.attempt(one.delivery, AttemptOutcome::kSuccess)) == kOk);
    World::require(world.store->delete_webhook("org-a", "wh-1", kNow + 10).has_value());
    purge_all(world, kNow, 0);
    assert_int_equal(code_of(world.store->delivery_target("wh-1")), kOk);  // too young
    purge_all(world, kNow + 11, 0);
    assert_int_equal(code_of(world.store->delivery_target("wh-1")), kNotFound);
    world.add_webhook("wh-1");  // its name and secrets are gone
}

inline void test_purge_dead_head_lets_go(void** state) {
    World& world = world_of(state);
    Webhook webhook = world.sample_webhook("wh-1");
    webhook.ordering = "key";
    webhook.ordering_policy = OrderingPolicy::kBlock;
    World::require(world.store->create_webhook(webhook).has_value());
    SampleEvent old{.org = "org-a", .ordering_key = "k", .at = kNow - 100};
    SampleEvent young{.org = "org-a", .ordering_key = "k", .at = kNow};
    auto outcome = world.persist({old, young}, true);
    World::require(outcome.has_value());
    World::require(record(world, world.attempt(outcome->deliveries[0], AttemptOutcome::kDead)) == kOk);
    purge_all(world, kNow, 0);
    assert_true(world.state_of(old.id) == "none" && world.state_of(young.id) == "queued/pending");
}

inline void quarantine_at(World& world, TimeMs now, int count) {
    std::vector<QuarantineEntry> entries;
    for (int i = 0; i < count; i++) entries.push_back({std::to_string(now) + "-" + std::to_string(i), "why", "*0", 1});
    World::require(world.store
                       ->persist({.shard_epochs = world.owned->shard_epochs,
                                  .lane_epochs = world.owned->lane_epochs,
                                  .events = {},
                                  .positions = {},
                                  .quarantine = entries,
                                  .now = now,
                                  .claim = {}},
                                 world.matcher)
                       .has_value());
}

// It was never purged: what nobody can read would have stayed for good.
inline void test_purge_quarantine_by_age_in_small_batches(void** state) {
    World& world = world_of(state);
    quarantine_at(world, kNow, 120);
    quarantine_at(world, kNow + 1000, 3);
    PurgeRequest request;
    request.now = kNow + 2000;
    request.quarantine_before = kNow;
    assert_int_equal(*world.store->purge(request), 0);
    assert_int_equal(world.store->totals()->quarantined, 123);
    request.quarantine_before = kNow + 1000;
    assert_int_equal(*world.store->purge(request), kQuarantineBatchMax);  // however large a batch may be
    request.batch_max = 30;
    assert_int_equal(*world.store->purge(request), 30);
    assert_int_equal(*world.store->purge(request), 30);
    assert_int_equal(*world.store->purge(request), 10);
    assert_int_equal(*world.store->purge(request), 0);
    assert_int_equal(world.store->totals()->quarantined, 3);
}

inline void test_purge_audit_log_by_its_own_age(void** state) {
    World& world = world_of(state);
    for (int i = 0; i < 5; i++) {
        const std::string n = std::to_string(i);
        (void)world.factory->run_sql(
            "INSERT INTO audit_log (id, organization_id, actor, action, subject, created_at) VALUES ('a" + n +
            "', 'org-a', 'key-1', 'webhook.update', 'wh-1', " + std::to_string(kNow + i) + ")");
    }
    PurgeRequest request;
    request.now = request.quarantine_before = kNow + 1000;
    request.batch_max = 2;
    assert_int_equal(*world.store->purge(request), 0);
    request.audit_before = kNow + 3;
    assert_int_equal(*world.store->purge(request), 2);
    assert_int_equal(*world.store->purge(request), 1);
    assert_int_equal(*world.store->purge(request), 0);
    assert_string_equal(world.factory->run_sql("SELECT min(id) FROM audit_log").c_str(), "a3");
}

inline void test_rollups_follow_a_delivery_within_its_hour(void** state) {
    World& world = world_of(state);
    world.add_webhook("wh-1");
    const TimeMs hour = kNow - kNow % 3'600'000;
    auto now = [&](TimeMs hour_at) {
        auto rollups = world.store->rollups("org-a", "wh-1", hour_at, hour_at + 1);
        World::require(rollups.has_value() && rollups->size() <= 1);
        Rollup none;
        const Rollup& found = rollups->empty() ? none : rollups->front();
        return std::to_string(found.pending) + std::to_string(found.success) + std::to_string(found.failed) + " " +
               std::to_string(found.retries) + " " + std::to_string(found.responses) + "/" +
               std::to_string(found.response_ms_sum);
    };
    auto outcome = world.persist({{.org = "org-a"}, {.org = "org-a"}, {.org = "org-a"}}, true, nullptr, hour + 5);
    World::require(outcome.has_value() && outcome->deliveries.size() == 3);
    World::require(world.persist({{.org = "org-a"}}, true, nullptr, hour + 3'600'000).has_value());
    assert_string_equal(now(hour).c_str(), "300 0 0/0");
    assert_string_equal(now(hour + 3'600'000).c_str(), "100 0 0/0");
    auto record_at = [&](std::size_t index, AttemptOutcome result, int number) {
        AttemptRecord attempt = world.attempt(outcome->deliveries[index], result, number);
        attempt.finished_at = hour + 2 * 3'600'000;  // later than the hour that it belongs to
        World::require(record(world, attempt) == kOk);
    };
    record_at(0, AttemptOutcome::kSuccess, 1);
    assert_string_equal(now(hour).c_str(), "210 0 1/20");
    record_at(1, AttemptOutcome::kRetry, 1);
    assert_string_equal(now(hour).c_str(), "111 0 2/40");
    record_at(1, AttemptOutcome::kInterrupted, 2);
    assert_string_equal(now(hour).c_str(), "111 0 2/40");
    record_at(1, AttemptOutcome::kSuccess, 2);
    assert_string_equal(now(hour).c_str(), "120 1 3/60");
    record_at(1, AttemptOutcome::kDead, 3);  // finished before
    assert_string_equal(now(hour).c_str(), "120 1 3/60");
    record_at(2, AttemptOutcome::kDead, 1);
    assert_string_equal(now(hour).c_str(), "021 1 4/80");
    World::require(world.store->cancel_delivery("org-a", outcome->deliveries[2].delivery_id, kNow).has_value());
    assert_string_equal(now(hour).c_str(), "020 1 4/80");
    World::require(world.store->retry_delivery("org-a", outcome->deliveries[2].delivery_id, kNow).has_value());
    assert_string_equal(now(hour).c_str(), "021 1 4/80");
    assert_string_equal(now(hour + 3'600'000).c_str(), "100 0 0/0");
    assert_int_equal(code_of(world.store->rollups("org-b", "wh-1", 0, kNow)), kNotFound);
    assert_int_equal(world.store->rollups("org-a", "wh-1", 0, hour + 3'600'001)->size(), 2);
    purge_all(world, hour + 2 * 3'600'000, 0);
    assert_int_equal(world.store->rollups("org-a", "wh-1", 0, hour + 3'600'001)->size(), 1);
}

// What a deleted webhook's deliveries had come to stays; of those that were still open nothing does.
inline void test_rollups_forget_what_a_deleted_webhook_cancels(void** state) {
    World& world = world_of(state);
    for (const char* id : {"wh-1", "wh-2"}) {
        Webhook webhook = world.sample_webhook(id);
        webhook.events.emplace_back("other");
        World::require(world.store->create_webhook(webhook).has_value());
    }
    const TimeMs hour = kNow - kNow % 3'600'000;
    auto first = world.persist({{.org = "org-a"}, {.org = "org-a"}, {.org = "org-a"}, {.org = "org-a"}}, true, nullptr,
                               hour + 5);
    auto second = world.persist({{.org = "org-a"}, {.org = "org-a", .type = "other"}}, true, nullptr, hour + 3'600'000);
    World::require(first.has_value() && first->deliveries.size() == 8);
    World::require(second.has_value() && second->deliveries.size() == 4);
    auto record_all = [&](const PersistOutcome& outcome, std::string_view webhook_id,
                          std::vector<AttemptOutcome> results) {
        std::size_t next = 0;
        for (const PersistedDelivery& delivery : outcome.deliveries) {
            if (delivery.webhook_id != webhook_id || next >= results.size()) continue;
            World::require(record(world, world.attempt(delivery, results[next++])) == kOk);
        }
    };
    for (const char* webhook_id : {"wh-1", "wh-2"}) {
        record_all(*first, webhook_id,
                   {AttemptOutcome::kSuccess, AttemptOutcome::kDead, AttemptOutcome::kRetry, AttemptOutcome::kRetry});
        record_all(*second, webhook_id, {AttemptOutcome::kRetry, AttemptOutcome::kRetry});
    }
    auto counts = [&](std::string_view webhook_id) {
        std::string text;
        auto rollups = world.store->rollups("org-a", webhook_id, 0, hour + 2 * 3'600'000);
        World::require(rollups.has_value());
        for (const Rollup& rollup : *rollups) {
            text += rollup.event_type + " " + std::to_string(rollup.pending) + std::to_string(rollup.success) +
                    std::to_string(rollup.failed) + "\n";
        }
        return text;
    };
    const std::string before = counts("wh-1");
    assert_true(before.find(" 013\n") != std::string::npos && before.find("other 001\n") != std::string::npos);
    // One of them is under way again.
    World::require(world.factory
                       ->run_sql("UPDATE deliveries SET state = 'in_flight' WHERE webhook_id = 'wh-1' AND state = "
                                 "'retrying' AND created_at >= " +
                                 std::to_string(hour + 3'600'000))
                       .empty());
    World::require(world.store->delete_webhook("org-a", "wh-1", kNow).has_value());
    const std::string in_sql = world.factory->run_sql(
        "SELECT sum(pending_count) || '/' || sum(success_count) || '/' || sum(failed_count) FROM rollups"
        " WHERE webhook_id = 'wh-1'");
    assert_string_equal(in_sql.c_str(), "0/1/1");
    assert_string_equal(world.factory
                            ->run_sql("SELECT count(*) FROM deliveries WHERE webhook_id = 'wh-1' AND state = "
                                      "'cancelled' AND status = 'cancelled'")
                            .c_str(),
                        "4");
    assert_string_equal(counts("wh-2").c_str(), before.c_str());
}

inline std::vector<CMUnitTest> retention_tests() {
    return {
        WORLD_TEST(test_purge_keeps_what_is_young_or_unfinished),
        WORLD_TEST(test_purge_attempts_goes_by_their_own_age),
        WORLD_TEST(test_purge_deleted_webhook_goes_after_its_deliveries),
        WORLD_TEST(test_purge_dead_head_lets_go),
        WORLD_TEST(test_purge_quarantine_by_age_in_small_batches),
        WORLD_TEST(test_purge_audit_log_by_its_own_age),
        WORLD_TEST(test_rollups_follow_a_delivery_within_its_hour),
        WORLD_TEST(test_rollups_forget_what_a_deleted_webhook_cancels),
    };
}

}  // namespace headgate::conformance
