// links: headgate_common PkgConfig::HIREDIS
// The limit scripts in a real Redis, against the same arithmetic in C++.
#include <hiredis/hiredis.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "common/gcra.h"
#include "common/rate_plan.h"
#include "lua-free-tests/cmocka_cpp.h"  // last

using namespace headgate;

namespace {

struct Redis {
    pid_t pid = -1;
    std::string directory;
    [[nodiscard]] std::string socket_path() const { return directory + "/redis.sock"; }
};
Redis server;

using Reply = std::unique_ptr<redisReply, void (*)(void*)>;
using Connection = std::unique_ptr<redisContext, void (*)(redisContext*)>;

Connection connect() { return {redisConnectUnix(server.socket_path().c_str()), redisFree}; }

Reply command(redisContext* context, const std::vector<std::string>& words) {
    std::vector<const char*> texts;
    std::vector<std::size_t> sizes;
    for (const std::string& word : words) {
        texts.push_back(word.data());
        sizes.push_back(word.size());
    }
    void* reply = redisCommandArgv(context, static_cast<int>(words.size()), texts.data(), sizes.data());
    return {static_cast<redisReply*>(reply), freeReplyObject};
}

int start_redis(void**) {
    char directory[] = "/tmp/headgate-gcra-XXXXXX";
    if (mkdtemp(directory) == nullptr) {
        return -1;
    }
    server.directory = directory;
    server.pid = fork();
    if (server.pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        const std::string log = server.directory + "/redis.log", path = server.socket_path();
        execlp("redis-server", "redis-server", "--port", "0", "--unixsocket", path.c_str(), "--dir", directory,
               "--logfile", log.c_str(), "--save", "", "--appendonly", "no", nullptr);
        _exit(127);
    }
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (std::chrono::steady_clock::now() < deadline) {
        const Connection connection = connect();
        if (connection && connection->err == 0) {
            const Reply reply = command(connection.get(), {"PING"});
            if (reply && reply->type == REDIS_REPLY_STATUS) {
                return 0;
            }
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    return -1;
}

int stop_redis(void**) {
    if (server.pid > 0) {
        kill(server.pid, SIGKILL);
        waitpid(server.pid, nullptr, 0);
    }
    std::filesystem::remove_all(server.directory);
    return 0;
}

std::vector<std::string> script_words(std::string_view script, std::string_view key, std::int64_t need,
                                      std::int64_t ahead, std::int64_t ret, std::int64_t ret_age_us,
                                      const std::vector<RateWindow>& windows, std::string_view stream = {}) {
    std::vector<std::string> words = {"EVAL", std::string(script), stream.empty() ? "1" : "2", std::string(key)};
    if (!stream.empty()) {
        words.emplace_back(stream);
    }
    for (const std::int64_t number : {need, ahead, ret, ret_age_us, static_cast<std::int64_t>(windows.size())}) {
        words.push_back(std::to_string(number));
    }
    for (const RateWindow& window : windows) {
        words.push_back(std::string("plan:") + window_unit(window));
        for (const std::int64_t number : {window.period_us, window.quota, window.burst}) {
            words.push_back(std::to_string(number));
        }
    }
    return words;
}

std::string text_of(const redisReply* reply) {
    if (reply == nullptr) {
        return "no reply";
    }
    if (reply->type == REDIS_REPLY_INTEGER) {
        return std::to_string(reply->integer);
    }
    if (reply->type != REDIS_REPLY_ARRAY) {
        return {reply->str == nullptr ? "nil" : std::string(reply->str, reply->len)};
    }
    std::string text;
    for (std::size_t i = 0; i < reply->elements; ++i) {
        text.append(i == 0 ? "" : " ").append(text_of(reply->element[i]));
    }
    return text;
}

std::string run(redisContext* context, const std::vector<std::string>& words) {
    return text_of(command(context, words).get());
}

std::string text_of(const LimitDecision& decision, const std::vector<WindowState>& states) {
    std::string text = std::to_string(decision.granted) + " " + std::to_string(decision.retry_us);
    for (const WindowState& state : states) {
        text.append(" ").append(std::to_string(state.free)).append(" ").append(std::to_string(state.full_us));
    }
    return text;
}

// The script with its clock in two keys that the test sets.
std::string with_test_clock(std::string_view script) {
    constexpr std::string_view kTime = "redis.call('TIME')";
    std::string text(script);
    const std::size_t at = text.find(kTime);
    text.replace(at, kTime.size(), "{redis.call('GET', 'clock:s'), redis.call('GET', 'clock:us')}");
    return text.find(kTime) == std::string::npos ? text : "";
}

void test_limit_script_decides_exactly_as_gcra_charge(void**) {
    const Connection redis = connect();
    const std::string script = with_test_clock(limit_script());
    std::mt19937_64 random(99);
    int key_number = 0;
    for (const std::string_view plan : {"3r/s", "7r/s:2", "60r/m:1", "7r/m:20", "1r/d:3653", "999r/s", "1001r/s",
                                        "3000r/s:10", "700000r/s:9", "999999937r/s:1500", "1000000000r/s",
                                        "999999937r/d", "5r/s+60r/m+1000r/h", "11r/s:3+100r/m:30+999r/h+7000r/d:2"}) {
        const auto windows = *parse_rate_plan(plan);
        std::vector<std::int64_t> tats(windows.size());
        std::vector<WindowState> states(windows.size());
        std::int64_t now_us = 4'000'000'000'123'456;  // far ahead, so that no expiry is in Redis's own past
        const std::string key = "limit:{" + std::to_string(++key_number) + "}";
        for (int step = 0; step < 400; ++step) {
            const int bits = static_cast<int>(random() % 36);
            now_us += random() % 3 == 0 ? static_cast<std::int64_t>(random() >> (63 - bits)) : 0;
            now_us -= random() % 50 == 0 ? 1'000'000 : 0;  // a clock that steps back
            const auto pick = [&random](std::int64_t most) {
                return static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(most + 1));
            };
            const std::int64_t burst = windows[0].burst, need = random() % 8 == 0 ? pick(burst + 1) : pick(2),
                               ahead = random() % 2 == 0 ? 0 : pick(burst),
                               ret = random() % 4 == 0 ? pick(burst + 3) : 0, age_us = ret == 0 ? 0 : pick(400'000);
            command(redis.get(), {"MSET", "clock:s", std::to_string(now_us / 1'000'000), "clock:us",
                                  std::to_string(now_us % 1'000'000)});
            const std::string actual = run(redis.get(), script_words(script, key, need, ahead, ret, age_us, windows));
            const LimitDecision decision = gcra_charge(windows, tats, now_us, need, ahead, ret, age_us, states);
            const std::string expected = text_of(decision, states);
            assert_string_equal(actual.c_str(), expected.c_str());
        }
        for (std::size_t i = 0; i < windows.size(); ++i) {
            const std::string field = std::string("plan:") + window_unit(windows[i]);
            assert_true(run(redis.get(), {"HGET", key, field}) == std::to_string(tats[i]));
        }
    }
}

void test_script_sha1_is_the_one_that_redis_computes(void**) {
    const Connection redis = connect();
    for (const auto& [script, sha1] : {std::pair(limit_script(), limit_script_sha1()),
                                       std::pair(limit_publish_script(), limit_publish_script_sha1())}) {
        assert_true(run(redis.get(), {"SCRIPT", "LOAD", std::string(script)}) == sha1);
    }
    std::vector<std::string> words = script_words(limit_script(), "limit:{sha}", 1, 0, 0, 0, *parse_rate_plan("5r/d"));
    words[0] = "EVALSHA";
    words[1] = limit_script_sha1();
    assert_true(run(redis.get(), words).starts_with("1 0 4 "));
    command(redis.get(), {"SCRIPT", "FLUSH"});
    assert_true(run(redis.get(), words).starts_with("NOSCRIPT"));
}

void test_limit_script_on_redis_own_clock(void**) {
    const Connection redis = connect();
    const auto windows = *parse_rate_plan("3r/h");
    const auto charge = [&](std::int64_t need) {
        return run(redis.get(), script_words(limit_script(), "limit:{clock}", need, 0, 0, 0, windows));
    };
    assert_true(charge(1) == "1 0 2 1200000000");
    assert_true(charge(1).starts_with("1 0 1 "));
    assert_true(charge(1).starts_with("1 0 0 "));
    assert_true(charge(1).starts_with("0 119"));
    assert_true(charge(4).starts_with("0 -1 0 "));
    // The key goes when the window is full again.
    const int left_ms = std::stoi(run(redis.get(), {"PTTL", "limit:{clock}"}));
    assert_in_range(left_ms, 3'590'000, 3'600'001);
}

// What broke: a window of a minute that shares its key with one of a day took the day's state with it.
void test_limit_script_never_brings_the_expiry_of_other_windows_forward(void**) {
    const Connection redis = connect();
    const std::string key = "limit:{shared}";
    run(redis.get(), script_words(limit_script(), key, 4, 0, 0, 0, *parse_rate_plan("4r/d")));
    run(redis.get(), script_words(limit_script(), key, 1, 0, 0, 0, *parse_rate_plan("60r/m")));
    assert_in_range(std::stoi(run(redis.get(), {"PTTL", key})), 86'000'000, 86'400'001);
    assert_true(run(redis.get(), {"HLEN", key}) == "2");
}

void test_limit_script_refusal_writes_nothing_and_a_return_is_kept(void**) {
    const Connection redis = connect();
    const auto windows = *parse_rate_plan("2r/d");
    const auto call = [&](std::int64_t need, std::int64_t ret) {
        return run(redis.get(), script_words(limit_script(), "limit:{refused}", need, 0, ret, 0, windows));
    };
    assert_true(call(3, 0).starts_with("0 -1 2 0"));
    assert_true(run(redis.get(), {"EXISTS", "limit:{refused}"}) == "0");
    assert_true(call(2, 0).starts_with("2 0 0 "));
    const std::string before = run(redis.get(), {"HGETALL", "limit:{refused}"});
    assert_true(call(1, 0).starts_with("0 "));
    assert_true(run(redis.get(), {"HGETALL", "limit:{refused}"}) == before);
    assert_true(call(2, 1).starts_with("0 "));
    assert_true(call(1, 0).starts_with("1 0 0 "));
    // Only a return: nothing is granted, nothing is refused.
    assert_true(call(0, 2).starts_with("0 0 2 0"));
}

void test_limit_script_bad_arguments_are_errors_and_change_nothing(void**) {
    const Connection redis = connect();
    const std::vector<std::string> good =
        script_words(limit_script(), "limit:{bad}", 1, 0, 0, 0, *parse_rate_plan("5r/d"));
    for (std::size_t i = 4; i < good.size(); ++i) {
        if (i == 9) {
            continue;  // the field's name may be anything
        }
        for (const char* bad : {"-1", "1.5", "x", "", "nan", "inf", "1e300", "99999999999999999999"}) {
            std::vector<std::string> words = good;
            words[i] = bad;
            assert_true(run(redis.get(), words).starts_with("ERR headgate limit: bad "));
        }
    }
    for (std::size_t words_left = 4; words_left < good.size(); ++words_left) {
        const std::vector<std::string> words(good.begin(), good.begin() + static_cast<std::ptrdiff_t>(words_left));
        assert_true(run(redis.get(), words).starts_with("ERR headgate limit: bad arguments"));
    }
    assert_true(run(redis.get(), {"EXISTS", "limit:{bad}"}) == "0");
    // A state that is no number counts as none.
    run(redis.get(), {"HSET", "limit:{bad}", "plan:d", "rubbish"});
    assert_true(run(redis.get(), good).starts_with("1 0 4 "));
}

void test_limit_script_many_clients_get_exactly_the_quota(void**) {
    for (const std::string_view plan : {"100r/d", "97r/d+1000r/h"}) {
        const auto windows = *parse_rate_plan(plan);
        const std::string key = "limit:{" + std::string(plan) + "}";
        std::atomic<std::int64_t> granted{0};
        std::vector<std::thread> clients;
        for (int i = 0; i < 64; ++i) {
            clients.emplace_back([&] {
                const Connection redis = connect();
                for (int n = 0; n < 5; ++n) {
                    granted += run(redis.get(), script_words(limit_script(), key, 1, 0, 0, 0, windows))[0] == '1';
                }
            });
        }
        for (std::thread& client : clients) {
            client.join();
        }
        assert_int_equal(granted.load(), windows[0].quota);
    }
}

void test_limit_publish_script_adds_only_when_granted(void**) {
    const Connection redis = connect();
    const std::string payload("{\"a\":\"\r\n$5\r\n\"}\0 }", 18);
    const auto windows = *parse_rate_plan("1r/d+5r/h");
    std::vector<std::string> words =
        script_words(limit_publish_script(), "limit:{publish}", 1, 0, 0, 0, windows, "{x}:events");
    for (const std::string& word : {std::string("v"), std::string("1"), std::string("payload"), payload}) {
        words.push_back(word);
    }
    const Reply granted = command(redis.get(), words);
    assert_int_equal(granted->type, REDIS_REPLY_ARRAY);
    assert_int_equal(granted->elements, 7);
    const std::string id = text_of(granted->element[6]);
    assert_true(text_of(granted.get()).starts_with("1 0 0 86400000000 4 720000000 "));
    assert_true(run(redis.get(), {"XRANGE", "{x}:events", "-", "+"}) == id + " v 1 payload " + payload);
    const Reply refused = command(redis.get(), words);
    assert_int_equal(refused->elements, 6);
    assert_int_equal(refused->element[0]->integer, 0);
    assert_true(run(redis.get(), {"XLEN", "{x}:events"}) == "1");
}

void test_limit_publish_script_failed_xadd_charges_nothing(void**) {
    const Connection redis = connect();
    run(redis.get(), {"SET", "{wrong}:events", "no stream"});
    std::vector<std::string> words =
        script_words(limit_publish_script(), "limit:{free}", 1, 0, 0, 0, *parse_rate_plan("1r/d"), "{wrong}:events");
    words.emplace_back("v");
    assert_true(run(redis.get(), words).find("ERR") != std::string::npos);  // a name without a value
    words.emplace_back("1");
    assert_true(run(redis.get(), words).find("WRONGTYPE") != std::string::npos);
    assert_true(run(redis.get(), {"EXISTS", "limit:{free}"}) == "0");
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(test_limit_script_decides_exactly_as_gcra_charge),
        cmocka_unit_test(test_script_sha1_is_the_one_that_redis_computes),
        cmocka_unit_test(test_limit_script_on_redis_own_clock),
        cmocka_unit_test(test_limit_script_never_brings_the_expiry_of_other_windows_forward),
        cmocka_unit_test(test_limit_script_refusal_writes_nothing_and_a_return_is_kept),
        cmocka_unit_test(test_limit_script_bad_arguments_are_errors_and_change_nothing),
        cmocka_unit_test(test_limit_script_many_clients_get_exactly_the_quota),
        cmocka_unit_test(test_limit_publish_script_adds_only_when_granted),
        cmocka_unit_test(test_limit_publish_script_failed_xadd_charges_nothing),
    };
    return cmocka_run_group_tests(tests, start_redis, stop_redis);
}
