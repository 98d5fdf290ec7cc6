// See usage.h.
#include "ngx_module/usage.h"

#include "common/event_record.h"
#include "common/resp.h"
#include "ngx_module/limit_charge.h"

namespace headgate::edge {

namespace {

constexpr ngx_msec_t kFlushMs = 1000;

}  // namespace

Usage::Usage(RedisService& redis, ngx_log_t* log) noexcept
    : redis_(redis), log_(log), flush_timer_(this, on_flush, WorkerTimer::OnQuit::kAwaited, log) {}

Usage::~Usage() {
    if (unanswered_ != nullptr) {
        unanswered_->abandon();
    }
}

void Usage::count(std::string_view key_id, bool accepted, bool limited) noexcept {
    try {
        scratch_.assign(key_id);
        auto found = keys_.find(scratch_);
        if (found == keys_.end()) {
            if (keys_.size() == kKeysMax) {
                ++dropped_;
                return;
            }
            found = keys_.try_emplace(scratch_).first;
        }
        Counts& counts = found->second;
        ++counts.requests;
        counts.accepted += accepted ? 1 : 0;
        counts.limited += limited ? 1 : 0;
        counts.last_used_ms = now_ms();
        flush_timer_.set(kFlushMs);
        if (keys_.size() >= kKeysPerFlush && unanswered_ == nullptr && redis_.ready()) {
            due_ = keys_.size();
            write_some();
        }
    } catch (const std::exception&) {
        ++dropped_;
    }
}

// False: not connected; what was not taken is still in `counts`.
bool Usage::write(const std::string& key_id, Counts& counts) {
    std::string key(kUsageKeyHead);
    key.resize(key.size() + encoded_bytes_max(key_id));
    key.resize(static_cast<std::size_t>(encode_key_value(key.data() + kUsageKeyHead.size(), key_id) - key.data()));
    key.push_back('}');
    const auto add = [&](std::string_view field, std::int64_t& value) {
        if (value == 0) {
            return true;
        }
        std::string command;
        RespWriter(command).command("HINCRBY", key, field, static_cast<long long>(value));
        if (redis_.send_bytes(std::move(command), key, nullptr, nullptr) == nullptr) {
            return false;
        }
        value = 0;
        return true;
    };
    if (!add("requests", counts.requests) || !add("accepted", counts.accepted) || !add("limited", counts.limited)) {
        return false;
    }
    std::string command;
    RespWriter(command).command("HSET", key, "last_used_at", static_cast<long long>(counts.last_used_ms));
    RedisCommand* sent = redis_.send_bytes(std::move(command), key, this, on_written);
    if (sent == nullptr) {
        return false;
    }
    if (unanswered_ != nullptr) {
        unanswered_->abandon();
    }
    unanswered_ = sent;
    return true;
}

// Of what is due, as much as may be under way at once.
void Usage::write_some() noexcept {
    try {
        for (std::size_t i = 0; (i < kKeysPerFlush || ngx_exiting) && due_ != 0 && !keys_.empty(); ++i, --due_) {
            const auto first = keys_.begin();
            if (!write(first->first, first->second)) {
                due_ = 0;
                return;
            }
            keys_.erase(first);
        }
    } catch (const std::exception&) {
        due_ = 0;  // no memory: later, perhaps
    }
    if (keys_.empty() && keys_.bucket_count() > 4 * kKeysPerFlush) {
        keys_ = {};  // Redis was away: the table has grown for that
    }
}

void Usage::on_written(void* usage, RedisOutcome outcome, const redisReply*) noexcept {
    auto* self = static_cast<Usage*>(usage);
    self->unanswered_ = nullptr;
    if (outcome == RedisOutcome::kUnavailable) {
        self->due_ = 0;
    } else if (self->due_ != 0) {
        self->write_some();
    }
}

void Usage::flush() noexcept {
    if (dropped_ != 0) {
        ngx_log_error(NGX_LOG_ERR, log_, 0, "headgate: the usage of %L requests was not counted: more than %uz keys",
                      std::exchange(dropped_, 0), kKeysMax);
    }
    // While the last ones are unanswered their reply goes on with it; a quitting worker has no such time.
    if (unanswered_ == nullptr || ngx_exiting) {
        due_ = keys_.size();
        write_some();
    }
    if (keys_.empty()) {
        return;
    }
    if (ngx_exiting) {
        ngx_log_error(NGX_LOG_WARN, log_, 0, "headgate: the usage of %uz keys is lost: Redis is away", keys_.size());
        return;
    }
    flush_timer_.set(kFlushMs);
}

void Usage::on_flush(void* self) noexcept { static_cast<Usage*>(self)->flush(); }

}  // namespace headgate::edge
