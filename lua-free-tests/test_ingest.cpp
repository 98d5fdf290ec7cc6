// links: headgate_failpoint_on headgate_ingest headgate_store headgate_io headgate_common
// Ingest against a real redis-server and a real SQLite file: every event arrives once.
#include <sqlite3.h>

#include "lua-free-tests/ingest_pipeline.h"  // last

using namespace headgate;
using namespace headgate::conformance;
using std::chrono::milliseconds;

namespace {

namespace asio = boost::asio;

// Each test computes in an inner scope and asserts on plain values: a failed assertion runs no destructor.

void test_thousands_of_events_with_poison_between_arrive_once(void**) {
    std::size_t missing = 1, events = 0;
    std::uint64_t quarantined = 0, duplicates = 1;
    long long pending = 1;
    bool stopped = false;
    {
        Pipeline pipeline;
        pipeline.publish_many(1500);
        for (int shard = 0; shard < 3; shard++) {
            pipeline.redis.command({"XADD", stream_key(kPrefix, shard), "*", "v", "1", "junk", "x"});
            pipeline.redis.command(pipeline.entry({.org = "org-a", .type = "poison.pill"}, shard));
            pipeline.redis.command(pipeline.entry({.org = "org-unknown"}, shard));
        }
        pipeline.start();
        pipeline.publish_many(1500);
        pipeline.run_until_empty();
        missing = pipeline.missing();
        events = pipeline.events();
        quarantined = pipeline.counters().quarantined;
        duplicates = pipeline.counters().duplicates;
        pending = pipeline.pending();
        stopped = pipeline.stop();
    }
    assert_int_equal(missing, 0);
    assert_int_equal(events, 3000);
    assert_int_equal(quarantined, 9);
    assert_int_equal(duplicates, 0);
    assert_int_equal(pending, 0);
    assert_true(stopped);
}

void test_claimed_deliveries_are_handed_on_and_the_rest_waits(void**) {
    std::size_t claimed = 0, unclaimed = 0, waiting = 0;
    bool same_bytes = false;
    {
        Pipeline pipeline(1);
        Webhook webhook;
        webhook.id = "wh-1";
        webhook.org = "org-a";
        webhook.name = webhook.url = "x";
        webhook.events = {"*"};
        World::require(pipeline.store->create_webhook(webhook).has_value());
        pipeline.sink.set_room(5);
        pipeline.publish_many(8);
        pipeline.start();
        pipeline.run_until_empty();
        claimed = pipeline.sink.claimed.size();
        unclaimed = pipeline.sink.unclaimed;
        same_bytes = claimed > 0 && pipeline.sink.claimed[0].event->payload ==
                                        pipeline.store->get_event("org-a", pipeline.published[0])->payload;
        waiting = pipeline.store
                      ->claim_due({INT64_MAX, 100, pipeline.owned->lane_epochs, [](std::string_view) { return 100; }})
                      ->size();
    }
    assert_int_equal(claimed, 5);
    assert_int_equal(unclaimed, 3);
    assert_int_equal(waiting, 3);
    assert_true(same_bytes);
}

// What a process left that was killed between its commit and its acknowledgement.
void test_pending_entries_of_a_dead_process_are_acknowledged_once_persisted(void**) {
    std::uint64_t duplicates = 0, drained = 0;
    long long pending = 1;
    std::size_t events = 0;
    {
        Pipeline pipeline(1);
        std::string key = stream_key(kPrefix, 0);
        SampleEvent committed{.org = "org-a"}, read_only{.org = "org-a"}, deleted{.org = "org-a"},
            fresh{.org = "org-a"};
        for (const SampleEvent* event : {&committed, &read_only, &deleted}) pipeline.publish(*event, 0);
        pipeline.redis.command({"XGROUP", "CREATE", key, "headgate", "0"});
        auto read = pipeline.redis.command({"XREADGROUP", "GROUP", "headgate", "owner", "STREAMS", key, ">"});
        std::string third = read->element[0]->element[1]->element[2]->element[0]->str;
        pipeline.redis.command({"XDEL", key, third});
        EventRecord record = committed.record();
        World::require(pipeline.store
                           ->persist({.shard = 0,
                                      .shard_epochs = pipeline.owned->shard_epochs,
                                      .lane_epochs = pipeline.owned->lane_epochs,
                                      .events = {&record, 1},
                                      .positions = {},
                                      .quarantine = {},
                                      .now = kNow,
                                      .claim = {}},
                                     pipeline.matcher)
                           .has_value());
        pipeline.publish(fresh, 0);
        pipeline.start();
        pipeline.run_until_empty();
        duplicates = pipeline.counters().duplicates;
        drained = pipeline.counters().drained;
        pending = pipeline.pending();
        events = pipeline.events();
    }
    assert_int_equal(duplicates, 1);
    assert_int_equal(drained, 2);
    assert_int_equal(pending, 0);
    assert_int_equal(events, 3);
}

void test_lost_groups_are_made_again_at_once(void**) {
    std::size_t missing = 1, events = 0;
    {
        Pipeline pipeline;
        pipeline.start();
        pipeline.publish_many(30);
        pipeline.run_until_empty();
        pipeline.redis.command({"FLUSHALL"});
        pipeline.publish_many(30);
        pipeline.run_until_empty();
        missing = pipeline.missing();
        events = pipeline.events();
    }
    assert_int_equal(missing, 0);
    assert_int_equal(events, 60);
}

void test_redis_killed_and_restarted_loses_and_repeats_nothing(void**) {
    std::size_t missing = 1, events = 0, published = 0;
    {
        Pipeline pipeline;
        pipeline.start();
        for (int round = 0; round < 3; round++) {
            pipeline.publish_many(300);
            auto drained = pipeline.counters().drained.load();
            run_until(pipeline.io, [&] { return pipeline.counters().drained.load() > drained; });
            pipeline.redis.stop(SIGKILL);
            run_until(pipeline.io, [&, turns = 0]() mutable { return ++turns > 5; });
            pipeline.redis.start();
        }
        pipeline.publish_many(10);
        pipeline.run_until_empty();
        missing = pipeline.missing();
        events = pipeline.events();
        published = pipeline.published.size();
    }
    assert_int_equal(missing, 0);
    assert_int_equal(events, published);
}

// A first reply of 64 entries of 1 MiB exceeds what a reply may have: it is cut, and asked for in smaller parts.
void test_replies_too_large_are_read_in_smaller_parts(void**) {
    std::size_t missing = 1, events = 0;
    {
        Pipeline pipeline(1);
        pipeline.publish_many(70, 1024 * 1024);
        pipeline.start();
        pipeline.run_until_empty();
        missing = pipeline.missing();
        events = pipeline.events();
    }
    assert_int_equal(missing, 0);
    assert_int_equal(events, 70);
}

void test_locked_store_holds_everything_back_until_it_is_free(void**) {
    long long left_while_locked = 0;
    bool caught_up_while_locked = true, caught_up_after = false;
    std::uint64_t errors = 0;
    std::int64_t undrained_while_locked = 0, undrained_after = 1, redis_reply_while_locked = 0, redis_reply_after = 0;
    std::size_t missing = 1;
    const TimeMs began = wall_clock_ms();
    {
        Pipeline pipeline;
        pipeline.start();
        pipeline.publish_many(3);
        pipeline.run_until_empty();
        sqlite3* lock = nullptr;
        sqlite3_open(pipeline.store_path().c_str(), &lock);
        sqlite3_exec(lock, "BEGIN IMMEDIATE", nullptr, nullptr, nullptr);
        pipeline.publish_many(20);
        run_until(pipeline.io, [&] { return pipeline.counters().persist_errors > 0; });
        errors = pipeline.counters().persist_errors;
        left_while_locked = pipeline.left();
        undrained_while_locked = pipeline.counters().oldest_undrained_ms;
        redis_reply_while_locked = pipeline.counters().last_redis_reply_ms;
        caught_up_while_locked = run_awaitable(pipeline.io, pipeline.ingest->wait_until_caught_up(milliseconds(20)));
        sqlite3_exec(lock, "ROLLBACK", nullptr, nullptr, nullptr);
        sqlite3_close(lock);
        caught_up_after = run_awaitable(pipeline.io, pipeline.ingest->wait_until_caught_up(milliseconds(30'000)));
        missing = pipeline.missing();
        pipeline.run_until_empty();
        run_until(pipeline.io, [&] { return pipeline.counters().oldest_undrained_ms == 0; });
        undrained_after = pipeline.counters().oldest_undrained_ms;
        redis_reply_after = pipeline.counters().last_redis_reply_ms;
    }
    assert_true(errors > 0);
    assert_int_equal(left_while_locked, 20);
    assert_true(undrained_while_locked >= began && undrained_while_locked <= wall_clock_ms());
    assert_true(redis_reply_while_locked == IngestCounters::kNotAsking);  // a slow disk is no silence of Redis
    assert_true(redis_reply_after < IngestCounters::kNotAsking);
    assert_false(caught_up_while_locked);
    assert_true(caught_up_after);
    assert_int_equal(missing, 0);
    assert_int_equal(undrained_after, 0);
}

void test_lost_lease_writes_nothing_until_it_is_ours_again(void**) {
    bool was_told = false;
    long long left = 0;
    std::size_t events = 1, missing = 1;
    {
        Pipeline pipeline;
        int told = 0;
        pipeline.options.on_lease_lost = [&] { told++; };
        pipeline.start();
        (void)conformance::take_parts(*pipeline.store, "other", 3);
        pipeline.publish_many(5);
        was_told = run_until(pipeline.io, [&] { return told > 1; });
        left = pipeline.left();
        events = pipeline.events();
        pipeline.ingest->follow(conformance::take_parts(*pipeline.store, "owner", 3));
        pipeline.run_until_empty();
        missing = pipeline.missing();
    }
    assert_true(was_told);
    assert_int_equal(left, 5);
    assert_int_equal(events, 0);
    assert_int_equal(missing, 0);
}

// After a restart nothing was persisted by this process, and the streams may be as long empty as they like.
void test_caught_up_at_once_when_nothing_is_left(void**) {
    bool before_any = false, after_restart = false, acknowledged_only = false;
    {
        Pipeline pipeline(1);
        pipeline.start();
        before_any = run_awaitable(pipeline.io, pipeline.ingest->wait_until_caught_up(milliseconds(10'000)));
        pipeline.publish_many(1);
        pipeline.run_until_empty();
        pipeline.stop();
        // Acknowledged, but not deleted: nothing ever reads it again.
        std::string key = stream_key(kPrefix, 0);
        pipeline.publish_many(1);
        auto read = pipeline.redis.command({"XREADGROUP", "GROUP", "headgate", "owner", "STREAMS", key, ">"});
        pipeline.redis.command({"XACK", key, "headgate", read->element[0]->element[1]->element[0]->element[0]->str});
        pipeline.start();
        acknowledged_only = run_awaitable(pipeline.io, pipeline.ingest->wait_until_caught_up(milliseconds(10'000)));
        pipeline.redis.command({"XTRIM", key, "MAXLEN", "0"});
        after_restart = run_awaitable(pipeline.io, pipeline.ingest->wait_until_caught_up(milliseconds(10'000)));
    }
    assert_true(before_any);
    assert_true(acknowledged_only);
    assert_true(after_restart);
}

void test_killed_at_each_failpoint_persists_once(void**) {
    std::size_t missing = 1, events = 0, killed = 0;
    {
        Pipeline pipeline;
        for (const char* place : {"after_commit_before_ack:2", "after_ack_before_accept:1"}) {
            pipeline.publish_many(300);
            pid_t child = fork();
            if (child == 0) {
                setenv("HEADGATE_FAILPOINT", place, 1);
                pipeline.io.notify_fork(asio::execution_context::fork_child);
                pipeline.start();
                run_until(pipeline.io, [] { return false; });
                _exit(0);
            }
            int status = 0;
            waitpid(child, &status, 0);
            killed += WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL ? 1 : 0;
        }
        pipeline.start();
        pipeline.run_until_empty();
        missing = pipeline.missing();
        events = pipeline.events();
    }
    assert_int_equal(killed, 2);
    assert_int_equal(missing, 0);
    assert_int_equal(events, 600);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(test_thousands_of_events_with_poison_between_arrive_once),
        cmocka_unit_test(test_claimed_deliveries_are_handed_on_and_the_rest_waits),
        cmocka_unit_test(test_pending_entries_of_a_dead_process_are_acknowledged_once_persisted),
        cmocka_unit_test(test_lost_groups_are_made_again_at_once),
        cmocka_unit_test(test_redis_killed_and_restarted_loses_and_repeats_nothing),
        cmocka_unit_test(test_replies_too_large_are_read_in_smaller_parts),
        cmocka_unit_test(test_locked_store_holds_everything_back_until_it_is_free),
        cmocka_unit_test(test_lost_lease_writes_nothing_until_it_is_ours_again),
        cmocka_unit_test(test_caught_up_at_once_when_nothing_is_left),
        cmocka_unit_test(test_killed_at_each_failpoint_persists_once),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
