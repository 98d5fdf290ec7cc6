// links: headgate_ingest headgate_store headgate_io headgate_common
// Ingest and a Redis whose memory is full: it takes nothing that needs memory, and it is ingest that makes room.
#include "lua-free-tests/ingest_pipeline.h"  // last

using namespace headgate;
using namespace headgate::conformance;
using std::chrono::milliseconds;

namespace {

// Each test computes in an inner scope and asserts on plain values: a failed assertion runs no destructor.

struct Drained {
    bool was_full = false, is_empty = false;
    std::size_t missing = 1, events = 0;
    long long pending = 1;
    std::uint64_t duplicates = 1;
};

// Less than an empty Redis needs: it stays full whatever is deleted.
void fill(Pipeline& pipeline) { pipeline.redis.command({"CONFIG", "SET", "maxmemory", "100kb"}); }

Drained drain(Pipeline& pipeline) {
    Drained seen;
    auto refused = pipeline.redis.command({"SET", "one", "more"});
    seen.was_full = error_text(*refused).starts_with("OOM");
    pipeline.start();
    seen.is_empty = pipeline.run_until_empty();
    run_until(pipeline.io, [&] { return pipeline.pending() == 0; });
    seen.missing = pipeline.missing();
    seen.events = pipeline.events();
    seen.pending = pipeline.pending();
    seen.duplicates = pipeline.counters().duplicates;
    return seen;
}

// Redis refuses every command inside MULTI, XACK and XDEL too: nothing was acknowledged, and so nothing was read.
void test_a_full_redis_is_drained(void**) {
    Drained seen;
    {
        Pipeline pipeline(3);
        pipeline.start();
        pipeline.publish_many(3);
        pipeline.run_until_empty();
        pipeline.stop();
        pipeline.publish_many(500, 10'000);
        fill(pipeline);
        seen = drain(pipeline);
    }
    assert_true(seen.was_full);
    assert_true(seen.is_empty);
    assert_int_equal(seen.missing, 0);
    assert_int_equal(seen.events, 503);
    assert_int_equal(seen.pending, 0);
    assert_int_equal(seen.duplicates, 0);
}

// XGROUP CREATE needs memory: without groups nothing was ever read.
void test_a_full_redis_without_groups_is_drained(void**) {
    Drained seen;
    {
        Pipeline pipeline(3);
        pipeline.publish_many(200, 10'000);
        fill(pipeline);
        seen = drain(pipeline);
    }
    assert_true(seen.was_full);
    assert_true(seen.is_empty);
    assert_int_equal(seen.missing, 0);
    assert_int_equal(seen.events, 200);
}

// One stream has lost its group, with what lies in it; the others hold entries that were delivered and not
// acknowledged.
void test_a_full_redis_with_a_lost_group_is_drained(void**) {
    Drained seen;
    {
        Pipeline pipeline(3);
        pipeline.start();
        pipeline.publish_many(3);
        pipeline.run_until_empty();
        pipeline.stop();
        pipeline.publish_many(60, 10'000);
        for (int shard = 0; shard < 3; shard++) {
            const std::string key = stream_key(kPrefix, shard);
            pipeline.redis.command({"XREADGROUP", "GROUP", "headgate", "owner", "COUNT", "5", "STREAMS", key, ">"});
        }
        pipeline.redis.command({"XGROUP", "DESTROY", stream_key(kPrefix, 1), "headgate"});
        fill(pipeline);
        seen = drain(pipeline);
    }
    assert_true(seen.was_full);
    assert_true(seen.is_empty);
    assert_int_equal(seen.missing, 0);
    assert_int_equal(seen.events, 63);
    assert_int_equal(seen.pending, 0);
    assert_int_equal(seen.duplicates, 0);
}

// Deleted, and the acknowledgement was cut off: pending without a body.
void test_deleted_but_not_acknowledged_is_acknowledged(void**) {
    std::size_t events = 0;
    long long before = 0, after = 1;
    {
        Pipeline pipeline(1);
        const std::string key = stream_key(kPrefix, 0);
        pipeline.start();
        pipeline.publish_many(1);
        pipeline.run_until_empty();
        pipeline.stop();
        auto id = pipeline.redis.command(pipeline.entry({.org = "org-a"}, 0));
        pipeline.redis.command({"XREADGROUP", "GROUP", "headgate", "owner", "STREAMS", key, ">"});
        pipeline.redis.command({"XDEL", key, id->str});
        before = pipeline.pending();
        fill(pipeline);
        pipeline.start();
        run_until(pipeline.io, [&] { return pipeline.pending() == 0; });
        after = pipeline.pending();
        events = pipeline.events();
    }
    assert_int_equal(before, 1);
    assert_int_equal(after, 0);
    assert_int_equal(events, 1);
}

// A Redis that cannot save its snapshot refuses all that writes: nothing can be done until it can again.
void test_a_redis_that_refuses_writes_is_drained_afterwards(void**) {
    bool was_refused = false, is_empty = false;
    std::size_t missing = 1, events = 0;
    long long pending = 1;
    {
        Pipeline pipeline(2);
        pipeline.start();
        pipeline.publish_many(2);
        pipeline.run_until_empty();
        pipeline.redis.command({"CONFIG", "SET", "min-replicas-to-write", "1"});
        // In the way of MISCONF, and at once.
        was_refused = run_until(pipeline.io, [&] {
            return error_text(*pipeline.redis.command({"SET", "one", "more"})).starts_with("NOREPLICAS");
        });
        pipeline.redis.command({"CONFIG", "SET", "min-replicas-to-write", "0"});
        pipeline.publish_many(40);
        pipeline.redis.command({"CONFIG", "SET", "min-replicas-to-write", "1"});
        run_until(pipeline.io, [&, began = std::chrono::steady_clock::now()] {
            return std::chrono::steady_clock::now() - began > milliseconds(300);
        });
        pipeline.redis.command({"CONFIG", "SET", "min-replicas-to-write", "0"});
        is_empty = pipeline.run_until_empty();
        missing = pipeline.missing();
        events = pipeline.events();
        pending = pipeline.pending();
    }
    assert_true(was_refused);
    assert_true(is_empty);
    assert_int_equal(missing, 0);
    assert_int_equal(events, 42);
    assert_int_equal(pending, 0);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(test_a_full_redis_is_drained),
        cmocka_unit_test(test_a_full_redis_without_groups_is_drained),
        cmocka_unit_test(test_a_full_redis_with_a_lost_group_is_drained),
        cmocka_unit_test(test_deleted_but_not_acknowledged_is_acknowledged),
        cmocka_unit_test(test_a_redis_that_refuses_writes_is_drained_afterwards),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
