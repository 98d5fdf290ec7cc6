// See status_report.h.
#include "ngx_module/status_report.h"

#include "common/event_record.h"
#include "common/percent_encode.h"
#include "common/resp.h"
#include "common/version.h"

namespace headgate::edge {

namespace {

// In one call, so that no hash is ever left without its expiry. DEL: a worker may have the pid of one before it.
constexpr std::string_view kScript =
    "redis.call('DEL',KEYS[1]) redis.call('HSET',KEYS[1],unpack(ARGV,2)) return redis.call('PEXPIRE',KEYS[1],ARGV[1])";
constexpr long long kExpiresMs = 10'000;
constexpr std::size_t kHostBytesMax = 255;

// Field and value, as often as needed; how many is known only at the end.
class Fields {
 public:
    void add(std::string_view name, std::string_view value) {
        RespWriter(text_).bulk(name).bulk(value);
        words_ += 2;
    }
    void add(std::string_view name, ngx_atomic_uint_t value) { add(name, std::to_string(value)); }
    [[nodiscard]] std::string command(std::string_view key) const {
        std::string command;
        RespWriter(command).array(5 + words_).bulk("EVAL").bulk(kScript).bulk("1").bulk(key).bulk(kExpiresMs);
        return command + text_;
    }

 private:
    std::string text_;
    std::size_t words_ = 0;
};

}  // namespace

std::string status_report_key(std::string_view host, long pid) {
    host = host.substr(0, kHostBytesMax);
    std::string text(percent_encoded_bytes_max(host.size()), '\0');
    text.resize(static_cast<std::size_t>(percent_encode(text.data(), host) - text.data()));
    std::string key(kDefaultKeyPrefix);
    key.append("status:edge:").append(text).append(":").append(std::to_string(pid));
    return key;
}

StatusReport::StatusReport(const ngx_cycle_t& cycle, const Counters& counters)
    : counters_(counters),
      at_start_(values_of(counters)),
      started_ms_(ngx_current_msec),
      key_(status_report_key(view(cycle.hostname), static_cast<long>(ngx_pid))) {}

StatusReport::~StatusReport() {
    if (pending_ != nullptr) {
        pending_->abandon();
    }
}

void StatusReport::send(RedisService& redis, std::size_t inflight_bytes) noexcept {
    if (pending_ != nullptr || !redis.ready()) {
        return;
    }
    try {
        const CounterValues own = difference(values_of(counters_), at_start_);
        Fields fields;
        fields.add("version", HEADGATE_VERSION);
        fields.add("uptime_ms", ngx_current_msec - started_ms_);
        fields.add("requests", own.requests);
        fields.add("accepted", own.accepted);
        fields.add("limited", own.limited);
        for (std::size_t i = 0; i < kAuthStatusCount; ++i) {
            if (own.refused[i] != 0) {
                fields.add("refused_" + std::string(auth_status_name(static_cast<AuthStatus>(i))), own.refused[i]);
            }
        }
        fields.add("published", own.events_published);
        fields.add("inflight_bytes", inflight_bytes);
        pending_ = redis.send_bytes(fields.command(key_), key_, this, on_reply);
    } catch (const std::exception&) {
        // No memory for it: the next second may have some.
    }
}

void StatusReport::on_reply(void* report, RedisOutcome, const redisReply*) noexcept {
    static_cast<StatusReport*>(report)->pending_ = nullptr;
}

}  // namespace headgate::edge
