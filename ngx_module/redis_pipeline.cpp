// See redis_pipeline.h.
#include "ngx_module/redis_pipeline.h"

#include <hiredis/hiredis.h>

#include <algorithm>

#include "common/resp.h"
#include "ngx_module/redis_reply.h"

namespace headgate::edge {

// What one reply may take, bounded so that a broken Redis cannot fill the worker's memory. The
// edge's largest replies are INFO sections and key records.
static constexpr std::size_t kReplyBytesMax = 1024 * 1024;

// ---- memory of commands ----------------------------------------------------------------------

namespace {

#if defined(__SANITIZE_ADDRESS__)
constexpr std::size_t kSpareCommandsMax = 0;  // or it could not tell a command from the one before
#else
constexpr std::size_t kSpareCommandsMax = 1024;
#endif

struct SpareCommand {
    SpareCommand* next;
};
SpareCommand* spare_commands = nullptr;
std::size_t spare_command_count = 0;

void* take_spare() noexcept {
    SpareCommand* spare = spare_commands;
    if (spare != nullptr) {
        spare_commands = spare->next;
        --spare_command_count;
    }
    return spare;
}

}  // namespace

void* RedisCommand::operator new(std::size_t bytes) {
    void* spare = take_spare();
    return spare != nullptr ? spare : ::operator new(bytes);
}

void* RedisCommand::operator new(std::size_t bytes, const std::nothrow_t&) noexcept {
    void* spare = take_spare();
    return spare != nullptr ? spare : ::operator new(bytes, std::nothrow);
}

void RedisCommand::operator delete(void* memory) noexcept {
    if (memory == nullptr || spare_command_count == kSpareCommandsMax) {
        ::operator delete(memory);
        return;
    }
    spare_commands = new (memory) SpareCommand{spare_commands};
    ++spare_command_count;
}

// ---- commands ----------------------------------------------------------------------------------

RedisCommand* RedisCommand::of_bytes(std::string bytes, void* asker, Done done) noexcept {
    auto* command = new (std::nothrow) RedisCommand;
    if (command != nullptr) {
        command->bytes = std::move(bytes);
        command->write_own_bytes();
        command->asker = asker;
        command->done = done;
    }
    return command;
}

void RedisCommand::write_own_bytes() noexcept {
    own_buf = {};
    own_buf.pos = own_buf.start = reinterpret_cast<u_char*>(bytes.data());
    own_buf.last = own_buf.end = own_buf.pos + bytes.size();
    own_buf.memory = 1;
    own_link = {&own_buf, nullptr};
    chain = &own_link;
    last_link = &own_link;
}

RedisPipeline::RedisPipeline() noexcept {
    for (ngx_queue_t* queue : {&to_write_, &to_answer_, &staged_, &held_}) {
        ngx_queue_init(queue);
    }
}

RedisPipeline::~RedisPipeline() {
    fail_all();
    if (reader_ != nullptr) {
        redisReaderFree(reader_);
    }
}

void RedisPipeline::push(RedisCommand* command) noexcept {
    command->queued_at_ms = ngx_current_msec;
    ngx_queue_insert_tail(wait_timeout_ms_ != 0 ? &staged_ : &to_write_, &command->link);
    ++commands_;
}

void RedisPipeline::seal_batch() noexcept {
    if (wait_timeout_ms_ == 0 || waiting_ || ngx_queue_empty(&staged_)) {
        return;
    }
    std::uint8_t replicas = 0;
    for (ngx_queue_t* q = ngx_queue_head(&staged_); q != ngx_queue_sentinel(&staged_); q = ngx_queue_next(q)) {
        replicas = std::max(replicas, command_of(q)->min_replicas);
    }
    RedisCommand* wait = nullptr;
    try {
        std::string bytes;
        RespWriter(bytes).command("WAIT", static_cast<long long>(replicas), static_cast<long long>(wait_timeout_ms_));
        wait = RedisCommand::of_bytes(std::move(bytes), this, on_wait_reply);
    } catch (const std::exception&) {  // no memory either
    }
    if (wait == nullptr) {
        return;  // tried again with the next write, at the latest when the connection times out
    }
    wait->queued_at_ms = ngx_current_msec;
    ++commands_;
    waiting_ = true;
    ngx_queue_add(&to_write_, &staged_);
    ngx_queue_init(&staged_);
    ngx_queue_insert_tail(&to_write_, &wait->link);
}

void RedisPipeline::on_wait_reply(void* pipeline, RedisOutcome outcome, const redisReply* reply) noexcept {
    auto* self = static_cast<RedisPipeline*>(pipeline);
    self->waiting_ = false;
    if (outcome == RedisOutcome::kReply) {
        self->finish_held(reply->type == REDIS_REPLY_INTEGER ? reply->integer : 0);
    }
}

void RedisPipeline::hold(RedisCommand* command, redisReply* reply) noexcept {
    command->held = reply;
    ngx_queue_insert_tail(&held_, &command->link);
}

void RedisPipeline::finish_held(long long replicas) noexcept {
    while (!ngx_queue_empty(&held_)) {
        RedisCommand* command = command_of(ngx_queue_head(&held_));
        ngx_queue_remove(&command->link);
        redisReply* reply = std::exchange(command->held, nullptr);
        const bool enough = replicas >= command->min_replicas;
        missed_replicas_ = enough ? missed_replicas_ : replicas;
        finish(command, enough ? RedisOutcome::kReply : RedisOutcome::kNotReplicated, reply);
        freeReplyObject(reply);
    }
}

ngx_chain_t* RedisPipeline::next_chain(std::size_t bufs_max) noexcept {
    seal_batch();
    ngx_chain_t* head = nullptr;
    ngx_chain_t* tail = nullptr;
    for (ngx_queue_t* q = ngx_queue_head(&to_write_); q != ngx_queue_sentinel(&to_write_); q = ngx_queue_next(q)) {
        RedisCommand* command = command_of(q);
        if (tail == nullptr) {
            head = command->chain;
        } else {
            tail->next = command->chain;
        }
        for (ngx_chain_t* link = command->chain; link != nullptr; link = link->next) {
            tail = link;
            if (--bufs_max == 0) {
                cut_link_ = link;
                cut_next_ = link->next;
                link->next = nullptr;
                return head;
            }
        }
    }
    return head;
}

void RedisPipeline::wrote() noexcept {
    if (cut_link_ != nullptr) {
        cut_link_->next = cut_next_;
        cut_link_ = cut_next_ = nullptr;
    }
    // The commands that were joined for the write are a prefix of the queue: part them again first, so
    // that nobody who is told below finds his chain leading into another request's memory.
    for (ngx_queue_t* q = ngx_queue_head(&to_write_); q != ngx_queue_sentinel(&to_write_); q = ngx_queue_next(q)) {
        RedisCommand* command = command_of(q);
        if (command->last_link->next == nullptr) {
            break;
        }
        command->last_link->next = nullptr;
    }
    while (!ngx_queue_empty(&to_write_)) {
        RedisCommand* command = command_of(ngx_queue_head(&to_write_));
        while (command->chain != nullptr && ngx_buf_size(command->chain->buf) == 0) {
            command->chain = command->chain->next;
        }
        if (command->chain != nullptr) {
            break;
        }
        ngx_queue_remove(&command->link);
        ngx_queue_insert_tail(&to_answer_, &command->link);
        release(command);
    }
}

bool RedisPipeline::feed(const char* data, std::size_t bytes) noexcept {
    if (reader_ == nullptr && (reader_ = redisReaderCreate()) == nullptr) {
        return false;
    }
    reply_bytes_ += bytes;
    if (reply_bytes_ > kReplyBytesMax || redisReaderFeed(reader_, data, bytes) != REDIS_OK) {
        return false;
    }
    for (;;) {
        void* parsed = nullptr;
        if (redisReaderGetReply(reader_, &parsed) != REDIS_OK) {
            return false;
        }
        if (parsed == nullptr) {
            return true;
        }
        auto* reply = static_cast<redisReply*>(parsed);
        reply_bytes_ = 0;
        ++replies_;
        const bool expected = !ngx_queue_empty(&to_answer_);
        if (expected) {
            // The analyzer loses track of the queue after a finish():
            // NOLINTNEXTLINE(clang-analyzer-cplusplus.NewDelete)
            RedisCommand* command = command_of(ngx_queue_head(&to_answer_));
            ngx_queue_remove(&command->link);
            if (reply->type == REDIS_REPLY_ERROR) {
                if (error_seen_ != nullptr) {
                    error_seen_(watcher_, text_of(reply));
                }
                if (command->retake != nullptr && command->retake(command->retaker, command, text_of(reply))) {
                    --commands_;
                    freeReplyObject(reply);
                    continue;
                }
            } else if (command->min_replicas != 0) {
                hold(command, reply);
                continue;
            }
            finish(command, RedisOutcome::kReply, reply);
        }
        freeReplyObject(reply);
        if (!expected) {
            return false;
        }
    }
}

void RedisPipeline::fail_events() noexcept {
    ngx_queue_t failed;
    ngx_queue_init(&failed);
    for (ngx_queue_t* from : {&to_write_, &staged_}) {
        for (ngx_queue_t* q = ngx_queue_head(from); q != ngx_queue_sentinel(from);) {
            RedisCommand* command = command_of(q);
            q = ngx_queue_next(q);
            if (command->is_event) {
                ngx_queue_remove(&command->link);
                ngx_queue_insert_tail(&failed, &command->link);
            }
        }
    }
    fail_queue(failed);
}

void RedisPipeline::fail_queue(ngx_queue_t& failed) noexcept {
    while (!ngx_queue_empty(&failed)) {
        RedisCommand* command = command_of(ngx_queue_head(&failed));
        ngx_queue_remove(&command->link);
        release(command);
        finish(command, RedisOutcome::kUnavailable, nullptr);
    }
}

void RedisPipeline::fail_all() noexcept {
    ngx_queue_t failed;
    ngx_queue_init(&failed);
    for (ngx_queue_t* from : {&to_answer_, &to_write_, &staged_}) {
        if (!ngx_queue_empty(from)) {
            ngx_queue_add(&failed, from);
            ngx_queue_init(from);
        }
    }
    if (reader_ != nullptr) {
        redisReaderFree(reader_);  // half a reply belongs to the connection that is gone
        reader_ = nullptr;
        reply_bytes_ = 0;
    }
    ngx_queue_t held;
    ngx_queue_init(&held);
    if (!ngx_queue_empty(&held_)) {
        ngx_queue_add(&held, &held_);
        ngx_queue_init(&held_);
    }
    while (!ngx_queue_empty(&held)) {
        RedisCommand* command = command_of(ngx_queue_head(&held));
        ngx_queue_remove(&command->link);
        freeReplyObject(std::exchange(command->held, nullptr));
        finish(command, RedisOutcome::kUnavailable, nullptr);
    }
    fail_queue(failed);
}

ngx_msec_t RedisPipeline::oldest_ms() const noexcept {
    for (const ngx_queue_t* from : {&held_, &to_answer_, &to_write_}) {
        if (!ngx_queue_empty(from)) {
            return command_of(ngx_queue_head(from))->queued_at_ms;
        }
    }
    return command_of(ngx_queue_head(&staged_))->queued_at_ms;
}

void RedisPipeline::release(RedisCommand* command) noexcept {
    if (auto* released = std::exchange(command->released, nullptr); released != nullptr) {
        released(command->lender);
    }
}

void RedisPipeline::refuse(RedisCommand* command) noexcept {
    release(command);
    if (command->done != nullptr) {
        command->done(command->asker, RedisOutcome::kUnavailable, nullptr);
    }
    delete command;
}

void RedisPipeline::finish(RedisCommand* command, RedisOutcome outcome, const redisReply* reply) noexcept {
    --commands_;
    if (command->done != nullptr) {
        command->done(command->asker, outcome, reply);
    }
    delete command;
}

}  // namespace headgate::edge
