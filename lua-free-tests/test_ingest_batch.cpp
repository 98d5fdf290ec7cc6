// links: headgate_ingest headgate_store headgate_io headgate_common
// One batch without Redis: how much is asked for, what a reply holds, what becomes of it.
#include <hiredis/hiredis.h>
#include <sqlite3.h>

#include <map>

#include "common/resp.h"
#include "lua-free-tests/store_conformance.h"  // last
#include "lua-free-tests/temp_dir.h"
#include "sidecar/ingest/ingest_batch.h"
#include "sidecar/ingest/stream_reader.h"

using namespace headgate;
using namespace headgate::conformance;

namespace {

const std::vector<std::string> kKeys = {"s0", "s1", "s2", "s3"};

class SqliteFactory : public StoreFactory {
 public:
    std::unique_ptr<Store> open() override {
        StoreOptions options;
        options.url = "sqlite:" + dir_.path() + "/store.db";
        options.master_key = std::string(32, 'k');
        return std::move(*open_store(options));
    }
    std::string raw_bytes() override { return {}; }
    void execute(const char* sql) {
        sqlite3* db = nullptr;
        sqlite3_open((dir_.path() + "/store.db").c_str(), &db);
        int code = sqlite3_exec(db, sql, nullptr, nullptr, nullptr);
        sqlite3_close(db);
        World::require(code == SQLITE_OK);
    }

 private:
    TempDir dir_;
};

// Room for `room` deliveries; counts what is reserved and not used.
class CountingSink : public DeliverySink {
 public:
    explicit CountingSink(int room) : room(room) {}
    bool reserve(std::string_view) override {
        if (room == 0) return false;
        room--;
        return true;
    }
    void release(std::string_view) override { room++; }
    void accept(std::vector<ClaimedDelivery>, std::size_t) override {}
    int room;
};

// As when a webhook's row is damaged.
class BrokenMatcher : public ExactMatcher {
 public:
    void load(std::string_view, std::int64_t, std::vector<Webhook>) override {
        throw std::runtime_error("the subscriptions cannot be read");
    }
};

std::shared_ptr<const redisReply> parse(const std::string& resp) {
    redisReader* reader = redisReaderCreate();
    redisReaderFeed(reader, resp.data(), resp.size());
    void* reply = nullptr;
    redisReaderGetReply(reader, &reply);
    redisReaderFree(reader);
    return {static_cast<redisReply*>(reply), RedisReplyDeleter()};
}

void write_entry(RespWriter& writer, const std::string& id, const SampleEvent& event) {
    std::string at = std::to_string(event.at);
    writer.array(2).bulk(id).command("v", "1", "id", event.id, "org", event.org, "key", "key-1", "type", event.type,
                                     "source", "shop", "payload", event.payload, "ord", "", "tp", "", "via", "api",
                                     "at", at);
}

// One stream with these entries.
std::shared_ptr<const redisReply> reply_of(const std::string& key, const std::vector<SampleEvent>& events) {
    std::string resp;
    RespWriter writer(resp);
    writer.array(1).array(2).bulk(key).array(events.size());
    int number = 0;
    for (const SampleEvent& event : events) write_entry(writer, "100-" + std::to_string(++number), event);
    return parse(resp);
}

void test_read_count_starts_moderate_and_grows_while_filled(void**) {
    ReadCount count(8, 512, 16 << 20);
    assert_int_equal(count.per_stream(), 8);
    count.observe(8 * 1024, 8, 0);  // not filled: nothing to gain
    assert_int_equal(count.per_stream(), 8);
    for (std::size_t expected : {16, 32, 64, 128, 128}) {
        count.observe(1024, 8, 1);
        assert_int_equal(count.per_stream(), expected);
    }
    ReadCount alone(1, 512, 16 << 20);
    for (int i = 0; i < 10; i++) alone.observe(1024, 8, 1);
    assert_int_equal(alone.per_stream(), 512);
    assert_int_equal(ReadCount(1024, 512, 16 << 20).per_stream(), 1);
    assert_int_equal(ReadCount(1, 1, 16 << 20).per_stream(), 1);
}

void test_read_count_halves_beyond_half_of_the_bound(void**) {
    ReadCount at_half(1, 512, 1000);
    at_half.observe(500, 64, 0);
    assert_int_equal(at_half.per_stream(), 64);
    ReadCount beyond(1, 512, 1000);
    beyond.observe(501, 64, 1);
    assert_int_equal(beyond.per_stream(), 32);
    for (int i = 0; i < 10; i++) beyond.observe(501, 1, 1);
    assert_int_equal(beyond.per_stream(), 1);
    beyond.reply_was_too_large();
    assert_int_equal(beyond.per_stream(), 1);
}

void test_read_count_grows_only_as_far_as_entries_fit(void**) {
    ReadCount count(1, 512, 16 << 20);
    count.observe(64 * 100'000, 64, 1);  // 100 kB each: 83 of them are half of the bound
    assert_int_equal(count.per_stream(), 83);
    count.reply_was_too_large();
    assert_int_equal(count.per_stream(), 1);
}

// One busy stream of small entries let the count grow to 512 for each of them: when all eight then held
// large ones, Redis made a reply of a gigabyte.
void test_read_count_bounds_what_all_streams_may_give(void**) {
    for (std::size_t streams : {1, 8, 64, 1024}) {
        ReadCount count(streams, 512, 16 << 20);
        for (int i = 0; i < 20; i++) count.observe(1024, 64, 1);
        assert_true(count.per_stream() * streams <= 1024);
    }
}

using Keys = std::vector<std::string>;

// One entry of each stream was still too much, and asked for again without end.
void test_read_window_asks_fewer_streams_in_turns(void**) {
    const Keys all = {"a", "b", "c", "d", "e"};
    ReadWindow window(all, 1000);
    assert_true(window.is_whole() && window.keys() == all);
    window.reply_was_too_large();
    assert_true(!window.is_whole() && window.keys() == Keys({"a", "b", "c"}));
    window.reply_was_too_large();
    assert_true(window.keys() == Keys({"a", "b"}));
    window.advance(900);
    assert_true(window.keys() == Keys({"c", "d"}));
    window.advance(900);
    assert_true(window.keys() == Keys({"e"}));
    window.advance(900);
    assert_true(window.keys() == Keys({"a", "b"}));
    window.advance(100);  // little: more of them
    assert_true(window.keys() == Keys({"c", "d", "e"}));
    window.advance(0);
    assert_true(window.is_whole() && window.keys() == all && window.reply_bytes_max() == 1000);
}

void test_read_window_raises_the_bound_for_a_single_entry(void**) {
    const Keys all = {"a", "b"};
    ReadWindow window(all, 1000);
    window.reply_was_too_large();
    assert_true(window.keys() == Keys({"a"}) && window.reply_bytes_max() == 1000);
    window.reply_was_too_large();
    window.reply_was_too_large();
    assert_true(window.keys() == Keys({"a"}) && window.reply_bytes_max() == 4000);
    window.advance(3900);
    assert_true(window.keys() == Keys({"b"}) && window.reply_bytes_max() == 4000);
    window.advance(10);
    assert_true(window.is_whole() && window.reply_bytes_max() == 1000);
}

void test_read_window_looks_for_pending_in_every_stream(void**) {
    const Keys all = {"a", "b", "c"};
    ReadWindow window(all, 1000);
    assert_true(window.has_no_pending());
    window.reply_was_too_large();
    window.look_for_pending();
    assert_false(window.has_no_pending());
    window.reply_was_too_large();  // at "c"
    assert_true(window.has_no_pending());
    window.look_for_pending();
    for (bool is_last : {false, false, true}) assert_true(window.has_no_pending() == is_last);
}

void test_command_asks_for_pending_or_new(void**) {
    std::string pending = xreadgroup_command({"a", "b"}, ReadFrom::kPending, 7, std::chrono::milliseconds(1000));
    std::string expected;
    RespWriter(expected).command("XREADGROUP", "GROUP", "headgate", "owner", "COUNT", "7", "STREAMS", "a", "b", "0",
                                 "0");
    assert_string_equal(pending.c_str(), expected.c_str());
    std::string fresh = xreadgroup_command({"a"}, ReadFrom::kNew, 7, std::chrono::milliseconds(1000));
    expected.clear();
    RespWriter(expected).command("XREADGROUP", "GROUP", "headgate", "owner", "COUNT", "7", "BLOCK", "1000", "STREAMS",
                                 "a", ">");
    assert_string_equal(fresh.c_str(), expected.c_str());
}

void test_stream_id_is_two_numbers(void**) {
    std::uint64_t ms = 0;
    std::uint64_t seq = 0;
    assert_true(parse_stream_id("18446744073709551615-7", ms, seq) && ms == UINT64_MAX && seq == 7);
    for (const char* bad : {"", "-", "1", "1-", "-1", "1-2-3", "1-x", "18446744073709551616-0", " 1-2"}) {
        assert_false(parse_stream_id(bad, ms, seq));
    }
}

void test_decode_separates_events_poison_and_deleted(void**) {
    SampleEvent event{.org = "org-a", .at = kNow + 5};
    SampleEvent other{.org = "org-a", .at = kNow - 5};
    std::string resp;
    RespWriter writer(resp);
    writer.array(2);
    writer.array(2).bulk("s1").array(3);
    write_entry(writer, "7-1", event);
    writer.array(2).bulk("7-2").command("v", "1", "junk", "\r\n");
    resp += "*2\r\n$3\r\n7-3\r\n*-1\r\n";
    writer.array(2).bulk("s3").array(1);
    write_entry(writer, "8-0", other);
    auto batch = decode_batch(parse(resp), kKeys, kNow);
    assert_true(batch.has_value());
    assert_true(batch->events.size() == 2 && batch->entries == 4 && batch->fullest == 3);
    assert_true(batch->events[0].id == event.id && batch->events[0].payload == event.payload);
    assert_true(batch->positions[0].shard == 1 && batch->positions[0].ms == 7 && batch->positions[0].seq == 1);
    assert_true(batch->positions[1].shard == 3 && batch->positions[1].ms == 8);
    assert_true(batch->quarantine.size() == 1 && batch->quarantine[0].stream_id == "7-2" &&
                batch->quarantine[0].shard == 1);
    assert_string_equal(batch->quarantine[0].bytes.c_str(), "*4\r\n$1\r\nv\r\n$1\r\n1\r\n$4\r\njunk\r\n$2\r\n\r\n\r\n");
    assert_true(batch->oldest_at == kNow - 5 && batch->newest_at == kNow + 5);
    assert_true(batch->shards.size() == 2 && batch->shards[0].last.seq == 3);

    std::string expected;
    RespWriter acks(expected);
    acks.command("MULTI").command("XACK", "s1", "headgate", "7-1", "7-2", "7-3");
    acks.command("XDEL", "s1", "7-1", "7-2", "7-3").command("EXEC");
    acks.command("MULTI").command("XACK", "s3", "headgate", "8-0").command("XDEL", "s3", "8-0").command("EXEC");
    std::string bytes;
    bool each_knows_its_key = true;
    for (const RedisCommands& commands : ack_commands(*batch, kKeys)) {
        bytes += commands.bytes;
        each_knows_its_key = each_knows_its_key && commands.bytes.find(commands.key) != std::string::npos &&
                             commands.replies == kRepliesPerAck;
    }
    assert_string_equal(bytes.c_str(), expected.c_str());
    assert_true(each_knows_its_key);
}

// A time that cannot be costs neither the event nor those who sort by it: when Redis got it is known.
void test_decode_impossible_times_are_when_redis_got_it(void**) {
    struct {
        const char* id;
        TimeMs at, expected;
    } const cases[] = {
        {"1700000000123-0", kNow, kNow},
        {"1700000000123-0", 1, 1},
        {"1700000000123-0", 0, 1'700'000'000'123},
        {"1700000000123-0", kNow + kAheadMs, kNow + kAheadMs},
        {"1700000000123-0", kNow + kAheadMs + 1, 1'700'000'000'123},
        {"1700000000123-0", 253'402'300'799'999, 1'700'000'000'123},
        // Our own clock is far behind.
        {"1900000000000-0", 1'900'000'000'000, 1'900'000'000'000},
        {"18446744073709551615-1", 0, kNow},
        {"0-1", 0, kNow},
        {"7-1", kNow + 5, kNow + 5},
    };
    for (const auto& each : cases) {
        std::string resp;
        RespWriter writer(resp);
        writer.array(1).array(2).bulk("s1").array(1);
        write_entry(writer, each.id, {.org = "org-a", .at = each.at});
        auto batch = decode_batch(parse(resp), kKeys, kNow);
        assert_true(batch.has_value() && batch->events.size() == 1);
        assert_int_equal(batch->events[0].at_ms, each.expected);
        assert_int_equal(batch->oldest_at, each.expected);
    }
    std::string resp;
    RespWriter writer(resp);
    writer.array(1).array(2).bulk("s1").array(1);
    write_entry(writer, "1700000000123-0", {.org = "org-a", .at = -1});
    auto batch = decode_batch(parse(resp), kKeys, kNow);
    assert_true(batch.has_value() && batch->events.empty() && batch->quarantine.size() == 1);
}

void test_decode_other_shapes_are_corrupt(void**) {
    for (const char* resp :
         {":1\r\n", "*1\r\n:1\r\n", "*1\r\n*2\r\n$2\r\ns9\r\n*0\r\n", "*1\r\n*2\r\n$2\r\ns1\r\n:1\r\n",
          "*1\r\n*2\r\n$2\r\ns1\r\n*1\r\n:1\r\n", "*1\r\n*2\r\n$2\r\ns1\r\n*1\r\n*2\r\n$1\r\nx\r\n*0\r\n",
          "*1\r\n*2\r\n$2\r\ns1\r\n*1\r\n*2\r\n$3\r\n1-1\r\n*1\r\n$1\r\nv\r\n",
          "*1\r\n*2\r\n$2\r\ns1\r\n*1\r\n*2\r\n$3\r\n1-1\r\n*2\r\n$1\r\nv\r\n:1\r\n"}) {
        assert_int_equal(code_of(decode_batch(parse(resp), kKeys)), static_cast<int>(ErrorCode::kCorrupt));
    }
}

void test_persist_batch_hands_on_claims_that_share_their_event(void** state) {
    World& world = world_of(state);
    world.add_webhook("wh-1");
    world.add_webhook("wh-2");
    CountingSink sink(3);
    auto batch = decode_batch(reply_of("s0", {{.org = "org-a"}, {.org = "org-a"}}), kKeys);
    PersistProgress done = persist_batch(*world.store, world.matcher, sink, *batch, *world.owned, kNow);
    assert_false(done.error.has_value());
    assert_true(done.events_new == 2 && done.claimed.size() == 3 && done.unclaimed == 1 && sink.room == 0);
    assert_true(done.claimed[0].event == done.claimed[1].event && done.claimed[0].event != done.claimed[2].event);
    assert_true(done.claimed[2].event->id == batch->events[1].id &&
                done.claimed[2].event->payload == batch->events[1].payload);
}

// One event that the store cannot take costs itself only, wherever it stands in the batch.
void test_persist_batch_bisects_to_the_culprits(void** state) {
    World& world = world_of(state);
    world.add_webhook("wh-1");
    std::vector<SampleEvent> events;
    for (int i = 0; i < 33; i++) {
        bool is_poison = i == 0 || i == 16 || i == 17 || i == 32;
        events.push_back({.org = "org-a", .type = is_poison ? "poison.pill" : "order.created"});
    }
    CountingSink sink(100);
    auto batch = decode_batch(reply_of("s2", events), kKeys);
    batch->quarantine.push_back({"99-1", "cannot be decoded", "*0\r\n", 2});
    PersistProgress done = persist_batch(*world.store, world.matcher, sink, *batch, *world.owned, kNow);
    assert_false(done.error.has_value());
    assert_true(done.events_new == 29 && done.quarantined == 5 && done.duplicates == 0);
    assert_int_equal(done.claimed.size(), 29);
    assert_int_equal(sink.room, 100 - 29);  // what failed commits had reserved is free again
    assert_int_equal(world.store->totals()->quarantined, 5);
    std::size_t persisted = 0;
    for (const SampleEvent& event : events) persisted += world.store->get_event("org-a", event.id).has_value() ? 1 : 0;
    assert_int_equal(persisted, 29);
}

void test_persist_batch_lost_lease_is_no_culprit(void** state) {
    World& world = world_of(state);
    CountingSink sink(100);
    world.add_webhook("wh-1");
    auto batch = decode_batch(reply_of("s2", {{.org = "org-a"}, {.org = "org-a"}}), kKeys);
    PersistProgress done = persist_batch(*world.store, world.matcher, sink, *batch,
                                         OwnedParts{std::vector<std::int64_t>(4, 99), {}}, kNow);
    assert_true(done.error.has_value() && done.error->code == ErrorCode::kLeaseLost);
    assert_true(done.claimed.empty() && sink.room == 100);
    assert_int_equal(world.store->totals()->quarantined, 0);
}

// A failure without a cause cost the events: they were bisected and put in quarantine at once.
void test_persist_batch_unexplained_failure_is_no_culprit_at_first(void** state) {
    World& world = world_of(state);
    world.add_webhook("wh-1");
    CountingSink sink(100);
    auto batch = decode_batch(reply_of("s2", {{.org = "org-a"}, {.org = "org-a"}}), kKeys);
    BrokenMatcher broken;
    PersistProgress first = persist_batch(*world.store, broken, sink, *batch, *world.owned, kNow);
    assert_true(first.error.has_value() && first.error->code == ErrorCode::kInternal);
    assert_int_equal(first.quarantined + world.store->totals()->quarantined, 0);
    PersistProgress last = persist_batch(*world.store, broken, sink, *batch, *world.owned, kNow, OnInternal::kBisect);
    assert_false(last.error.has_value());
    assert_true(last.quarantined == 2 && world.store->totals()->quarantined == 2);
}

// The store's own damage, which fails for an empty batch as well, is never looked for in the events.
void test_persist_batch_damaged_store_is_no_culprit(void** state) {
    World& world = world_of(state);
    CountingSink sink(100);
    auto batch = decode_batch(reply_of("s2", {{.org = "org-a"}, {.org = "org-a"}}), kKeys);
    static_cast<SqliteFactory&>(*world.factory).execute("DROP TABLE leases");
    PersistProgress done =
        persist_batch(*world.store, world.matcher, sink, *batch, *world.owned, kNow, OnInternal::kBisect);
    assert_true(done.error.has_value() && done.error->code == ErrorCode::kUnavailable);
    assert_int_equal(world.store->totals()->quarantined, 0);
}

// The refusal of the undecodable entries' bytes was forgotten when the events were bisected: the batch
// was acknowledged and deleted without them.
void test_persist_batch_fails_when_undecodable_bytes_cannot_be_kept(void** state) {
    World& world = world_of(state);
    CountingSink sink(100);
    auto batch = decode_batch(reply_of("s2", {{.org = "org-a"}, {.org = "org-a"}}), kKeys);
    batch->quarantine.push_back({"99-1", "cannot be decoded", "*0\r\n", 2});
    static_cast<SqliteFactory&>(*world.factory)
        .execute("CREATE TRIGGER full BEFORE INSERT ON quarantine BEGIN SELECT RAISE(ABORT, 'no'); END");
    PersistProgress done = persist_batch(*world.store, world.matcher, sink, *batch, *world.owned, kNow);
    assert_true(done.error.has_value() && done.error->code == ErrorCode::kUnavailable);
}

}  // namespace

int main() {
    make_factory = []() -> std::unique_ptr<StoreFactory> { return std::make_unique<SqliteFactory>(); };
    const CMUnitTest tests[] = {
        cmocka_unit_test(test_read_count_starts_moderate_and_grows_while_filled),
        cmocka_unit_test(test_read_count_halves_beyond_half_of_the_bound),
        cmocka_unit_test(test_read_count_grows_only_as_far_as_entries_fit),
        cmocka_unit_test(test_read_count_bounds_what_all_streams_may_give),
        cmocka_unit_test(test_read_window_asks_fewer_streams_in_turns),
        cmocka_unit_test(test_read_window_raises_the_bound_for_a_single_entry),
        cmocka_unit_test(test_read_window_looks_for_pending_in_every_stream),
        cmocka_unit_test(test_command_asks_for_pending_or_new),
        cmocka_unit_test(test_stream_id_is_two_numbers),
        cmocka_unit_test(test_decode_separates_events_poison_and_deleted),
        cmocka_unit_test(test_decode_impossible_times_are_when_redis_got_it),
        cmocka_unit_test(test_decode_other_shapes_are_corrupt),
        WORLD_TEST(test_persist_batch_hands_on_claims_that_share_their_event),
        WORLD_TEST(test_persist_batch_bisects_to_the_culprits),
        WORLD_TEST(test_persist_batch_lost_lease_is_no_culprit),
        WORLD_TEST(test_persist_batch_unexplained_failure_is_no_culprit_at_first),
        WORLD_TEST(test_persist_batch_damaged_store_is_no_culprit),
        WORLD_TEST(test_persist_batch_fails_when_undecodable_bytes_cannot_be_kept),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
