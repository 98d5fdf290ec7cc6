// See backlog.h.
#include "ngx_module/backlog.h"

#include <algorithm>
#include <charconv>

#include "common/event_record.h"
#include "common/resp.h"
#include "ngx_module/redis_reply.h"
#include "ngx_module/redis_service.h"

namespace headgate::edge {

namespace {

constexpr ngx_msec_t kLookMs = 100;
// What is older says nothing: Redis or the worker that looked was away, or nobody published.
constexpr ngx_msec_t kGoodMs = 1000;

// 0 without one.
std::uint64_t info_number(std::string_view info, std::string_view name) noexcept {
    const std::string_view text = info_field(info, name);
    std::uint64_t number = 0;
    std::from_chars(text.data(), text.data() + text.size(), number);
    return number;
}

// All workers share it. Never 0, which means never.
ngx_msec_t clock_ms() noexcept {
    const ngx_msec_t now_ms = ngx_current_msec;
    return now_ms == 0 ? 1 : now_ms;
}

}  // namespace

Backlog::Backlog(RedisService& redis, BacklogShared& shared, int shards, ngx_log_t* log)
    : redis_(redis),
      shared_(shared),
      shards_(shards),
      log_(log),
      looks_(std::make_unique<Look[]>(static_cast<std::size_t>(shards))),
      timer_(this, on_timer, WorkerTimer::OnQuit::kDropped, log) {
    for (int shard = 0; shard < shards; ++shard) {
        looks_[static_cast<std::size_t>(shard)] = {this, shard};
    }
}

void Backlog::touch() noexcept {
    touched_ = true;
    if (!timer_.is_set() && !ngx_exiting) {
        touched_ = false;
        timer_.set(kLookMs);
        look();
    }
}

void Backlog::on_timer(void* data) noexcept {
    auto* self = static_cast<Backlog*>(data);
    if (!std::exchange(self->touched_, false) || ngx_exiting) {
        return;  // touch() begins again
    }
    self->timer_.set(kLookMs);
    self->look();
}

// Of all workers that come now, one.
bool Backlog::take_turn() noexcept {
    const ngx_msec_t now_ms = clock_ms();
    const ngx_atomic_uint_t last_ms = shared_.looked_at_ms;
    // Their timers do not fire in the same millisecond.
    const bool due = last_ms == 0 || now_ms - last_ms >= kLookMs * 9 / 10;
    return due && ngx_atomic_cmp_set(&shared_.looked_at_ms, last_ms, now_ms);
}

void Backlog::look() noexcept {
    if (unanswered_ != 0 || !redis_.ready() || !take_turn()) {
        return;
    }
    try {
        for (int shard = 0; shard < shards_; ++shard) {
            const std::string stream = stream_key(kDefaultKeyPrefix, shard);
            std::string length;
            RespWriter(length).command("XLEN", stream);
            ask(std::move(length), stream, shard, on_length);
            // The shards of a cluster lie in several Redis; anywhere else the first one's answer is everybody's.
            if (shard == 0 || !redis_.joins_keys()) {
                ask(RedisMeta::memory_command(), stream, shard, on_memory);
            }
        }
    } catch (const std::exception& e) {
        ngx_log_error(NGX_LOG_ERR, log_, 0, "headgate: %s", e.what());
    }
}

void Backlog::ask(std::string command, std::string_view key, int shard, RedisCommand::Done done) {
    ++unanswered_;
    if (redis_.send_bytes(std::move(command), key, &looks_[static_cast<std::size_t>(shard)], done) == nullptr) {
        --unanswered_;
    }
}

void Backlog::on_length(void* look, RedisOutcome outcome, const redisReply* reply) noexcept {
    const Look& asked = *static_cast<Look*>(look);
    --asked.backlog->unanswered_;
    if (outcome == RedisOutcome::kReply && reply->type == REDIS_REPLY_INTEGER) {
        BacklogShared::Shard& shard = asked.backlog->shared_.shards[asked.shard];
        shard.entries = static_cast<ngx_atomic_uint_t>(reply->integer);
        shard.seen_at_ms = clock_ms();
    }
}

void Backlog::on_memory(void* look, RedisOutcome outcome, const redisReply* reply) noexcept {
    const Look& asked = *static_cast<Look*>(look);
    Backlog& self = *asked.backlog;
    --self.unanswered_;
    if (outcome != RedisOutcome::kReply) {
        return;
    }
    // An ACL may hide INFO: then there is no bound but Redis's own.
    const std::string_view text = text_of(reply);
    const std::uint64_t used = info_number(text, "used_memory");
    const std::uint64_t most = info_number(text, "maxmemory");
    const std::uint64_t percent = most == 0 ? 0 : used / std::max<std::uint64_t>(most / 100, 1);
    const int last = self.redis_.joins_keys() ? self.shards_ : asked.shard + 1;
    for (int shard = asked.shard; shard < last; ++shard) {
        self.shared_.shards[shard].memory_percent = static_cast<ngx_atomic_uint_t>(percent);
        self.shared_.shards[shard].seen_at_ms = clock_ms();
    }
}

bool Backlog::is_full(int shard, ngx_int_t entries_max) const noexcept {
    const BacklogShared::Shard& seen = shared_.shards[shard];
    const ngx_atomic_uint_t seen_at_ms = seen.seen_at_ms;
    if (seen_at_ms == 0 ||
        static_cast<ngx_msec_int_t>(ngx_current_msec - seen_at_ms) > static_cast<ngx_msec_int_t>(kGoodMs)) {
        return false;
    }
    return seen.entries > static_cast<ngx_atomic_uint_t>(entries_max) ||
           seen.memory_percent >= static_cast<ngx_atomic_uint_t>(limits::kBacklogMemoryPercentMax);
}

}  // namespace headgate::edge
