// links: headgate_ingest headgate_io headgate_common
// The pure parts of following a cluster: ASKING, what errors mean, replies dealt out, and which streams are read where.
#include <hiredis/hiredis.h>

#include <algorithm>

#include "common/event_record.h"
#include "common/resp.h"
#include "lua-free-tests/cmocka_cpp.h"  // last
#include "sidecar/ingest/stream_groups.h"
#include "sidecar/io/redis_cluster.h"

using namespace headgate;

namespace {

RedisReplies replies_of(std::string_view resp) {
    RedisReplies all;
    redisReader* reader = redisReaderCreate();
    redisReaderFeed(reader, resp.data(), resp.size());
    for (void* parsed = nullptr; redisReaderGetReply(reader, &parsed) == REDIS_OK && parsed != nullptr;)
        all.emplace_back(static_cast<redisReply*>(parsed));
    redisReaderFree(reader);
    return all;
}

std::string texts(const RedisReplies& replies) {
    std::string out;
    for (const RedisReplyPtr& reply : replies) out += reply->str != nullptr ? std::string(reply->str) + " " : "? ";
    return out;
}

// A block is announced once, other commands one by one; a body that looks like RESP is a body.
void test_asking_stands_before_each_command_and_once_before_a_block(void**) {
    std::string asked, expected, left;
    std::size_t replies = 0;
    {
        RedisCommands commands{"k", {}, 5};
        RespWriter(commands.bytes).command("GET", "k").command("MULTI").command("SET", "k", "*1\r\n$4\r\nEXEC\r\n");
        RespWriter(commands.bytes).command("EXEC").command("GET", "k");
        RedisCommands asking = with_asking(commands);
        asked = asking.bytes;
        replies = asking.replies;
        RespWriter writer(expected);
        writer.command("ASKING").command("GET", "k").command("ASKING").command("MULTI");
        writer.command("SET", "k", "*1\r\n$4\r\nEXEC\r\n").command("EXEC").command("ASKING").command("GET", "k");
        left = texts(without_asking(replies_of("+A\r\n+1\r\n+A\r\n+2\r\n+3\r\n+4\r\n+A\r\n+5\r\n"), commands));
    }
    assert_string_equal(asked.c_str(), expected.c_str());
    assert_int_equal(replies, 8);
    assert_string_equal(left.c_str(), "1 2 3 4 5 ");
}

void test_replies_are_dealt_out_and_an_error_is_everybodys(void**) {
    std::string first, second;
    std::size_t failed = 0;
    {
        std::vector<RedisCommands> all = {{"a", {}, 2}, {"b", {}, 1}};
        auto dealt = deal_out(replies_of("+1\r\n+2\r\n+3\r\n"), all);
        first = texts(*dealt[0]);
        second = texts(*dealt[1]);
        for (const auto& each : deal_out(fail(ErrorCode::kUnavailable, "x"), all)) failed += each ? 0 : 1;
    }
    assert_string_equal(first.c_str(), "1 2 ");
    assert_string_equal(second.c_str(), "3 ");
    assert_int_equal(failed, 2);
}

void test_cluster_errors_are_judged(void**) {
    assert_true(judge_cluster_error("MOVED 1 h:1") == ClusterAnswer::kMoved);
    assert_true(judge_cluster_error("ASK 1 h:1") == ClusterAnswer::kAsk);
    for (const char* later : {"TRYAGAIN x", "CLUSTERDOWN x", "LOADING x", "MASTERDOWN x", "READONLY x"})
        assert_true(judge_cluster_error(later) == ClusterAnswer::kLater);
    for (const char* own : {"ERR x", "WRONGTYPE x", "NOGROUP x", "EXECABORT x", "ASKED x", ""})
        assert_true(judge_cluster_error(own) == ClusterAnswer::kDone);
}

// Three servers by slot; the third serves nobody.
class FakeLink : public RedisLink {
 public:
    explicit FakeLink(bool joins) : joins_(joins) {}
    boost::asio::awaitable<std::vector<Result<RedisReplies>>> send_each(std::vector<RedisCommands>) override {
        co_return std::vector<Result<RedisReplies>>();
    }
    boost::asio::awaitable<std::vector<Result<RedisReplies>>> send_to_servers(std::string, std::size_t) override {
        co_return std::vector<Result<RedisReplies>>();
    }
    [[nodiscard]] bool joins_slots() const noexcept override { return joins_; }
    [[nodiscard]] std::string server_of(std::string_view key) const override {
        if (joins_) return "one";
        int third = redis_slot(key) / 5462;
        return third == 2 ? "" : std::string(1, static_cast<char>('a' + third));
    }
    [[nodiscard]] std::unique_ptr<RedisClient> connect(const std::string&, std::chrono::milliseconds) const override {
        return nullptr;
    }
    void heard(std::string_view, const std::string&) override {}
    void on_change(std::function<void()>) override {}
    void close() override {}
    [[nodiscard]] std::int64_t silent_ms() const override { return 0; }

 private:
    bool joins_;
};

OwnedParts owned_every_third(int shards) {
    OwnedParts owned;
    for (int i = 0; i < shards; i++) owned.shard_epochs.push_back(i % 3 == 0 ? 7 + i : 0);
    owned.lane_epochs = {1, 2, 3};
    return owned;
}

void test_one_server_is_one_group_of_all_owned_shards(void**) {
    std::vector<StreamGroup> groups, of_nothing;
    {
        FakeLink link(true);
        groups = stream_groups(owned_every_third(8), link, "p:");
        of_nothing = stream_groups(OwnedParts{std::vector<std::int64_t>(8), {}}, link, "p:");
    }
    assert_int_equal(groups.size(), 1);
    assert_true(groups[0] == (StreamGroup{"one", {0, 3, 6}}));
    assert_true(of_nothing.size() == 1 && of_nothing[0].shards.empty());
}

void test_cluster_is_one_group_for_each_shard_that_is_served(void**) {
    std::size_t groups = 0, wrong = 0, served = 0;
    {
        FakeLink link(false);
        OwnedParts owned = owned_every_third(64);
        for (int shard = 0; shard < 64; shard += 3) served += redis_slot(stream_key("p:", shard)) / 5462 < 2 ? 1 : 0;
        for (const StreamGroup& group : stream_groups(owned, link, "p:")) {
            groups++;
            bool is_right = group.shards.size() == 1 && group.shards[0] % 3 == 0 &&
                            group.server == link.server_of(stream_key("p:", group.shards[0]));
            OwnedPartsPtr parts = owned_of_group(owned, group);
            auto others = std::count(parts->shard_epochs.begin(), parts->shard_epochs.end(), 0);
            is_right = is_right && others == 63 && parts->lane_epochs == owned.lane_epochs &&
                       parts->shard_epochs[static_cast<std::size_t>(group.shards[0])] == 7 + group.shards[0];
            wrong += is_right ? 0 : 1;
        }
    }
    assert_int_equal(groups, served);
    assert_true(served > 0 && served < 22);
    assert_int_equal(wrong, 0);
}

// On one server shards come and go without a new connection; on a cluster a reader keeps its shard and its server.
void test_who_reads_on_and_for_how_long(void**) {
    bool one_follows = false, cluster_follows = true, same_reads_on = false, moved_reads_on = true;
    std::chrono::steady_clock::time_point until{};
    {
        FakeLink one(true), cluster(false);
        StreamGroup before{"a", {0, 3}}, after{"a", {3}}, moved{"b", {3}};
        one_follows = may_become(before, after, one);
        cluster_follows = may_become(before, after, cluster);
        same_reads_on = may_become(after, after, cluster);
        moved_reads_on = may_become(after, moved, one) || may_become(after, moved, cluster);
        OwnedParts owned = owned_every_third(8);
        owned.valid_until = std::chrono::steady_clock::time_point(std::chrono::milliseconds(7));
        until = owned_of_group(owned, after)->valid_until;
    }
    assert_true(one_follows);
    assert_false(cluster_follows);
    assert_true(same_reads_on);
    assert_false(moved_reads_on);
    assert_true(until == std::chrono::steady_clock::time_point(std::chrono::milliseconds(7)));
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(test_asking_stands_before_each_command_and_once_before_a_block),
        cmocka_unit_test(test_replies_are_dealt_out_and_an_error_is_everybodys),
        cmocka_unit_test(test_cluster_errors_are_judged),
        cmocka_unit_test(test_one_server_is_one_group_of_all_owned_shards),
        cmocka_unit_test(test_cluster_is_one_group_for_each_shard_that_is_served),
        cmocka_unit_test(test_who_reads_on_and_for_how_long),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
