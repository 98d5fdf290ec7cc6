// links: headgate_ingest headgate_store headgate_io headgate_common
// Ingest where Redis refuses or gives too much, and where the store fails without a cause.
#include "lua-free-tests/ingest_pipeline.h"  // last

using namespace headgate;
using namespace headgate::conformance;
using std::chrono::milliseconds;

namespace {

// Each test computes in an inner scope and asserts on plain values: a failed assertion runs no destructor.

// When one entry of each stream was more than a reply may have, the same reply was asked for without end
// and without a pause; so it was with a single entry that is larger.
void test_large_entries_of_many_streams_are_read_in_turns(void**) {
    std::size_t missing = 1, events = 0;
    long long pending = 1;
    bool is_empty = false;
    {
        Pipeline pipeline(8);
        pipeline.options.reply_bytes_max = 256 * 1024;
        pipeline.publish_many(24, 100 * 1024);
        pipeline.publish_many(5, 900 * 1024);
        pipeline.start();
        pipeline.publish_many(50);
        is_empty = pipeline.run_until_empty();
        missing = pipeline.missing();
        events = pipeline.events();
        pending = pipeline.pending();
    }
    assert_true(is_empty);
    assert_int_equal(missing, 0);
    assert_int_equal(events, 79);
    assert_int_equal(pending, 0);
}

// What became of events while the matcher failed without naming a cause.
struct UnexplainedFailures {
    std::size_t missing = 1;
    std::uint64_t quarantined = 1, errors = 0;

    explicit UnexplainedFailures(const std::function<void(Pipeline&)>& publish) {
        Pipeline pipeline;
        publish(pipeline);
        pipeline.start();
        pipeline.run_until_empty();
        missing = pipeline.missing();
        quarantined = pipeline.counters().quarantined;
        errors = pipeline.counters().persist_errors;
    }
};

// A passing failure of the store that names no cause put good events in quarantine.
void test_unexplained_failures_that_pass_cost_no_event(void**) {
    const UnexplainedFailures seen([](Pipeline& pipeline) {
        pipeline.matcher.failures = 3;
        pipeline.publish_many(20);
    });
    assert_int_equal(seen.missing, 0);
    assert_int_equal(seen.quarantined, 0);
    assert_int_equal(seen.errors, 3);
}

// One that stays is found in the end: nothing holds up the others for ever.
void test_unexplained_failure_that_stays_costs_only_its_own_events(void**) {
    const UnexplainedFailures seen([](Pipeline& pipeline) {
        Organization org;
        org.id = org.name = "org-b";
        World::require(pipeline.store->create_org(org).has_value());
        pipeline.options.unexplained_failures_max = 2;
        pipeline.matcher.failing_org = "org-b";
        pipeline.matcher.failures = 1'000'000;
        pipeline.publish_many(9);
        for (int i = 0; i < 3; i++) pipeline.redis.command(pipeline.entry({.org = "org-b"}, i));
    });
    assert_int_equal(seen.missing, 0);
    assert_int_equal(seen.quarantined, 3);
    assert_int_equal(seen.errors, 2);
}

// A refusal counted as an answer: /health stayed good while nothing could be read.
void test_refused_reads_are_no_answer(void**) {
    std::int64_t while_refused = 1;
    bool was_refused = false, is_answered = false;
    {
        Pipeline pipeline(1);
        pipeline.redis.command({"ACL", "SETUSER", "default", "-xreadgroup"});
        pipeline.start();
        // The second refusal is asked for after the first was seen.
        was_refused = run_until(pipeline.io, [&] {
            auto log = pipeline.redis.command({"ACL", "LOG"});
            return log->elements > 0 && log->element[0]->element[1]->integer >= 2;
        });
        while_refused = pipeline.counters().last_redis_reply_ms;
        pipeline.redis.command({"ACL", "SETUSER", "default", "+xreadgroup"});
        is_answered = run_until(pipeline.io, [&] { return pipeline.counters().last_redis_reply_ms != 0; });
    }
    assert_true(was_refused);
    assert_int_equal(while_refused, 0);
    assert_true(is_answered);
}

// A refused XLEN read as the length 0: the inbox was called complete without a look.
void test_refused_lengths_are_not_caught_up(void**) {
    bool while_refused = true, after = false;
    {
        Pipeline pipeline(1);
        pipeline.start();
        pipeline.redis.command({"ACL", "SETUSER", "default", "-xlen"});
        while_refused = run_awaitable(pipeline.io, pipeline.ingest->wait_until_caught_up(milliseconds(10'000)));
        pipeline.redis.command({"ACL", "SETUSER", "default", "+xlen"});
        after = run_awaitable(pipeline.io, pipeline.ingest->wait_until_caught_up(milliseconds(10'000)));
    }
    assert_false(while_refused);
    assert_true(after);
}

// Persisted and acknowledged by somebody who ended before the entry was deleted: nobody waits for it; it is found in
// the store, and deleted.
void test_acknowledged_but_not_deleted_is_cleared(void**) {
    std::size_t events = 0, missing = 1;
    std::uint64_t duplicates = 0;
    bool is_persisted = false, is_caught_up = false, is_caught_up_again = false, is_empty = false;
    {
        Pipeline pipeline(1);
        const std::string key = stream_key(kPrefix, 0);
        SampleEvent event{.org = "org-a"};
        pipeline.publish(event, 0);
        pipeline.start();
        pipeline.run_until_empty();
        pipeline.stop();
        auto again = pipeline.redis.command(pipeline.entry(event, 0));
        const std::string id = again->str;
        pipeline.redis.command({"XREADGROUP", "GROUP", "headgate", "owner", "STREAMS", key, ">"});
        World::require(pipeline.redis.number({"XACK", key, "headgate", id}) == 1);
        pipeline.start();
        is_caught_up = run_awaitable(pipeline.io, pipeline.ingest->wait_until_caught_up(milliseconds(10'000)));
        pipeline.publish_many(3);
        is_persisted = run_until(pipeline.io, [&] { return pipeline.events() == 4; });
        is_caught_up_again = run_awaitable(pipeline.io, pipeline.ingest->wait_until_caught_up(milliseconds(10'000)));
        is_empty = pipeline.run_until_empty();
        events = pipeline.events();
        missing = pipeline.missing();
        duplicates = pipeline.counters().duplicates;
    }
    assert_true(is_persisted && is_caught_up && is_caught_up_again);
    assert_int_equal(events, 4);
    assert_int_equal(missing, 0);
    assert_int_equal(duplicates, 1);
    assert_true(is_empty);
}

// A group that somebody has made at the stream's end, or an acknowledgement by hand: what was never stored is stored,
// while we run too.
void test_entries_that_the_group_has_passed_are_stored(void**) {
    std::size_t events = 0, missing = 1;
    bool is_empty = false, is_empty_again = false;
    {
        Pipeline pipeline(2);
        pipeline.options.left_behind_interval = milliseconds(100);
        pipeline.publish_many(6);
        for (int shard = 0; shard < 2; shard++)
            pipeline.redis.command({"XGROUP", "CREATE", stream_key(kPrefix, shard), "headgate", "$"});
        pipeline.start();
        pipeline.publish_many(2);
        is_empty = pipeline.run_until_empty();
        // Not while ingest reads: it would be given the entry itself.
        pipeline.publish_many(2);
        const std::string key = stream_key(kPrefix, 0);
        auto range = pipeline.redis.command({"XRANGE", key, "-", "+"});
        const std::string id = range->element[0]->element[0]->str;
        pipeline.redis.command({"XREADGROUP", "GROUP", "headgate", "owner", "STREAMS", key, ">"});
        pipeline.redis.command({"XACK", key, "headgate", id});
        is_empty_again = pipeline.run_until_empty();
        missing = pipeline.missing();
        events = pipeline.events();
    }
    assert_true(is_empty && is_empty_again);
    assert_int_equal(missing, 0);
    assert_int_equal(events, 10);
}

// A batch is acknowledged twice when the first answer was lost: the second finds nothing, and that is no error.
void test_acknowledged_twice_is_no_error(void**) {
    std::size_t events = 0;
    long long pending = 1;
    bool is_done = false;
    {
        Pipeline pipeline(1);
        const std::string key = stream_key(kPrefix, 0);
        pipeline.redis.command({"ACL", "SETUSER", "default", "-exec"});  // the ways of acknowledging are closed
        pipeline.start();
        pipeline.publish_many(5);
        run_until(pipeline.io, [&] { return pipeline.events() == 5; });
        auto entries = pipeline.redis.command({"XRANGE", key, "-", "+"});
        for (std::size_t i = 0; i < entries->elements; i++) {
            const std::string id = entries->element[i]->element[0]->str;
            pipeline.redis.command({"XACK", key, "headgate", id});
            pipeline.redis.command({"XDEL", key, id});
        }
        pipeline.redis.command({"ACL", "SETUSER", "default", "+exec"});
        pipeline.publish_many(5);
        is_done = run_until(pipeline.io, [&] { return pipeline.events() == 10 && pipeline.left() == 0; });
        events = pipeline.events();
        pending = pipeline.pending();
    }
    assert_true(is_done);
    assert_int_equal(events, 10);
    assert_int_equal(pending, 0);
}

// The stream is deleted under the read that waits for it, and again while nothing waits.
void test_stream_gone_is_made_again(void**) {
    std::size_t missing = 1, events = 0;
    bool is_empty = false;
    {
        Pipeline pipeline(2);
        pipeline.start();
        for (int round = 0; round < 3; round++) {
            pipeline.publish_many(10);
            pipeline.run_until_empty();
            for (int shard = 0; shard < 2; shard++) pipeline.redis.command({"DEL", stream_key(kPrefix, shard)});
        }
        pipeline.publish_many(10);
        is_empty = pipeline.run_until_empty();
        missing = pipeline.missing();
        events = pipeline.events();
    }
    assert_true(is_empty);
    assert_int_equal(missing, 0);
    assert_int_equal(events, 40);
}

// An older Redis gives its entries again, under the same ids or others: they are known.
void test_entries_of_an_older_redis_are_known(void**) {
    std::size_t events = 0;
    std::uint64_t duplicates = 0;
    bool is_empty = false;
    {
        Pipeline pipeline(2);
        std::vector<SampleEvent> old(6, SampleEvent{.org = "org-a"});
        for (std::size_t i = 0; i < old.size(); i++) {
            old[i].id = uuid7(kNow + static_cast<TimeMs>(i));
            pipeline.publish(old[i], static_cast<int>(i % 2));
        }
        pipeline.start();
        pipeline.run_until_empty();
        pipeline.redis.command({"FLUSHALL"});
        // One shard's entries came back into the other one: their slot was elsewhere when the snapshot was made.
        for (std::size_t i = 0; i < old.size(); i++) pipeline.publish(old[i], 0);
        pipeline.publish_many(4);
        is_empty = pipeline.run_until_empty();
        events = pipeline.events();
        duplicates = pipeline.counters().duplicates;
    }
    assert_true(is_empty);
    assert_int_equal(events, 10);
    assert_int_equal(duplicates, 6);
}

// A batch that the store refuses is told of, until it is taken: /health reads it there.
void test_refused_batches_are_told_of_until_they_are_taken(void**) {
    std::int64_t before = 1, during = 0, after = 1;
    bool is_empty = false;
    {
        Pipeline pipeline(1);
        pipeline.matcher.failures = 1'000'000;
        pipeline.start();
        before = pipeline.counters().refused_since_ms;
        pipeline.publish_many(3);
        run_until(pipeline.io, [&] { return pipeline.counters().persist_errors >= 2; });
        during = pipeline.counters().refused_since_ms;
        pipeline.matcher.failures = 0;
        is_empty = pipeline.run_until_empty();
        after = pipeline.counters().refused_since_ms;
    }
    assert_true(is_empty);
    assert_int_equal(before, 0);
    assert_true(during > 0);
    assert_int_equal(after, 0);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(test_large_entries_of_many_streams_are_read_in_turns),
        cmocka_unit_test(test_unexplained_failures_that_pass_cost_no_event),
        cmocka_unit_test(test_unexplained_failure_that_stays_costs_only_its_own_events),
        cmocka_unit_test(test_refused_reads_are_no_answer),
        cmocka_unit_test(test_refused_lengths_are_not_caught_up),
        cmocka_unit_test(test_acknowledged_but_not_deleted_is_cleared),
        cmocka_unit_test(test_entries_that_the_group_has_passed_are_stored),
        cmocka_unit_test(test_acknowledged_twice_is_no_error),
        cmocka_unit_test(test_stream_gone_is_made_again),
        cmocka_unit_test(test_entries_of_an_older_redis_are_known),
        cmocka_unit_test(test_refused_batches_are_told_of_until_they_are_taken),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
