// links: headgate_common PkgConfig::HIREDIS
// The scripts that publish once, in a real Redis. Those of limits alone are in test_gcra_redis.cpp.
#include <hiredis/hiredis.h>

#include <algorithm>
#include <atomic>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "common/event_id.h"
#include "common/event_record.h"
#include "common/rate_plan.h"
#include "common/redis_scripts.h"
#include "lua-free-tests/cmocka_cpp.h"  // last
#include "lua-free-tests/redis_fixture.h"

using namespace headgate;

namespace {

RedisFixture& redis() {
    static RedisFixture fixture;
    return fixture;
}

std::string text_of(const redisReply* reply) {
    if (reply->type == REDIS_REPLY_INTEGER) {
        return std::to_string(reply->integer);
    }
    if (reply->type != REDIS_REPLY_ARRAY) {
        return reply->str == nullptr ? "nil" : "'" + std::string(reply->str, reply->len) + "'";
    }
    std::string text;
    for (std::size_t i = 0; i < reply->elements; ++i) {
        text.append(i == 0 ? "" : " ").append(text_of(reply->element[i]));
    }
    return text;
}

std::string run(const std::vector<std::string>& words) { return text_of(redis().command(words).get()); }
long long entries(const std::string& stream) { return redis().number({"XLEN", stream}); }

struct Keys {
    std::string idem, stream, limit;
};
// Of a test's own: `key` names them.
Keys keys_of(const std::string& key) {
    return {idempotency_key("headgate:", 3, "org", "", key), "{" + std::string(shard_tag(3)) + "}:" + key,
            "limit:{" + key + "}"};
}

const std::string kPayload("{\"a\":\"\r\n$5\r\n\"}\0 }", 18);

std::vector<std::string> once(const Keys& keys, const std::string& id, const std::string& body,
                              const std::string& lifetime_ms = "60000") {
    return {"EVAL",      std::string(publish_idempotent_script()), "2",  keys.idem, keys.stream,
            lifetime_ms, idempotency_value(id, sha256(body)),      "id", id,        "payload",
            kPayload};
}

// Behind a limit of `rate`.
std::vector<std::string> limited_once(const Keys& keys, const std::string& rate, const std::string& id,
                                      const std::string& body) {
    std::vector<std::string> words = {
        "EVAL", std::string(limit_publish_idempotent_script()), "3", keys.limit, keys.stream, keys.idem, "1", "0", "0",
        "0"};
    const auto windows = *parse_rate_plan(rate);
    words.push_back(std::to_string(windows.size()));
    for (const RateWindow& window : windows) {
        words.push_back(std::string("plan:") + window_unit(window));
        for (const std::int64_t number : {window.period_us, window.quota, window.burst}) {
            words.push_back(std::to_string(number));
        }
    }
    const auto rest = once(keys, id, body);
    words.insert(words.end(), rest.begin() + 5, rest.end());
    return words;
}

void test_script_sha1_is_the_one_that_redis_computes(void**) {
    const std::string_view sha1s[] = {limit_script_sha1(), limit_publish_script_sha1(),
                                      publish_idempotent_script_sha1(), limit_publish_idempotent_script_sha1()};
    assert_int_equal(redis_scripts().size(), std::size(sha1s));
    for (std::size_t i = 0; i < std::size(sha1s); ++i) {
        assert_true(run({"SCRIPT", "LOAD", std::string(redis_scripts()[i])}) == "'" + std::string(sha1s[i]) + "'");
    }
}

void test_publish_idempotent_stores_once_and_then_replays(void**) {
    const Keys keys = keys_of("once");
    const std::string first = uuid7(1'700'000'000'000), second = uuid7(1'700'000'000'001);
    const auto stored = redis().command(once(keys, first, "body"));
    assert_int_equal(stored->elements, 2);
    assert_int_equal(stored->element[0]->integer, static_cast<int>(IdempotencyOutcome::kStored));
    const std::string entry = stored->element[1]->str;
    assert_true(run({"XRANGE", keys.stream, "-", "+"}) ==
                "'" + entry + "' 'id' '" + first + "' 'payload' '" + kPayload + "'");
    assert_true(run({"GET", keys.idem}) == "'" + first + " " + hex_encode(sha256("body")) + "'");
    assert_in_range(redis().number({"PTTL", keys.idem}), 50'000, 60'000);
    for (int i = 0; i < 2; ++i) {
        assert_true(run(once(keys, second, "body")) == "0 '" + first + "'");
    }
    assert_int_equal(entries(keys.stream), 1);
}

void test_publish_idempotent_other_body_is_a_conflict(void**) {
    const Keys keys = keys_of("conflict");
    const std::string first = uuid7(1);
    run(once(keys, first, "body"));
    assert_true(run(once(keys, uuid7(2), "Body")) == "-1 ''");
    assert_true(run(once(keys, uuid7(2), "")) == "-1 ''");
    assert_int_equal(entries(keys.stream), 1);
    assert_true(run(once(keys, uuid7(2), "body")) == "0 '" + first + "'");
}

void test_publish_idempotent_is_forgotten_after_its_lifetime(void**) {
    const Keys keys = keys_of("forgotten");
    run(once(keys, uuid7(1), "body", "60000"));
    assert_int_equal(redis().number({"PEXPIRE", keys.idem, "0"}), 1);
    assert_true(run(once(keys, uuid7(2), "another")).starts_with("1 '"));
    assert_int_equal(entries(keys.stream), 2);
}

void test_publish_idempotent_errors_leave_nothing_behind(void**) {
    const Keys keys = keys_of("errors");
    for (const char* lifetime : {"", "0", "-1", "1.5", "x", "1e300", "nan"}) {
        assert_true(run(once(keys, uuid7(1), "body", lifetime)).find("bad lifetime") != std::string::npos);
    }
    assert_int_equal(redis().number({"EXISTS", keys.idem, keys.stream}), 0);
    auto words = once(keys, uuid7(1), "body");
    words.pop_back();
    assert_true(run(words).find("ERR") != std::string::npos);
    assert_int_equal(redis().number({"EXISTS", keys.idem, keys.stream}), 0);
    run({"SET", keys.stream, "no stream"});
    assert_true(run(once(keys, uuid7(1), "body")).find("WRONGTYPE") != std::string::npos);
    assert_int_equal(redis().number({"EXISTS", keys.idem}), 0);
    // A Redis at its memory's end stores neither the event nor the key, nor is anything charged.
    const Keys full = keys_of("full");
    run({"CONFIG", "SET", "maxmemory", "1"});
    assert_true(run(once(full, uuid7(1), "body")).find("OOM") != std::string::npos);
    assert_true(run(limited_once(full, "5r/d", uuid7(1), "body")).find("OOM") != std::string::npos);
    run({"CONFIG", "SET", "maxmemory", "0"});
    assert_int_equal(redis().number({"EXISTS", full.idem, full.stream, full.limit}), 0);
}

void test_publish_idempotent_many_clients_with_one_key_store_once(void**) {
    const Keys keys = keys_of("many");
    std::atomic<int> stored{0}, replayed{0};
    std::vector<std::thread> clients;
    std::vector<std::string> replies(64);
    for (std::size_t i = 0; i < replies.size(); ++i) {
        clients.emplace_back([&, i] {
            redisContext* context = redisConnectUnix(redis().socket_path().c_str());
            const auto words = once(keys, uuid7(static_cast<std::int64_t>(i)), "body");
            std::vector<const char*> texts;
            std::vector<std::size_t> sizes;
            for (const std::string& word : words) {
                texts.push_back(word.data());
                sizes.push_back(word.size());
            }
            auto* reply = static_cast<redisReply*>(
                redisCommandArgv(context, static_cast<int>(words.size()), texts.data(), sizes.data()));
            replies[i] = text_of(reply);
            freeReplyObject(reply);
            redisFree(context);
        });
    }
    for (std::thread& client : clients) {
        client.join();
    }
    std::string replay;
    for (const std::string& reply : replies) {
        stored += reply.starts_with("1 ") ? 1 : 0;
        if (reply.starts_with("0 ")) {
            ++replayed;
            replay = replay.empty() ? reply : replay;
            assert_true(reply == replay);
        }
    }
    assert_int_equal(stored.load(), 1);
    assert_int_equal(replayed.load(), 63);
    assert_int_equal(entries(keys.stream), 1);
    assert_true(run({"XRANGE", keys.stream, "-", "+"}).find("'id' " + replay.substr(2)) != std::string::npos);
}

void test_limit_publish_idempotent_charges_replays_and_conflicts_too(void**) {
    const Keys keys = keys_of("charged");
    const std::string first = uuid7(1), rate = "3r/d+10r/h";
    assert_true(run(limited_once(keys, rate, first, "body")).starts_with("1 0 2 "));
    const auto replayed = redis().command(limited_once(keys, rate, uuid7(2), "body"));
    assert_int_equal(replayed->elements, 8);
    assert_int_equal(replayed->element[2]->integer, 1);
    assert_int_equal(replayed->element[6]->integer, 0);
    assert_true(replayed->element[7]->str == first);
    assert_true(run(limited_once(keys, rate, uuid7(3), "other")).ends_with(" -1 ''"));
    const auto refused = redis().command(limited_once(keys, rate, uuid7(4), "body"));
    assert_int_equal(refused->elements, 6);
    assert_int_equal(refused->element[0]->integer, 0);
    assert_int_equal(entries(keys.stream), 1);
}

void test_limit_publish_idempotent_refusal_stores_nothing(void**) {
    const Keys keys = keys_of("refused");
    const Keys other{keys_of("refused-too").idem, keys.stream, keys.limit};
    run(limited_once(keys, "1r/d", uuid7(1), "body"));
    assert_true(run(limited_once(other, "1r/d", uuid7(2), "body")).starts_with("0 "));
    assert_int_equal(redis().number({"EXISTS", other.idem}), 0);
    assert_int_equal(entries(keys.stream), 1);
}

void test_limit_publish_idempotent_errors_charge_nothing(void**) {
    const Keys keys = keys_of("limited-errors");
    run({"SET", keys.stream, "no stream"});
    assert_true(run(limited_once(keys, "1r/d", uuid7(1), "body")).find("WRONGTYPE") != std::string::npos);
    assert_int_equal(redis().number({"EXISTS", keys.limit, keys.idem}), 0);
    run({"DEL", keys.stream});
    run({"LPUSH", keys.idem, "no string"});
    assert_true(run(limited_once(keys, "1r/d", uuid7(1), "body")).find("WRONGTYPE") != std::string::npos);
    assert_int_equal(redis().number({"EXISTS", keys.limit, keys.stream}), 0);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(test_script_sha1_is_the_one_that_redis_computes),
        cmocka_unit_test(test_publish_idempotent_stores_once_and_then_replays),
        cmocka_unit_test(test_publish_idempotent_other_body_is_a_conflict),
        cmocka_unit_test(test_publish_idempotent_is_forgotten_after_its_lifetime),
        cmocka_unit_test(test_publish_idempotent_errors_leave_nothing_behind),
        cmocka_unit_test(test_publish_idempotent_many_clients_with_one_key_store_once),
        cmocka_unit_test(test_limit_publish_idempotent_charges_replays_and_conflicts_too),
        cmocka_unit_test(test_limit_publish_idempotent_refusal_stores_nothing),
        cmocka_unit_test(test_limit_publish_idempotent_errors_charge_nothing),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
