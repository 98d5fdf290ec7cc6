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

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(test_large_entries_of_many_streams_are_read_in_turns),
        cmocka_unit_test(test_unexplained_failures_that_pass_cost_no_event),
        cmocka_unit_test(test_unexplained_failure_that_stays_costs_only_its_own_events),
        cmocka_unit_test(test_refused_reads_are_no_answer),
        cmocka_unit_test(test_refused_lengths_are_not_caught_up),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
