// headgate:status:edge:<host>:<pid>, what an operator wants from redis-cli: one hash for each worker, with its own
// numbers since it started, written every second to the Redis that has the events. It expires after ten seconds, so
// that a worker which is gone, or cut off, is gone from there too.
#pragma once

#include <string>

#include "ngx_module/redis_service.h"
#include "ngx_module/zone.h"

namespace headgate::edge {

// The key's name. A byte of the host's name that could be taken for a separator or a hash tag is %-encoded.
[[nodiscard]] std::string status_report_key(std::string_view host, long pid);

class StatusReport {
 public:
    // `counters` are this worker's own and outlive the report.
    StatusReport(const ngx_cycle_t& cycle, const Counters& counters);
    ~StatusReport();
    StatusReport(const StatusReport&) = delete;
    StatusReport& operator=(const StatusReport&) = delete;

    // Nothing is sent while Redis is away, or has not yet answered the last one; its answer is read and dropped.
    void send(RedisService& redis, std::size_t inflight_bytes) noexcept;

 private:
    static void on_reply(void* report, RedisOutcome outcome, const redisReply* reply) noexcept;

    const Counters& counters_;
    const CounterValues at_start_;  // the slot's earlier workers have counted so far
    const ngx_msec_t started_ms_;
    const std::string key_;
    RedisCommand* pending_ = nullptr;  // owned by the pipeline
};

}  // namespace headgate::edge
