// See usage.h.
#include "ngx_module/usage.h"

#include "common/resp.h"
#include "ngx_module/limit_charge.h"

namespace headgate::edge {

namespace {

constexpr ngx_msec_t kFlushMs = 1000;
// In one turn of the event loop; the others follow in the next second.
constexpr int kKeysPerFlush = 2000;

}  // namespace

Usage::Usage(RedisService& redis, ngx_log_t* log) noexcept
    : redis_(redis), log_(log), flush_timer_(this, on_flush, WorkerTimer::OnQuit::kAwaited, log) {}

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
    } catch (const std::exception&) {
        ++dropped_;
    }
}

// False: not connected; what was not taken is still in `counts`.
bool Usage::write(const std::string& key_id, Counts& counts) {
    std::string key = "headgate:usage:{";
    key.resize(key.size() + encoded_bytes_max(key_id));
    key.resize(static_cast<std::size_t>(encode_key_value(key.data() + 16, key_id) - key.data()));
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
    return redis_.send_bytes(std::move(command), key, nullptr, nullptr) != nullptr;
}

void Usage::flush() noexcept {
    if (dropped_ != 0) {
        ngx_log_error(NGX_LOG_ERR, log_, 0, "headgate: the usage of %L requests was not counted: more than %uz keys",
                      std::exchange(dropped_, 0), kKeysMax);
    }
    try {
        for (int i = 0; (i < kKeysPerFlush || ngx_exiting) && !keys_.empty(); ++i) {
            const auto first = keys_.begin();
            if (!write(first->first, first->second)) {
                break;
            }
            keys_.erase(first);
        }
    } catch (const std::exception&) {
        // No memory: later, perhaps.
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
