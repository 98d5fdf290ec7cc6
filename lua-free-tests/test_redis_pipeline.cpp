// links: headgate_edge_pure
// RedisPipeline without a socket: what is written, who is told, and what is left when a request dies.
#include <hiredis/hiredis.h>

#include <string>
#include <vector>

#include "lua-free-tests/cmocka_cpp.h"
#include "ngx_module/redis_pipeline.h"

using headgate::edge::RedisCommand;
using headgate::edge::RedisOutcome;
using headgate::edge::RedisPipeline;

namespace {

struct Asker {
    std::vector<std::string> heard;
    static void done(void* asker, RedisOutcome outcome, const redisReply* reply) {
        std::string text = "unavailable";
        if (outcome == RedisOutcome::kReply) {
            text = reply->type == REDIS_REPLY_ARRAY     ? "array" + std::to_string(reply->elements)
                   : reply->type == REDIS_REPLY_INTEGER ? std::to_string(reply->integer)
                                                        : std::string(reply->str, reply->len);
        }
        static_cast<Asker*>(asker)->heard.push_back(text);
    }
};

RedisCommand* make_command(const std::string& bytes, Asker* asker) {
    auto* command = new RedisCommand;
    command->bytes = bytes;
    command->write_own_bytes();
    command->asker = asker;
    command->done = Asker::done;
    return command;
}

// Askers stand before their pipeline: its destructor still tells them.

// Plays send_chain(): takes up to `bytes_max` bytes and advances the buffers, as ngx_chain_update_sent() does.
std::string write_some(RedisPipeline& pipeline, std::size_t bytes_max, std::size_t bufs_max = 64) {
    std::string out;
    std::size_t bufs = 0;
    for (ngx_chain_t* link = pipeline.next_chain(bufs_max); link != nullptr; link = link->next) {
        ++bufs;
        const std::size_t size = static_cast<std::size_t>(link->buf->last - link->buf->pos);
        const std::size_t take = std::min(size, bytes_max - out.size());
        out.append(reinterpret_cast<char*>(link->buf->pos), take);
        link->buf->pos += take;
        if (out.size() == bytes_max) {
            break;
        }
    }
    pipeline.wrote();
    return bufs > bufs_max ? "too many bufs" : out;
}

std::string write_all(RedisPipeline& pipeline, std::size_t step, std::size_t bufs_max = 64) {
    std::string out;
    while (pipeline.has_unwritten()) {
        out += write_some(pipeline, step, bufs_max);
    }
    return out;
}

void test_push_several_are_written_as_one_chain_in_order(void**) {
    std::string all;
    std::string again;
    {
        Asker asker;
        RedisPipeline pipeline;
        for (const char* bytes : {"one", "two", "three"}) {
            pipeline.push(make_command(bytes, &asker));
        }
        all = write_some(pipeline, 1000);
        again = write_some(pipeline, 1000);
    }
    assert_string_equal(all.c_str(), "onetwothree");
    assert_string_equal(again.c_str(), "");
}

void test_write_any_step_and_any_number_of_bufs_gives_the_same_bytes(void**) {
    bool same = true;
    for (std::size_t step = 1; step <= 12; ++step) {
        for (std::size_t bufs_max = 1; bufs_max <= 4; ++bufs_max) {
            Asker asker;
            RedisPipeline pipeline;
            for (const char* bytes : {"one", "two", "three"}) {
                pipeline.push(make_command(bytes, &asker));
            }
            same = same && write_all(pipeline, step, bufs_max) == "onetwothree";
        }
    }
    assert_true(same);
}

void test_feed_replies_split_at_every_offset_reach_their_askers_in_order(void**) {
    const std::string replies = "+OK\r\n:42\r\n*2\r\n$1\r\na\r\n$2\r\nbc\r\n-ERR no\r\n$0\r\n\r\n";
    const std::vector<std::string> expected = {"OK", "42", "array2", "ERR no", ""};
    bool same = true;
    for (std::size_t cut = 0; cut <= replies.size(); ++cut) {
        Asker asker;
        RedisPipeline pipeline;
        for (int i = 0; i < 5; ++i) {
            pipeline.push(make_command("x", &asker));
        }
        (void)write_all(pipeline, 100);
        same = same && pipeline.feed(replies.data(), cut) && pipeline.feed(replies.data() + cut, replies.size() - cut);
        same = same && asker.heard == expected && pipeline.idle() && pipeline.take_replies() == 5;
    }
    assert_true(same);
}

void test_feed_garbage_or_reply_to_nothing_is_refused(void**) {
    bool garbage = true;
    bool unasked = true;
    bool early = true;
    {
        Asker asker;
        RedisPipeline pipeline;
        pipeline.push(make_command("x", &asker));
        early = pipeline.feed("+OK\r\n", 5);  // it has not been written yet
        pipeline.fail_all();
        pipeline.push(make_command("x", &asker));
        (void)write_all(pipeline, 100);
        garbage = pipeline.feed("HTTP/1.1 400\r\n", 14);
        pipeline.fail_all();
        unasked = pipeline.feed("+OK\r\n", 5);
    }
    assert_false(early);
    assert_false(garbage);
    assert_false(unasked);
}

void test_feed_reply_larger_than_the_bound_is_refused(void**) {
    bool within = true;
    {
        Asker asker;
        RedisPipeline pipeline;
        pipeline.push(make_command("x", &asker));
        (void)write_all(pipeline, 100);
        const std::string part(64 * 1024, 'x');
        const std::string head = "$100000000\r\n";
        within = pipeline.feed(head.data(), head.size());
        for (int i = 0; within && i < 17; ++i) {  // 17 x 64 KiB: past 1 MiB
            within = pipeline.feed(part.data(), part.size());
        }
    }
    assert_false(within);
}

void test_fail_all_tells_everyone_once_oldest_first(void**) {
    std::vector<std::string> heard;
    bool idle = false;
    {
        Asker asker;
        RedisPipeline pipeline;
        pipeline.push(make_command("written", &asker));
        (void)write_all(pipeline, 100);
        pipeline.push(make_command("half", &asker));
        (void)write_some(pipeline, 2);
        pipeline.push(make_command("queued", &asker));
        pipeline.fail_all();
        idle = pipeline.idle();
        heard = asker.heard;
    }
    assert_true(idle);
    assert_int_equal(heard.size(), 3);
    assert_string_equal(heard[2].c_str(), "unavailable");
}

// A Redis of another contract, or one that evicts, may answer for keys and limits but must not have events.
void test_fail_events_only_events_fail_and_the_rest_is_written(void**) {
    std::string out;
    std::vector<std::string> event_heard;
    std::vector<std::string> other_heard;
    {
        Asker event_asker;
        Asker other;
        RedisPipeline pipeline;
        for (const char* bytes : {"a", "event", "b", "event"}) {
            const bool is_event = std::string(bytes) == "event";
            RedisCommand* command = make_command(bytes, is_event ? &event_asker : &other);
            command->is_event = is_event;
            pipeline.push(command);
        }
        pipeline.fail_events();
        out = write_all(pipeline, 100);
        event_heard = event_asker.heard;
        other_heard = other.heard;
    }
    assert_string_equal(out.c_str(), "ab");
    assert_int_equal(event_heard.size(), 2);
    assert_string_equal(event_heard[0].c_str(), "unavailable");
    assert_int_equal(other_heard.size(), 0);
}

void test_fail_all_half_a_reply_is_forgotten(void**) {
    std::vector<std::string> heard;
    {
        Asker asker;
        RedisPipeline pipeline;
        pipeline.push(make_command("x", &asker));
        (void)write_all(pipeline, 100);
        (void)pipeline.feed("$5\r\nab", 6);
        pipeline.fail_all();
        pipeline.push(make_command("y", &asker));
        (void)write_all(pipeline, 100);
        (void)pipeline.feed("+NEW\r\n", 6);
        heard = asker.heard;
    }
    assert_int_equal(heard.size(), 2);
    assert_string_equal(heard[0].c_str(), "unavailable");
    assert_string_equal(heard[1].c_str(), "NEW");
}

void test_abandon_is_written_to_its_end_and_its_reply_dropped(void**) {
    std::string out;
    std::vector<std::string> gone;
    std::vector<std::string> next;
    int released = 0;
    {
        Asker abandoned;
        Asker asker;
        RedisPipeline pipeline;
        RedisCommand* command = make_command("abandoned", &abandoned);
        command->lender = &released;
        command->released = [](void* count) { ++*static_cast<int*>(count); };
        pipeline.push(command);
        pipeline.push(make_command("next", &asker));
        out = write_some(pipeline, 4);
        command->abandon();
        out += write_all(pipeline, 3);
        (void)pipeline.feed("+A\r\n+B\r\n", 8);
        gone = abandoned.heard;
        next = asker.heard;
    }
    assert_string_equal(out.c_str(), "abandonednext");
    assert_int_equal(released, 1);
    assert_true(gone.empty());
    assert_int_equal(next.size(), 1);
    assert_string_equal(next[0].c_str(), "B");
}

// The lender takes its memory back as soon as its last byte has left: nothing of the pipeline may look at it again.
void test_released_memory_is_not_touched_again(void**) {
    struct Lender {
        ngx_buf_t buf{};
        ngx_chain_t link{};
        std::string text = "borrowed";
    };
    std::vector<std::string> heard;
    {
        Asker asker;
        RedisPipeline pipeline;
        for (int i = 0; i < 3; ++i) {
            auto* lender = new Lender;
            lender->buf.pos = reinterpret_cast<u_char*>(lender->text.data());
            lender->buf.last = lender->buf.pos + lender->text.size();
            lender->buf.memory = 1;
            lender->link = {&lender->buf, nullptr};
            auto* command = new RedisCommand;
            command->chain = command->last_link = &lender->link;
            command->lender = lender;
            command->released = [](void* data) { delete static_cast<Lender*>(data); };  // ASan sees a later use
            command->asker = &asker;
            command->done = Asker::done;
            pipeline.push(command);
        }
        (void)write_some(pipeline, 12);
        (void)write_all(pipeline, 5);
        (void)pipeline.feed("+1\r\n+2\r\n+3\r\n", 12);
        heard = asker.heard;
    }
    assert_int_equal(heard.size(), 3);
}

void test_done_may_push_another_command(void**) {
    struct Chain {
        RedisPipeline pipeline;
        int calls = 0;
        static void done(void* data, RedisOutcome outcome, const redisReply*) {
            auto* self = static_cast<Chain*>(data);
            if (++self->calls < 3 && outcome == RedisOutcome::kReply) {
                auto* command = new RedisCommand;
                command->bytes = "more";
                command->write_own_bytes();
                command->asker = self;
                command->done = done;
                self->pipeline.push(command);
            }
        }
    };
    int calls = 0;
    {
        Chain chain;
        auto* command = new RedisCommand;
        command->bytes = "first";
        command->write_own_bytes();
        command->asker = &chain;
        command->done = Chain::done;
        chain.pipeline.push(command);
        while (!chain.pipeline.idle()) {
            (void)write_all(chain.pipeline, 100);
            (void)chain.pipeline.feed("+OK\r\n", 5);
        }
        calls = chain.calls;
    }
    assert_int_equal(calls, 3);
}

RedisCommand* make_replicated(const std::string& bytes, Asker* asker, int replicas) {
    RedisCommand* command = make_command(bytes, asker);
    command->min_replicas = static_cast<std::uint8_t>(replicas);
    return command;
}

const std::string kWait2 = "*3\r\n$4\r\nWAIT\r\n$1\r\n2\r\n$3\r\n500\r\n";

void test_wait_follows_each_batch_and_holds_its_replies(void**) {
    std::string first, early, second;
    std::size_t before_wait = 0, after_wait = 0;
    {
        Asker asker;
        RedisPipeline pipeline;
        pipeline.wait_for_replicas(500);
        pipeline.push(make_replicated("a", &asker, 1));
        pipeline.push(make_replicated("b", &asker, 2));
        first = write_some(pipeline, 1000);
        pipeline.push(make_replicated("c", &asker, 2));
        early = write_some(pipeline, 1000);  // its batch may not begin yet
        (void)pipeline.feed("$3\r\n1-1\r\n$3\r\n1-2\r\n", 18);
        before_wait = asker.heard.size();
        (void)pipeline.feed(":2\r\n", 4);
        after_wait = asker.heard.size();
        second = write_some(pipeline, 1000);
    }
    assert_string_equal(first.c_str(), ("ab" + kWait2).c_str());
    assert_string_equal(early.c_str(), "");
    assert_int_equal(before_wait, 0);
    assert_int_equal(after_wait, 2);
    assert_string_equal(second.c_str(), ("c" + kWait2).c_str());
}

void test_wait_too_few_replicas_are_said_to_whom_they_are_too_few(void**) {
    std::vector<RedisOutcome> heard;
    long long missed = 0, again = 0;
    bool idle = false;
    {
        const auto note = [](void* list, RedisOutcome outcome, const redisReply*) {
            static_cast<std::vector<RedisOutcome>*>(list)->push_back(outcome);
        };
        RedisPipeline pipeline;
        pipeline.wait_for_replicas(500);
        for (const int replicas : {1, 2, 1}) {
            RedisCommand* command = make_replicated("x", nullptr, replicas);
            command->asker = &heard;
            command->done = note;
            pipeline.push(command);
        }
        (void)write_some(pipeline, 1000);
        constexpr std::string_view kReplies = "+1-1\r\n+1-2\r\n-OOM x\r\n:1\r\n";
        (void)pipeline.feed(kReplies.data(), kReplies.size());
        missed = pipeline.take_missed_replicas();
        again = pipeline.take_missed_replicas();
        idle = pipeline.idle();
    }
    // The error first: there is nothing to wait for.
    assert_int_equal(heard.size(), 3);
    assert_true(heard[0] == RedisOutcome::kReply);
    assert_true(heard[1] == RedisOutcome::kReply);
    assert_true(heard[2] == RedisOutcome::kNotReplicated);
    assert_int_equal(missed, 1);
    assert_int_equal(again, -1);
    assert_true(idle);
}

void test_wait_a_lost_connection_fails_what_is_held_and_what_is_staged(void**) {
    std::vector<std::string> heard;
    bool idle = false;
    {
        Asker asker;
        RedisPipeline pipeline;
        pipeline.wait_for_replicas(500);
        pipeline.push(make_replicated("a", &asker, 1));
        (void)write_some(pipeline, 1000);
        pipeline.push(make_replicated("b", &asker, 1));
        (void)pipeline.feed("+1-1\r\n", 6);
        pipeline.fail_all();
        idle = pipeline.idle();
        pipeline.push(make_replicated("c", &asker, 1));
        (void)write_some(pipeline, 1000);
        (void)pipeline.feed("+1-2\r\n:1\r\n", 10);
        heard = asker.heard;
    }
    assert_true(idle);
    assert_true((heard == std::vector<std::string>{"unavailable", "unavailable", "1-2"}));
}

void test_retake_an_error_may_be_taken_back_before_anybody_is_told(void**) {
    std::vector<std::string> heard;
    std::string written;
    {
        struct Retaker {
            RedisPipeline other;
            std::string error;
            static bool retake(void* retaker, RedisCommand* command, std::string_view error) {
                auto* self = static_cast<Retaker*>(retaker);
                self->error = error;
                if (!error.starts_with("MOVED")) {
                    return false;
                }
                command->write_own_bytes();
                self->other.push(command);
                return true;
            }
        };
        Asker asker;
        Retaker retaker;
        RedisPipeline pipeline;
        for (const char* bytes : {"one", "two"}) {
            RedisCommand* command = make_command(bytes, &asker);
            command->retake = Retaker::retake;
            command->retaker = &retaker;
            pipeline.push(command);
        }
        (void)write_all(pipeline, 100);
        (void)pipeline.feed("-MOVED 1 h:1\r\n-ERR no\r\n", 23);
        heard = asker.heard;
        written = pipeline.idle() ? write_all(retaker.other, 100) : "not idle";
    }
    assert_true(heard == std::vector<std::string>{"ERR no"});
    assert_string_equal(written.c_str(), "one");
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(test_push_several_are_written_as_one_chain_in_order),
        cmocka_unit_test(test_write_any_step_and_any_number_of_bufs_gives_the_same_bytes),
        cmocka_unit_test(test_feed_replies_split_at_every_offset_reach_their_askers_in_order),
        cmocka_unit_test(test_feed_garbage_or_reply_to_nothing_is_refused),
        cmocka_unit_test(test_feed_reply_larger_than_the_bound_is_refused),
        cmocka_unit_test(test_fail_all_tells_everyone_once_oldest_first),
        cmocka_unit_test(test_fail_events_only_events_fail_and_the_rest_is_written),
        cmocka_unit_test(test_fail_all_half_a_reply_is_forgotten),
        cmocka_unit_test(test_abandon_is_written_to_its_end_and_its_reply_dropped),
        cmocka_unit_test(test_released_memory_is_not_touched_again),
        cmocka_unit_test(test_done_may_push_another_command),
        cmocka_unit_test(test_wait_follows_each_batch_and_holds_its_replies),
        cmocka_unit_test(test_wait_too_few_replicas_are_said_to_whom_they_are_too_few),
        cmocka_unit_test(test_wait_a_lost_connection_fails_what_is_held_and_what_is_staged),
        cmocka_unit_test(test_retake_an_error_may_be_taken_back_before_anybody_is_told),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
