// Health and status; see vitals.h.
#include "sidecar/vitals.h"

#include "common/resp.h"
#include "common/version.h"

namespace headgate {
namespace {

constexpr long long kStatusExpiresMs = 10'000;

// "name":{"ok":…,"<detail>":…}
void add_check(HealthReport& report, std::string_view name, bool is_ok, std::string_view detail,
               std::string_view value) {
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
    HealthReport report{true, "{"};
    add_check(report, "redis", vitals.redis_silent_ms < kSilenceMsMax, "silent_ms",
              std::to_string(vitals.redis_silent_ms));
    add_check(report, "store", vitals.store_silent_ms < kSilenceMsMax, "silent_ms",
              std::to_string(vitals.store_silent_ms));
    add_check(report, "projection", vitals.is_projected, "projected", vitals.is_projected ? "true" : "false");
    add_check(report, "ingest", vitals.oldest_undrained_ms <= kBacklogAgeMsMax, "oldest_undrained_ms",
              std::to_string(vitals.oldest_undrained_ms));
    add_check(report, "delivery", vitals.oldest_due_ms <= kBacklogAgeMsMax, "oldest_due_ms",
              std::to_string(vitals.oldest_due_ms));
    report.checks += '}';
    return report;
}

std::string status_commands(const Vitals& vitals, std::string_view key) {
    auto number = [](auto value) { return static_cast<long long>(value); };
    std::string commands;
    RespWriter(commands)
        .command("MULTI")
        .command("HSET", key, "version", HEADGATE_VERSION, "uptime_ms", number(vitals.uptime_ms), "drained",
                 number(vitals.drained), "oldest_undrained_ms", number(vitals.oldest_undrained_ms), "oldest_due_ms",
                 number(vitals.oldest_due_ms), "delivered", number(vitals.delivered), "failed", number(vitals.failed),
                 "retrying", number(vitals.retried), "dead", number(vitals.dead), "in_flight", number(vitals.in_flight),
                 "shards", number(vitals.shards), "lanes", number(vitals.lanes))
        .command("PEXPIRE", key, kStatusExpiresMs)
        .command("EXEC");
    return commands;
}

}  // namespace headgate
