// Health and status; see vitals.h.
#include "sidecar/vitals.h"

#include <unistd.h>

#include "common/resp.h"
#include "common/version.h"

namespace headgate {
namespace {

constexpr long long kStatusExpiresMs = 10'000;

// "name":{"ok":…,"<detail>":…}; what is not well is told in words as well.
void add_check(HealthReport& report, std::string_view name, bool is_ok, std::string_view detail, std::string_view value,
               std::string_view reason) {
    if (!is_ok) {
        report.reasons += report.reasons.size() > 1 ? ",\"" : "\"";
        report.reasons += reason;
        report.reasons += '"';
    }
    report.is_healthy = report.is_healthy && is_ok;
    report.checks += report.checks.size() > 1 ? "," : "";
    report.checks += '"';
    report.checks += name;
    report.checks += is_ok ? "\":{\"ok\":true,\"" : "\":{\"ok\":false,\"";
    report.checks += detail;
    report.checks += "\":";
    report.checks += value;
    report.checks += '}';
}

}  // namespace

HealthReport health_report(const Vitals& vitals) {
    HealthReport report{true, "{", "["};
    auto too_long = [](std::string_view what, std::int64_t ms, std::int64_t ms_max) {
        return std::string(what) + " " + std::to_string(ms) + " ms; the limit is " + std::to_string(ms_max) + " ms";
    };
    add_check(report, "redis", vitals.redis_silent_ms < kSilenceMsMax, "silent_ms",
              std::to_string(vitals.redis_silent_ms),
              too_long("Redis has been silent for", vitals.redis_silent_ms, kSilenceMsMax));
    // A full disk still answers who asks whether it could be written to.
    if (vitals.store_silent_ms < kSilenceMsMax && vitals.store_refusing_ms >= kSilenceMsMax) {
        add_check(report, "store", false, "refusing_ms", std::to_string(vitals.store_refusing_ms),
                  too_long("the store has refused to be written for", vitals.store_refusing_ms, kSilenceMsMax));
    } else {
        add_check(report, "store", vitals.store_silent_ms < kSilenceMsMax, "silent_ms",
                  std::to_string(vitals.store_silent_ms),
                  too_long("the store could not be read and written for", vitals.store_silent_ms, kSilenceMsMax));
    }
    add_check(report, "projection", vitals.is_projected, "projected", vitals.is_projected ? "true" : "false",
              "keys and revocations have not been projected to Redis yet");
    add_check(
        report, "ingest", vitals.oldest_undrained_ms <= kBacklogAgeMsMax, "oldest_undrained_ms",
        std::to_string(vitals.oldest_undrained_ms),
        too_long("the oldest event not yet drained has waited for", vitals.oldest_undrained_ms, kBacklogAgeMsMax));
    add_check(
        report, "delivery", vitals.oldest_due_ms <= kBacklogAgeMsMax, "oldest_due_ms",
        std::to_string(vitals.oldest_due_ms),
        too_long("the oldest delivery that is free to start has been due for", vitals.oldest_due_ms, kBacklogAgeMsMax));
    report.checks += '}';
    report.reasons += ']';
    return report;
}

std::string status_key(std::string_view prefix) {
    char host[256] = "localhost";
    gethostname(host, sizeof host - 1);
    return std::string(prefix) + "status:sidecar:" + host + ":" + std::to_string(getpid());
}

std::string status_commands(const Vitals& vitals, std::string_view key) {
    auto number = [](auto value) { return static_cast<long long>(value); };
    std::string commands;
    RespWriter(commands)
        .command("MULTI")
        .command("HSET", key, "version", HEADGATE_VERSION, "uptime_ms", number(vitals.uptime_ms), "drained",
                 number(vitals.drained), "oldest_undrained_ms", number(vitals.oldest_undrained_ms), "oldest_due_ms",
                 number(vitals.oldest_due_ms), "delivered", number(vitals.delivered), "failed", number(vitals.failed),
                 "retrying", number(vitals.retrying), "dead", number(vitals.dead), "in_flight",
                 number(vitals.in_flight), "in_memory", number(vitals.in_memory), "duplicates",
                 number(vitals.duplicates), "quarantined", number(vitals.quarantined), "shards", number(vitals.shards),
                 "lanes", number(vitals.lanes))
        .command("PEXPIRE", key, kStatusExpiresMs)
        .command("EXEC");
    return commands;
}

}  // namespace headgate
