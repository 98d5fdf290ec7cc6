// links: headgate_ingest headgate_store headgate_io headgate_common
// Ingest while shards come and go.
#include "lua-free-tests/ingest_pipeline.h"  // last

using namespace headgate;
using namespace headgate::conformance;
using std::chrono::milliseconds;

namespace {

// Each test computes in an inner scope and asserts on plain values: a failed assertion runs no destructor.

// What we own of what the store says is ours.
OwnedPartsPtr only(const OwnedPartsPtr& owned, const std::vector<int>& shards) {
    auto some = std::make_shared<OwnedParts>(*owned);
    for (std::size_t shard = 0; shard < some->shard_epochs.size(); shard++) {
        bool is_ours = std::find(shards.begin(), shards.end(), static_cast<int>(shard)) != shards.end();
        if (!is_ours) some->shard_epochs[shard] = 0;
    }
    return some;
}

long long left_in(Pipeline& pipeline, int shard) { return pipeline.redis.number({"XLEN", stream_key(kPrefix, shard)}); }

// As the group's one consumer, without persisting anything: a predecessor that died, or one that was late.
void read_as_another(Pipeline& pipeline, int shard) {
    pipeline.redis.command({"XREADGROUP", "GROUP", "headgate", "owner", "STREAMS", stream_key(kPrefix, shard), ">"});
}

void test_only_owned_shards_are_read_and_gained_ones_from_their_pending_entries(void**) {
    bool first_read = false, second_read = false, has_ended = false, third_in_use = true;
    long long left_before = 0, left_last = 0;
    std::size_t missing_at_end = 0;
    {
        Pipeline pipeline;
        for (int shard = 0; shard < 3; shard++)
            pipeline.redis.command({"XGROUP", "CREATE", stream_key(kPrefix, shard), "headgate", "0", "MKSTREAM"});
        OwnedPartsPtr all = pipeline.owned;
        pipeline.owned = only(all, {0});
        pipeline.start();
        pipeline.publish_many(30);
        read_as_another(pipeline, 1);
        first_read = run_until(pipeline.io, [&] { return left_in(pipeline, 0) == 0; });
        left_before = left_in(pipeline, 1) + left_in(pipeline, 2);
        third_in_use = pipeline.ingest->is_shard_in_use(2);
        pipeline.ingest->follow(only(all, {0, 1}));
        second_read = run_until(pipeline.io, [&] { return left_in(pipeline, 1) == 0; });
        pipeline.ingest->follow(only(all, {}));
        has_ended = run_until(
            pipeline.io, [&] { return !pipeline.ingest->is_shard_in_use(0) && !pipeline.ingest->is_shard_in_use(1); });
        pipeline.publish_many(3);
        run_until(pipeline.io, [&, turns = 0]() mutable { return ++turns > 10; });
        left_last = pipeline.left();
        missing_at_end = pipeline.missing();
        pipeline.ingest->follow(all);
        pipeline.run_until_empty();
        missing_at_end = missing_at_end * 100 + pipeline.missing();
    }
    assert_true(first_read);
    assert_int_equal(left_before, 20);
    assert_false(third_in_use);
    assert_true(second_read);
    assert_true(has_ended);
    assert_int_equal(left_last, 13);
    assert_int_equal(missing_at_end, 1300);
}

void test_nothing_is_read_on_old_leases(void**) {
    long long left = 0;
    bool is_read_after = false;
    {
        Pipeline pipeline;
        auto old = std::make_shared<OwnedParts>(*pipeline.owned);
        old->valid_until = std::chrono::steady_clock::now();
        OwnedPartsPtr renewed = pipeline.owned;
        pipeline.owned = old;
        pipeline.start();
        pipeline.publish_many(3);
        run_until(pipeline.io, [&, turns = 0]() mutable { return ++turns > 10; });
        left = pipeline.left();
        pipeline.ingest->follow(renewed);
        is_read_after = pipeline.run_until_empty();
    }
    assert_int_equal(left, 3);
    assert_true(is_read_after);
}

// Entries that a late reader was given after we had looked for pending ones waited for the next restart.
void test_entries_given_to_a_late_reader_are_found(void**) {
    bool is_empty = false;
    std::size_t missing = 1;
    {
        Pipeline pipeline(1);
        pipeline.options.pending_interval = milliseconds(100);
        pipeline.start();
        pipeline.publish_many(1);
        pipeline.run_until_empty();
        // Not while ingest reads: it would be given the entry itself.
        pipeline.publish_many(1);
        read_as_another(pipeline, 0);
        is_empty = pipeline.run_until_empty();
        missing = pipeline.missing();
    }
    assert_true(is_empty);
    assert_int_equal(missing, 0);
}

// GET /inbox waits for what other instances persist, too.
void test_caught_up_waits_for_the_shards_of_others(void**) {
    bool while_left = true, after = false;
    {
        Pipeline pipeline(2);
        pipeline.owned = only(pipeline.owned, {0});
        pipeline.start();
        pipeline.publish_many(2);
        run_until(pipeline.io, [&] { return left_in(pipeline, 0) == 0; });
        while_left = run_awaitable(pipeline.io, pipeline.ingest->wait_until_caught_up(milliseconds(200)));
        bool is_done = false;
        boost::asio::co_spawn(pipeline.io, pipeline.ingest->wait_until_caught_up(milliseconds(30'000)),
                              [&](const std::exception_ptr&, bool caught_up) {
                                  is_done = true;
                                  after = caught_up;
                              });
        run_until(pipeline.io, [&, turns = 0]() mutable { return ++turns > 3; });
        pipeline.redis.command({"XTRIM", stream_key(kPrefix, 1), "MAXLEN", "0"});
        run_until(pipeline.io, [&] { return is_done; });
    }
    assert_false(while_left);
    assert_true(after);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(test_only_owned_shards_are_read_and_gained_ones_from_their_pending_entries),
        cmocka_unit_test(test_nothing_is_read_on_old_leases),
        cmocka_unit_test(test_entries_given_to_a_late_reader_are_found),
        cmocka_unit_test(test_caught_up_waits_for_the_shards_of_others),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
