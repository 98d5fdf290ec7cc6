// links: headgate_io headgate_common
// The Redis client against a server that answers as the test says, and against a real one.
#include <hiredis/hiredis.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <functional>
#include <thread>

#include "common/resp.h"
#include "lua-free-tests/cmocka_cpp.h"  // last
#include "lua-free-tests/redis_fixture.h"
#include "lua-free-tests/run_awaitable.h"
#include "lua-free-tests/temp_dir.h"
#include "sidecar/base/own_servers.h"
#include "sidecar/io/redis_client.h"

using namespace headgate;
using std::chrono::milliseconds;

namespace {

namespace asio = boost::asio;

// A server on a unix socket that serves connections one after the other, each with the next script.
class ScriptedServer {
 public:
    using Script = std::function<void(int socket)>;
    explicit ScriptedServer(std::vector<Script> scripts) {
        listener_ = socket(AF_UNIX, SOCK_STREAM, 0);
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        path().copy(address.sun_path, sizeof address.sun_path - 1);
        if (bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 || listen(listener_, 8) != 0) {
            throw std::runtime_error("cannot listen");
        }
        thread_ = std::thread([this, scripts = std::move(scripts)] {
            for (const Script& script : scripts) {
                int client = accept(listener_, nullptr, nullptr);
                if (client < 0) return;
                script(client);
                close(client);
            }
        });
    }
    ~ScriptedServer() {
        shutdown(listener_, SHUT_RDWR);
        thread_.join();
        close(listener_);
    }
    [[nodiscard]] std::string path() const { return dir_.path() + "/s"; }
    [[nodiscard]] RedisAddress address() const {
        RedisAddress address;
        address.unix_path = path();
        return address;
    }

    static void read_some(int client) {
        char bytes[4096];
        (void)!read(client, bytes, sizeof bytes);
    }
    // Returns when the client has taken the bytes, so that two calls are never one read there.
    static void write_apart(int client, std::string_view bytes) {
        while (!bytes.empty()) {
            ssize_t count = send(client, bytes.data(), bytes.size(), MSG_NOSIGNAL);
            if (count <= 0) return;
            bytes.remove_prefix(static_cast<std::size_t>(count));
        }
        int unread = 1;
        while (ioctl(client, SIOCOUTQ, &unread) == 0 && unread > 0) std::this_thread::yield();
    }
    static void wait_for_close(int client) {
        char byte;
        while (read(client, &byte, 1) > 0) {
        }
    }

 private:
    TempDir dir_;
    int listener_ = -1;
    std::thread thread_;
};

std::string ping(int times = 1) {
    std::string out;
    RespWriter writer(out);
    for (int i = 0; i < times; i++) writer.command("PING");
    return out;
}

std::string_view redis_text(const redisReply& reply) { return {reply.str, static_cast<std::size_t>(reply.len)}; }

// "ok", or the code of the error.
template <typename T>
std::string outcome_of(const Result<T>& result) {
    return result ? "ok" : std::string(error_traits(result.error().code).name);
}

std::string outcome_with(const ScriptedServer& server, std::size_t replies = 1,
                         milliseconds timeout = milliseconds(10'000)) {
    asio::io_context io;
    RedisClient client(io.get_executor(), server.address(), timeout);
    return outcome_of(run_awaitable(io, client.send(ping(), replies)));
}

constexpr std::string_view kReplies = "+OK\r\n:-42\r\n$5\r\nhel\r\n\r\n*2\r\n$1\r\na\r\n$-1\r\n-ERR no\r\n";

void test_replies_split_at_every_byte_are_the_same(void**) {
    std::size_t good = 0;
    for (std::size_t split = 0; split <= kReplies.size(); split++) {
        ScriptedServer server({[split](int client) {
            ScriptedServer::read_some(client);
            ScriptedServer::write_apart(client, kReplies.substr(0, split));
            ScriptedServer::write_apart(client, kReplies.substr(split));
            ScriptedServer::wait_for_close(client);
        }});
        asio::io_context io;
        RedisClient client(io.get_executor(), server.address(), milliseconds(10'000));
        auto replies = run_awaitable(io, client.send(ping(), 5));
        if (!replies || replies->size() != 5) continue;
        const auto& all = *replies;
        bool same = all[0]->type == REDIS_REPLY_STATUS && all[1]->integer == -42 &&
                    std::string(all[2]->str, all[2]->len) == "hel\r\n" && all[3]->elements == 2 &&
                    all[3]->element[1]->type == REDIS_REPLY_NIL && all[4]->type == REDIS_REPLY_ERROR &&
                    std::string(all[4]->str) == "ERR no";
        good += same ? 1 : 0;
    }
    assert_int_equal(good, kReplies.size() + 1);
}

void test_replies_cut_at_every_byte_are_unavailable(void**) {
    std::size_t failed = 0;
    for (std::size_t cut = 0; cut < kReplies.size(); cut++) {
        ScriptedServer server({[cut](int client) {
            ScriptedServer::read_some(client);
            ScriptedServer::write_apart(client, kReplies.substr(0, cut));
        }});
        failed += outcome_with(server, 5) == "unavailable" ? 1 : 0;
    }
    assert_int_equal(failed, kReplies.size());
}

void test_silence_times_out_and_next_command_reconnects(void**) {
    std::string first;
    std::string second;
    {
        ScriptedServer server({ScriptedServer::wait_for_close, [](int client) {
                                   ScriptedServer::read_some(client);
                                   ScriptedServer::write_apart(client, "+PONG\r\n");
                                   ScriptedServer::wait_for_close(client);
                               }});
        asio::io_context io;
        RedisClient client(io.get_executor(), server.address(), milliseconds(10'000));
        first = outcome_of(run_awaitable(io, client.send(ping(), 1, milliseconds(30))));
        second = outcome_of(run_awaitable(io, client.send(ping(), 1)));
    }
    assert_string_equal(first.c_str(), "unavailable");
    assert_string_equal(second.c_str(), "ok");
}

void test_malformed_reply_closes_the_connection(void**) {
    // What is no RESP, an array whose length nothing legitimate has, and arrays nested too deep.
    for (std::string_view bytes :
         {"HTTP/1.1 400 Bad Request\r\n", "*1048577\r\n", "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n"}) {
        ScriptedServer server({[bytes](int client) {
            ScriptedServer::read_some(client);
            ScriptedServer::write_apart(client, bytes);
            ScriptedServer::wait_for_close(client);
        }});
        assert_string_equal(outcome_with(server).c_str(), "unavailable");
    }
}

// Answering the next command with a left-over reply would shift every answer after it.
void test_unasked_reply_closes_the_connection(void**) {
    std::vector<std::string> outcomes;
    {
        auto answer_twice = [](int client) {
            ScriptedServer::read_some(client);
            ScriptedServer::write_apart(client, "+PONG\r\n+LEFT-OVER\r\n");
            ScriptedServer::wait_for_close(client);
        };
        ScriptedServer server({answer_twice, answer_twice});
        asio::io_context io;
        RedisClient client(io.get_executor(), server.address(), milliseconds(10'000));
        for (int i = 0; i < 2; i++) {
            auto replies = run_awaitable(io, client.send(ping(), 1));
            outcomes.push_back(replies ? replies->front()->str : "error");
            io.restart();
            io.poll();
        }
    }
    assert_string_equal(outcomes[0].c_str(), "PONG");
    assert_string_equal(outcomes[1].c_str(), "PONG");
}

void test_reply_at_the_bound_passes_and_beyond_is_too_large(void**) {
    std::string reply = "$100\r\n" + std::string(100, 'x') + "\r\n";
    std::vector<std::string> outcomes;
    for (std::size_t bound : {reply.size(), reply.size() - 1}) {
        ScriptedServer server({[&reply](int client) {
            ScriptedServer::read_some(client);
            ScriptedServer::write_apart(client, reply);
            ScriptedServer::wait_for_close(client);
        }});
        asio::io_context io;
        RedisClient client(io.get_executor(), server.address(), milliseconds(10'000));
        client.set_reply_bytes_max(bound);
        outcomes.push_back(outcome_of(run_awaitable(io, client.send(ping(), 1))));
    }
    assert_string_equal(outcomes[0].c_str(), "ok");
    assert_string_equal(outcomes[1].c_str(), "too_large");
}

void test_nobody_listening_is_unavailable(void**) {
    TempDir dir;
    for (const std::string& url :
         {"unix:" + dir.path() + "/none", std::string("redis://127.0.0.1:1"), "unix:/" + std::string(200, 'p')}) {
        asio::io_context io;
        RedisClient client(io.get_executor(), *parse_redis_url(url), milliseconds(10'000));
        assert_string_equal(outcome_of(run_awaitable(io, client.send(ping(), 1))).c_str(), "unavailable");
    }
}

asio::awaitable<int> echo_number(RedisClient& client, int number) {
    std::string command;
    RespWriter(command).command("ECHO", static_cast<long long>(number));
    auto replies = co_await client.send(std::move(command), 1);
    co_return replies ? std::stoi(replies->front()->str) : -1;
}

void test_concurrent_commands_get_their_own_replies(void**) {
    int right = 0;
    {
        RedisFixture redis;
        asio::io_context io;
        RedisClient client(io.get_executor(), *parse_redis_url("unix:" + redis.socket_path()), milliseconds(10'000));
        int done = 0;
        for (int i = 0; i < 1000; i++) {
            asio::co_spawn(io, echo_number(client, i), [&, i](std::exception_ptr, int number) {
                done++;
                right += number == i ? 1 : 0;
            });
        }
        run_until(io, [&] { return done == 1000; });
    }
    assert_int_equal(right, 1000);
}

void test_close_fails_who_waits(void**) {
    std::string outcome;
    {
        RedisFixture redis;
        asio::io_context io;
        RedisClient client(io.get_executor(), *parse_redis_url("unix:" + redis.socket_path()), milliseconds(10'000));
        std::string command;
        RespWriter(command).command("BLPOP", "nothing", "0");
        asio::co_spawn(io, client.send(std::move(command), 1),
                       [&](std::exception_ptr, auto result) { outcome = outcome_of(result); });
        run_until(io, [&] {
            return redis.command({"INFO", "clients"})->len > 0 &&
                   std::string(redis.command({"INFO", "clients"})->str).find("blocked_clients:1") != std::string::npos;
        });
        client.close();
        run_until(io, [&] { return !outcome.empty(); });
    }
    assert_string_equal(outcome.c_str(), "unavailable");
}

void test_password_and_database_are_used(void**) {
    std::vector<std::string> outcomes;
    long long in_database = 0;
    {
        RedisFixture redis({"--requirepass", "p@ss"});
        for (const char* password : {"p@ss", "wrong", ""}) {
            asio::io_context io;
            RedisAddress address = *parse_redis_url("unix:" + redis.socket_path() + "?db=3");
            address.password = password;
            RedisClient client(io.get_executor(), address, milliseconds(10'000));
            std::string command;
            RespWriter(command).command("SET", "k", "v");
            auto result = run_awaitable(io, client.send(std::move(command), 1));
            outcomes.push_back(outcome_of(result));
        }
        redis.command({"AUTH", "p@ss"});
        redis.command({"SELECT", "3"});
        in_database = redis.number({"EXISTS", "k"});
    }
    assert_string_equal(outcomes[0].c_str(), "ok");
    assert_string_equal(outcomes[1].c_str(), "unavailable");
    assert_string_equal(outcomes[2].c_str(), "unavailable");
    assert_int_equal(in_database, 1);
}

void test_error_reply_is_a_reply(void**) {
    int type = 0;
    {
        RedisFixture redis;
        asio::io_context io;
        RedisClient client(io.get_executor(), *parse_redis_url("unix:" + redis.socket_path()), milliseconds(10'000));
        std::string command;
        RespWriter(command).command("NOSUCHCOMMAND");
        type = (*run_awaitable(io, client.send(std::move(command), 1)))[0]->type;
    }
    assert_int_equal(type, REDIS_REPLY_ERROR);
}

void test_parse_url_accepts_the_documented_forms(void**) {
    auto full = parse_redis_url("redis://us%20er:p%40ss@example.com:6380/7");
    assert_true(full.has_value());
    assert_true(full->username == "us er" && full->password == "p@ss" && full->host == "example.com" &&
                full->port == "6380" && full->database == 7);
    auto plain = parse_redis_url("redis://localhost");
    assert_true(plain.has_value() && plain->host == "localhost" && plain->port == "6379" && plain->database == 0);
    auto ipv6 = parse_redis_url("redis://:secret@[::1]:7000");
    assert_true(ipv6.has_value() && ipv6->host == "::1" && ipv6->port == "7000" && ipv6->password == "secret");
    auto path = parse_redis_url("unix:/run/redis.sock?db=2");
    assert_true(path.has_value() && path->unix_path == "/run/redis.sock" && path->database == 2);
}

void test_parse_url_several_servers_and_tls_are_read(void**) {
    auto several = parse_redis_url("rediss://u:p@a,b:7001,[::1]:7002/3");
    assert_true(several.has_value() && several->wants_tls && several->database == 3 && several->looks_for_master());
    std::vector<redis::HostPort> expected = {{"a", 6379}, {"b", 7001}, {"::1", 7002}};
    assert_true(several->servers() == expected);
    RedisAddress second = several->of_server(expected[1]);
    assert_true(second.host == "b" && second.port == "7001" && second.username == "u" && second.password == "p" &&
                second.wants_tls && !second.looks_for_master());
    assert_true(several->of_sentinel(expected[1]).password.empty());
    assert_false(parse_redis_url("redis://a").value().looks_for_master());
}

// The user of a rule, as `headgate init` writes it, may do what the rule says and no more.
void test_acl_user_is_used(void**) {
    std::vector<std::string> said;
    {
        RedisFixture redis({"--user", "reader", "on", ">p@ss", "-@all", "~*", "+get"});
        for (const char* word : {"GET", "SET"}) {
            asio::io_context io;
            RedisAddress address = *parse_redis_url("unix:" + redis.socket_path());
            address.username = "reader";
            address.password = "p@ss";
            RedisClient client(io.get_executor(), address, milliseconds(10'000));
            std::string command;
            RespWriter(command).command(word, "k", "v");
            auto replies = run_awaitable(io, client.send(std::move(command), 1));
            said.push_back(replies ? std::string(error_text(*replies->front())).substr(0, 6) : "error");
        }
    }
    assert_string_equal(said[0].c_str(), "ERR wr");  // GET with too many words: it was let in
    assert_string_equal(said[1].c_str(), "NOPERM");
}

// Of several servers the replica is passed over, and when the master has become one, the next command finds the other.
void test_master_is_found_among_several_and_found_again(void**) {
    std::vector<std::string> names;
    int told = 0;  // of both: webhooks may reach neither
    {
        std::string one = free_port(), two = free_port();
        RedisFixture first({"--port", one, "--bind", "127.0.0.1"}), second({"--port", two, "--bind", "127.0.0.1"});
        first.command({"REPLICAOF", "127.0.0.1", two});
        asio::io_context io;
        RedisAddress address = *parse_redis_url("redis://127.0.0.1:" + one + ",127.0.0.1:" + two);
        address.own_servers = std::make_shared<OwnServers>();
        RedisClient client(io.get_executor(), address, milliseconds(10'000));
        auto set_to = [&](const char* value) {
            std::string command;
            RespWriter(command).command("SET", "k", value);
            auto replies = run_awaitable(io, client.send(std::move(command), 1));
            return replies ? std::string(redis_text(*replies->front())) : "error";
        };
        names.push_back(set_to("a"));
        for (const std::string& port : {one, two}) {
            told += address.own_servers->any([&](const OwnServers::Endpoint& server) {
                return server == OwnServers::Endpoint(*parse_ip("127.0.0.1"), std::stoi(port));
            });
        }
        names.emplace_back(second.command({"GET", "k"})->str);
        second.command({"REPLICAOF", "127.0.0.1", one});
        first.command({"REPLICAOF", "NO", "ONE"});
        names.push_back(set_to("b").substr(0, 8));
        names.push_back(set_to("c"));
        names.emplace_back(first.command({"GET", "k"})->str);
    }
    assert_string_equal(names[0].c_str(), "OK");
    assert_string_equal(names[1].c_str(), "a");
    assert_string_equal(names[2].c_str(), "READONLY");
    assert_string_equal(names[3].c_str(), "OK");
    assert_string_equal(names[4].c_str(), "c");
    assert_int_equal(told, 2);
}

void test_parse_url_malformed_is_refused_without_the_password(void**) {
    for (const char* url : {"",
                            "localhost:6379",
                            "http://x",
                            "redis://",
                            "redis://h:0",
                            "redis://h:65536",
                            "redis://h:x",
                            "redis://h/x",
                            "redis://h/-1",
                            "redis://h/16384",
                            "redis://[::1",
                            "redis://[::1]x",
                            "redis://secret@h",
                            "redis://u:secret%zz@h",
                            "redis://u:secret%4@h",
                            "redis://a,",
                            "redis://,b",
                            "redis://a,b:x",
                            "rediss://",
                            "unix:relative",
                            "unix:/p?x=1",
                            "unix:/p?db=",
                            "redis://u:secret@:1"}) {
        auto parsed = parse_redis_url(url);
        assert_false(parsed.has_value());
        assert_true(parsed.error().message.find("secret") == std::string::npos);
    }
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(test_replies_split_at_every_byte_are_the_same),
        cmocka_unit_test(test_replies_cut_at_every_byte_are_unavailable),
        cmocka_unit_test(test_silence_times_out_and_next_command_reconnects),
        cmocka_unit_test(test_malformed_reply_closes_the_connection),
        cmocka_unit_test(test_unasked_reply_closes_the_connection),
        cmocka_unit_test(test_reply_at_the_bound_passes_and_beyond_is_too_large),
        cmocka_unit_test(test_nobody_listening_is_unavailable),
        cmocka_unit_test(test_concurrent_commands_get_their_own_replies),
        cmocka_unit_test(test_close_fails_who_waits),
        cmocka_unit_test(test_password_and_database_are_used),
        cmocka_unit_test(test_error_reply_is_a_reply),
        cmocka_unit_test(test_parse_url_accepts_the_documented_forms),
        cmocka_unit_test(test_parse_url_several_servers_and_tls_are_read),
        cmocka_unit_test(test_acl_user_is_used),
        cmocka_unit_test(test_master_is_found_among_several_and_found_again),
        cmocka_unit_test(test_parse_url_malformed_is_refused_without_the_password),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
