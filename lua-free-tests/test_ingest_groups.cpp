// links: headgate_ingest headgate_store headgate_io headgate_common
// All readers of the streams while shards come and go: on one server, and on a cluster (of one node: it takes no
// command about several slots either).
#include <sqlite3.h>

#include "lua-free-tests/ingest_pipeline.h"  // last
#include "sidecar/ingest/ingest_groups.h"

using namespace headgate;
using namespace headgate::conformance;
using std::chrono::milliseconds;

namespace {

// Each test computes in an inner scope and asserts on plain values: a failed assertion runs no destructor.

enum class Kind : bool { kOneServer, kCluster };

struct Groups {
    explicit Groups(Kind kind)
        : port(free_port()), pipeline(3, kind == Kind::kCluster ? cluster_words() : std::vector<std::string>()) {
        all = pipeline.owned;
        if (kind == Kind::kOneServer) {
            options.redis.unix_path = pipeline.redis.socket_path();
            return;
        }
        options.redis.host = "127.0.0.1";
        options.redis.port = port;
        options.redis.is_cluster = true;
        pipeline.redis.command({"CLUSTER", "ADDSLOTSRANGE", "0", "16383"});
        auto is_ok = [this] {
            auto info = pipeline.redis.command({"CLUSTER", "INFO"});
            return std::string(info->str, info->len).starts_with("cluster_state:ok");
        };
        World::require(run_until(pipeline.io, is_ok));
    }
    ~Groups() {
        if (!ingest) return;
        ingest->stop();
        run_until(pipeline.io, [this] { return has_ended; });
        ingest.reset();
        pipeline.db.reset();
    }

    [[nodiscard]] std::vector<std::string> cluster_words() const {
        return {"--port", port, "--bind", "127.0.0.1", "--cluster-enabled", "yes", "--cluster-port", free_port()};
    }
    // Of all shards these.
    [[nodiscard]] OwnedPartsPtr only(const std::vector<int>& shards) const {
        auto some = std::make_shared<OwnedParts>(*all);
        for (std::size_t shard = 0; shard < some->shard_epochs.size(); shard++) {
            bool is_ours = std::find(shards.begin(), shards.end(), static_cast<int>(shard)) != shards.end();
            if (!is_ours) some->shard_epochs[shard] = 0;
        }
        return some;
    }
    void start(OwnedPartsPtr owned) {
        pipeline.db = std::make_unique<DbExecutor>(pipeline.open());
        options.key_prefix = kPrefix;
        options.shards = pipeline.shards;
        options.owned = std::move(owned);
        ingest = std::make_unique<IngestGroups>(pipeline.io.get_executor(), *pipeline.db, pipeline.matcher,
                                                pipeline.sink, options);
        boost::asio::co_spawn(pipeline.io, ingest->run(), [this](std::exception_ptr) { has_ended = true; });
    }
    long long left_in(int shard) { return pipeline.redis.number({"XLEN", stream_key(kPrefix, shard)}); }
    bool run_until_read(int shard) {
        return run_until(pipeline.io, [this, shard] { return left_in(shard) == 0; });
    }
    bool run_until_unused(int shard) {
        return run_until(pipeline.io, [this, shard] { return !ingest->is_shard_in_use(shard); });
    }
    void turn(int times) {
        run_until(pipeline.io, [turns = 0, times]() mutable { return ++turns > times; });
    }
    // The connections that read, by their numbers.
    std::vector<std::string> readers() {
        auto reply = pipeline.redis.command({"CLIENT", "LIST"});
        std::string list(reply->str, reply->len);
        std::vector<std::string> found;
        for (std::size_t at = 0; at < list.size(); at = list.find('\n', at) + 1) {
            std::string line = list.substr(at, list.find('\n', at) - at);
            if (line.find(" cmd=xreadgroup") != std::string::npos) found.push_back(line.substr(0, line.find(' ')));
        }
        return found;
    }
    bool run_until_readers(std::size_t count) {
        return run_until(pipeline.io, [this, count] { return readers().size() == count; });
    }

    std::string port;
    Pipeline pipeline;
    OwnedPartsPtr all;
    IngestOptions options;
    std::unique_ptr<IngestGroups> ingest;
    bool has_ended = false;
};

void test_one_servers_reader_follows_on_its_connection(void**) {
    std::vector<std::string> first, last;
    bool all_read = false, is_given_up = false;
    long long left_of_others = 0;
    std::size_t missing = 1;
    {
        Groups groups(Kind::kOneServer);
        groups.start(groups.only({0}));
        groups.pipeline.publish_many(3);
        all_read = groups.run_until_read(0) && groups.run_until_readers(1);
        first = groups.readers();
        left_of_others = groups.left_in(1) + groups.left_in(2);
        groups.ingest->follow(groups.only({1}));
        is_given_up = groups.run_until_read(1) && groups.run_until_unused(0);
        groups.ingest->follow(groups.only({}));
        is_given_up = is_given_up && groups.run_until_unused(1);
        groups.ingest->follow(groups.all);
        all_read = all_read && groups.pipeline.run_until_empty() && groups.run_until_readers(1);
        last = groups.readers();
        missing = groups.pipeline.missing();
    }
    assert_true(all_read);
    assert_int_equal(left_of_others, 2);
    assert_true(is_given_up);
    assert_int_equal(first.size(), 1);
    assert_true(first == last);
    assert_int_equal(missing, 0);
}

void test_cluster_has_a_reader_for_each_owned_shard(void**) {
    bool one_reads = false, is_given_up = false, one_is_left = false, all_read = false;
    long long left_of_others = 0;
    std::size_t missing = 1, drained = 0;
    {
        Groups groups(Kind::kCluster);
        groups.start(groups.only({0, 1}));
        groups.pipeline.publish_many(3);
        one_reads = groups.run_until_read(0) && groups.run_until_read(1) && groups.run_until_readers(2);
        groups.ingest->follow(groups.only({0}));
        is_given_up = groups.run_until_unused(1);
        one_is_left = groups.run_until_readers(1);
        groups.pipeline.publish_many(3);
        groups.run_until_read(0);
        left_of_others = groups.left_in(1) + groups.left_in(2);
        groups.ingest->follow(groups.all);
        all_read = groups.pipeline.run_until_empty() && groups.run_until_readers(3);
        missing = groups.pipeline.missing();
        drained = groups.ingest->counters().drained;
    }
    assert_true(one_reads);
    assert_true(is_given_up);
    assert_true(one_is_left);
    assert_int_equal(left_of_others, 3);
    assert_true(all_read);
    assert_int_equal(missing, 0);
    assert_int_equal(drained, 6);
}

// What is in hand when a shard leaves is finished first: until then the shard is in use, so that nobody else takes it.
void test_cluster_shard_that_leaves_is_in_use_until_its_batch_is_done(void**) {
    bool in_use_while_locked = false, is_given_up = false, other_in_use = true;
    long long left = 1;
    std::size_t missing = 1;
    {
        Groups groups(Kind::kCluster);
        groups.start(groups.only({0, 1}));
        groups.run_until_readers(2);
        sqlite3* lock = nullptr;
        sqlite3_open(groups.pipeline.store_path().c_str(), &lock);
        sqlite3_exec(lock, "BEGIN IMMEDIATE", nullptr, nullptr, nullptr);
        groups.pipeline.publish({.org = "org-a"}, 1);
        run_until(groups.pipeline.io, [&] { return groups.ingest->counters().persist_errors > 0; });
        groups.ingest->follow(groups.only({0}));
        groups.turn(100);
        groups.ingest->follow(groups.only({0}));
        groups.turn(20);
        in_use_while_locked = groups.ingest->is_shard_in_use(1);
        other_in_use = groups.ingest->is_shard_in_use(2);
        sqlite3_exec(lock, "ROLLBACK", nullptr, nullptr, nullptr);
        sqlite3_close(lock);
        is_given_up = groups.run_until_unused(1);
        left = groups.left_in(1);
        missing = groups.pipeline.missing();
    }
    assert_true(in_use_while_locked);
    assert_false(other_in_use);
    assert_true(is_given_up);
    assert_int_equal(left, 0);
    assert_int_equal(missing, 0);
}

// GET /inbox waits for every shard, whoever reads it.
void test_caught_up_waits_for_all_shards_of_a_cluster(void**) {
    bool of_ours = false, while_left = true, after = false;
    {
        Groups groups(Kind::kCluster);
        groups.start(groups.only({0, 1}));
        groups.pipeline.publish({.org = "org-a"}, 0);
        groups.pipeline.publish({.org = "org-a"}, 1);
        of_ours = run_awaitable(groups.pipeline.io, groups.ingest->wait_until_caught_up(milliseconds(30'000)));
        of_ours = of_ours && groups.pipeline.missing() == 0;
        groups.pipeline.publish({.org = "org-a"}, 2);
        while_left = run_awaitable(groups.pipeline.io, groups.ingest->wait_until_caught_up(milliseconds(200)));
        bool is_done = false;
        boost::asio::co_spawn(groups.pipeline.io, groups.ingest->wait_until_caught_up(milliseconds(30'000)),
                              [&](const std::exception_ptr&, bool caught_up) {
                                  is_done = true;
                                  after = caught_up;
                              });
        groups.turn(3);
        groups.pipeline.redis.command({"XTRIM", stream_key(kPrefix, 2), "MAXLEN", "0"});
        run_until(groups.pipeline.io, [&] { return is_done; });
    }
    assert_true(of_ours);
    assert_false(while_left);
    assert_true(after);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(test_one_servers_reader_follows_on_its_connection),
        cmocka_unit_test(test_cluster_has_a_reader_for_each_owned_shard),
        cmocka_unit_test(test_cluster_shard_that_leaves_is_in_use_until_its_batch_is_done),
        cmocka_unit_test(test_caught_up_waits_for_all_shards_of_a_cluster),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
