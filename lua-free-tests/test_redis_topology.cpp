// links: headgate_common PkgConfig::HIREDIS
// What Redis says about who serves what: redirections, the slot map, roles, on replies as Redis writes them.
#include <hiredis/hiredis.h>

#include <string>

#include "common/redis_reply.h"
#include "common/redis_topology.h"
#include "lua-free-tests/cmocka_cpp.h"

using headgate::redis::HostPort;
using headgate::redis::Redirect;
using headgate::redis::RedirectKind;
using headgate::redis::SlotMap;

namespace {

// A reply from its RESP.
struct Reply {
    explicit Reply(const std::string& resp) {
        redisReader* reader = redisReaderCreate();
        redisReaderFeed(reader, resp.data(), resp.size());
        void* parsed = nullptr;
        redisReaderGetReply(reader, &parsed);
        reply = static_cast<redisReply*>(parsed);
        redisReaderFree(reader);
    }
    ~Reply() {
        if (reply != nullptr) {
            freeReplyObject(reply);
        }
    }
    redisReply* reply = nullptr;
};

std::string bulk(const std::string& text) { return "$" + std::to_string(text.size()) + "\r\n" + text + "\r\n"; }
std::string number(long long n) { return ":" + std::to_string(n) + "\r\n"; }
std::string array(std::initializer_list<std::string> items) {
    std::string out = "*" + std::to_string(items.size()) + "\r\n";
    for (const std::string& item : items) {
        out += item;
    }
    return out;
}
std::string node(const std::string& host, int port) {
    return array({host == "null" ? "$-1\r\n" : bulk(host), number(port), bulk("id"), "*0\r\n"});
}

bool learn(SlotMap& map, const std::string& resp) {
    const Reply reply(resp);
    return map.learn(reply.reply, "10.0.0.9");
}

std::string owner(const SlotMap& map, int slot) {
    const HostPort* found = map.owner(static_cast<std::uint16_t>(slot));
    return found == nullptr ? "nobody" : text_of(*found);
}

void test_redirect_moved_and_ask_are_read(void**) {
    std::string moved, ask, ipv6, same;
    {
        const Redirect a = headgate::redis::read_redirect("MOVED 3999 127.0.0.1:6381", "seed");
        moved = std::to_string(static_cast<int>(a.kind)) + " " + std::to_string(a.slot) + " " + text_of(a.to);
        const Redirect b = headgate::redis::read_redirect("ASK 16383 redis-2.example:6379", "seed");
        ask = std::to_string(static_cast<int>(b.kind)) + " " + std::to_string(b.slot) + " " + text_of(b.to);
        ipv6 = text_of(headgate::redis::read_redirect("MOVED 1 2001:db8::1:6381", "seed").to);
        same = text_of(headgate::redis::read_redirect("MOVED 1 :6381", "seed").to);
    }
    assert_string_equal(moved.c_str(), "1 3999 127.0.0.1:6381");
    assert_string_equal(ask.c_str(), "2 16383 redis-2.example:6379");
    assert_string_equal(ipv6.c_str(), "[2001:db8::1]:6381");
    assert_string_equal(same.c_str(), "seed:6381");
}

void test_redirect_anything_else_is_none(void**) {
    for (const char* text : {"", "MOVED", "MOVED 1", "MOVED 16384 h:1", "MOVED -1 h:1", "MOVED x h:1", "MOVED 1 h",
                             "MOVED 1 h:0", "MOVED 1 h:65536", "MOVED 1 h:6379x", "MOVEDX 1 h:1", "moved 1 h:1",
                             "ERR MOVED 1 h:1", "CLUSTERDOWN Hash slot not served", "TRYAGAIN x"}) {
        const bool none = headgate::redis::read_redirect(text, "seed").kind == RedirectKind::kNone;
        if (!none) {
            print_error("%s was taken for a redirection\n", text);
            assert_true(none);
        }
    }
}

void test_slots_are_learned_and_moved(void**) {
    std::string before, first, middle, last, hole, moved, neighbour;
    bool learned = false, did_move = false, serves = false, still_serves = false;
    {
        SlotMap map;
        before = owner(map, 0);
        learned = learn(map, array({array({number(0), number(5460), node("a", 1), node("r", 9)}),
                                    array({number(5461), number(10000), node("b", 2)}),
                                    array({number(10002), number(16383), node("", 3)})}));
        first = owner(map, 0) + " " + owner(map, 5460);
        middle = owner(map, 5461) + " " + owner(map, 10000);
        hole = owner(map, 10001);
        last = owner(map, 16383);
        serves = map.serves({"a", 1}) && !map.serves({"r", 9});
        did_move = map.move(5461, {"c", 4});
        moved = owner(map, 5461);
        neighbour = owner(map, 5462);
        for (int slot = 0; slot <= 5460; ++slot) {
            did_move = did_move && map.move(static_cast<std::uint16_t>(slot), {"c", 4});
        }
        still_serves = map.serves({"a", 1});
    }
    assert_string_equal(before.c_str(), "nobody");
    assert_true(learned);
    assert_string_equal(first.c_str(), "a:1 a:1");
    assert_string_equal(middle.c_str(), "b:2 b:2");
    assert_string_equal(hole.c_str(), "nobody");
    assert_string_equal(last.c_str(), "10.0.0.9:3");
    assert_true(serves);
    assert_true(did_move);
    assert_string_equal(moved.c_str(), "c:4");
    assert_string_equal(neighbour.c_str(), "b:2");
    assert_false(still_serves);
}

void test_slots_node_without_a_host_is_the_one_asked(void**) {
    std::string null_host, unknown;
    {
        SlotMap map;
        (void)learn(
            map, array({array({number(0), number(0), node("null", 7)}), array({number(1), number(1), node("?", 8)})}));
        null_host = owner(map, 0);
        unknown = owner(map, 1);
    }
    assert_string_equal(null_host.c_str(), "10.0.0.9:7");
    assert_string_equal(unknown.c_str(), "10.0.0.9:8");
}

void test_slots_name_every_node(void**) {
    std::string named;
    std::size_t count_of_none = 0;
    {
        const Reply reply(array({array({number(0), number(99), node("a", 1), node("r", 9)}),
                                 array({number(100), number(16383), node("null", 2), node("a", 1)})}));
        for (const HostPort& each : headgate::redis::nodes_of(reply.reply, "10.0.0.9")) {
            named += text_of(each) + " ";
        }
        const Reply none("-ERR This instance has cluster support disabled\r\n");
        const Reply odd(array({number(1), array({number(0), number(1), number(2)})}));
        count_of_none =
            headgate::redis::nodes_of(none.reply, "x").size() + headgate::redis::nodes_of(odd.reply, "x").size();
    }
    assert_string_equal(named.c_str(), "a:1 r:9 10.0.0.9:2 a:1 ");
    assert_int_equal(count_of_none, 0);
}

void test_slots_what_is_no_such_reply_leaves_the_map(void**) {
    int taken = 0;
    std::string kept;
    {
        SlotMap map;
        (void)learn(map, array({array({number(0), number(16383), node("a", 1)})}));
        for (const std::string& resp :
             {std::string("+OK\r\n"), std::string("-ERR This instance has cluster support disabled\r\n"),
              std::string("*0\r\n"), array({number(1)}), array({array({number(0), number(1)})}),
              array({array({number(5), number(4), node("b", 2)})}),
              array({array({number(0), number(16384), node("b", 2)})}),
              array({array({number(-1), number(1), node("b", 2)})}),
              array({array({number(0), number(1), node("b", 0)})}), array({array({number(0), number(1), bulk("b")})}),
              array({array({bulk("0"), number(1), node("b", 2)})})}) {
            taken += learn(map, resp) ? 1 : 0;
        }
        kept = owner(map, 0) + " " + owner(map, 16383);
    }
    assert_int_equal(taken, 0);
    assert_string_equal(kept.c_str(), "a:1 a:1");
}

void test_slots_number_of_nodes_is_bounded(void**) {
    bool at_bound = true, beyond = true;
    {
        SlotMap map;
        for (int i = 1; i <= static_cast<int>(headgate::redis::kRedisNodesMax); ++i) {
            at_bound = at_bound && map.move(static_cast<std::uint16_t>(i), {"n", i});
        }
        beyond = map.move(0, {"n", 2000});
    }
    assert_true(at_bound);
    assert_false(beyond);
}

void test_sentinel_and_role_replies(void**) {
    std::string master;
    bool nil, odd, is_master, is_replica;
    {
        const Reply good(array({bulk("10.0.0.1"), bulk("6379")}));
        master = text_of(headgate::redis::read_sentinel_master(good.reply).value_or(HostPort{}));
        const Reply none("*-1\r\n");
        nil = headgate::redis::read_sentinel_master(none.reply).has_value();
        const Reply bad(array({bulk("10.0.0.1"), bulk("0")}));
        odd = headgate::redis::read_sentinel_master(bad.reply).has_value();
        const Reply role_master(array({bulk("master"), number(1), "*0\r\n"}));
        is_master = headgate::redis::role_is_master(role_master.reply);
        const Reply role_replica(array({bulk("slave"), bulk("h"), number(1), bulk("connect"), number(0)}));
        is_replica = headgate::redis::role_is_master(role_replica.reply);
    }
    assert_string_equal(master.c_str(), "10.0.0.1:6379");
    assert_false(nil);
    assert_false(odd);
    assert_true(is_master);
    assert_false(is_replica);
}

void test_role_names_the_replicas(void**) {
    std::string named;
    std::size_t count_of_none = 0;
    {
        const std::string replicas =
            array({array({bulk("10.0.0.2"), bulk("6380"), bulk("0")}), array({bulk("h"), bulk("x"), bulk("0")}),
                   array({bulk("r.example"), bulk("6379"), bulk("7")}), number(1)});
        const Reply master(array({bulk("master"), number(7), replicas}));
        for (const HostPort& each : headgate::redis::replicas_of(master.reply)) {
            named += text_of(each) + " ";
        }
        const Reply replica(array({bulk("slave"), bulk("10.0.0.1"), number(6379), bulk("connected"), number(7)}));
        const Reply odd(array({bulk("master"), number(7), number(7)}));
        const Reply none("-NOPERM\r\n");
        for (const Reply* each : {&replica, &odd, &none}) {
            count_of_none += headgate::redis::replicas_of(each->reply).size();
        }
    }
    assert_string_equal(named.c_str(), "10.0.0.2:6380 r.example:6379 ");
    assert_int_equal(count_of_none, 0);
}

void test_faults_of_a_connection(void**) {
    for (const char* text : {"READONLY You can't write against a read only replica.",
                             "LOADING Redis is loading the dataset in memory", "MASTERDOWN Link with MASTER is down",
                             "NOAUTH Authentication required.", "UNBLOCKED force unblock from blocking operation"}) {
        assert_non_null(headgate::redis::connection_fault(text));
    }
    for (const char* text : {"OOM command not allowed", "NOSCRIPT No matching script", "NOPERM no permissions",
                             "ERR READONLY", "MOVED 1 h:1", ""}) {
        assert_null(headgate::redis::connection_fault(text));
    }
    assert_true(headgate::redis::is_role_fault("READONLY x"));
    assert_false(headgate::redis::is_role_fault("LOADING x"));
}

void test_info_field_is_the_value_of_a_whole_name(void**) {
    const auto field = [](std::string_view info) {
        return std::string(headgate::redis::info_field(info, "maxmemory"));
    };
    assert_string_equal(field("# Memory\r\nused:5\r\nmaxmemory_policy:x\r\nmaxmemory:42\r\nmaxmemory:43\r\n").c_str(),
                        "42");
    assert_string_equal(field("maxmemory:42").c_str(), "42");
    assert_string_equal(field("maxmemory:\r\n").c_str(), "");
    for (const char* info : {"", "maxmemory", "total_maxmemory:1\n", "maxmemory_human:1\n", "\n\n"}) {
        assert_string_equal(field(info).c_str(), "");
    }
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(test_redirect_moved_and_ask_are_read),
        cmocka_unit_test(test_redirect_anything_else_is_none),
        cmocka_unit_test(test_slots_are_learned_and_moved),
        cmocka_unit_test(test_slots_node_without_a_host_is_the_one_asked),
        cmocka_unit_test(test_slots_name_every_node),
        cmocka_unit_test(test_slots_what_is_no_such_reply_leaves_the_map),
        cmocka_unit_test(test_slots_number_of_nodes_is_bounded),
        cmocka_unit_test(test_sentinel_and_role_replies),
        cmocka_unit_test(test_role_names_the_replicas),
        cmocka_unit_test(test_faults_of_a_connection),
        cmocka_unit_test(test_info_field_is_the_value_of_a_whole_name),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
