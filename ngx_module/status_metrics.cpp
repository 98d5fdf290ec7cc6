// headgate_status for Prometheus. The two formats differ in what a family is called (OpenMetrics leaves a counter's
// `_total` and an info's `_info` to the sample) and in the end mark.
#include "common/limits.h"
#include "common/version.h"
#include "ngx_module/status_snapshot.h"

namespace headgate::edge {

namespace {

constexpr std::string_view kPrefix = "headgate_edge_";

class MetricsWriter {
 public:
    MetricsWriter(std::string& out, MetricsFormat format) : out_(out), format_(format) {}

    void family(std::string_view metric, std::string_view type, std::string_view help) {
        std::string_view name = metric;
        if (format_ == MetricsFormat::kOpenMetrics && (type == "counter" || type == "info")) {
            name = name.substr(0, name.rfind('_'));
        }
        if (format_ == MetricsFormat::kPrometheus && type == "info") {
            type = "gauge";
        }
        line("# HELP ", name, help);
        line("# TYPE ", name, type);
    }
    // `label` is a static word, `value` one of our own words or the version: nothing in them needs an escape.
    void sample(std::string_view metric, ngx_atomic_uint_t number, std::string_view label = {},
                std::string_view value = {}) {
        out_.append(kPrefix).append(metric);
        if (!label.empty()) {
            out_.append("{").append(label).append("=\"").append(value).append("\"}");
        }
        out_.append(" ").append(std::to_string(number)).append("\n");
    }
    void end() {
        if (format_ == MetricsFormat::kOpenMetrics) {
            out_.append("# EOF\n");
        }
    }

 private:
    void line(std::string_view start, std::string_view name, std::string_view text) {
        out_.append(start).append(kPrefix).append(name).append(" ").append(text).append("\n");
    }

    std::string& out_;
    MetricsFormat format_;
};

void write_refused(MetricsWriter& writer, const CounterValues& counters) {
    constexpr std::string_view kMetric = "requests_refused_total";
    writer.family(kMetric, "counter", "Requests refused by authentication, by the reason of $headgate_auth_status.");
    for (std::size_t i = 0; i < kAuthStatusCount; ++i) {
        // Every reason from the first scrape on: a rate needs the zero before the first one.
        const auto status = static_cast<AuthStatus>(i);
        if (const std::string_view name = auth_status_name(status); !name.empty() && status != AuthStatus::kOk) {
            writer.sample(kMetric, counters.refused[i], "reason", name);
        }
    }
}

void write_connections(MetricsWriter& writer, const StatusSnapshot& snapshot) {
    constexpr std::string_view kMetric = "redis_connections";
    writer.family(kMetric, "gauge", "Connections of all workers to Redis, by their state.");
    const auto in = [&](RedisState state) { return snapshot.redis_states[static_cast<std::size_t>(state)]; };
    writer.sample(kMetric, in(RedisState::kReady), "state", "ready");
    writer.sample(kMetric, in(RedisState::kConnecting) + in(RedisState::kHandshake), "state", "connecting");
    writer.sample(kMetric, in(RedisState::kBackoff), "state", "backoff");
    writer.sample(kMetric, in(RedisState::kIdle), "state", "idle");
}

}  // namespace

std::string status_metrics(const StatusSnapshot& snapshot, MetricsFormat format) {
    std::string out;
    MetricsWriter writer(out, format);
    writer.family("build_info", "info", "The version of the module.");
    writer.sample("build_info", 1, "version", HEADGATE_VERSION);
    writer.family("contract_version", "gauge", "The version of what the module and the sidecar keep in Redis.");
    writer.sample("contract_version", limits::kContractVersion);
    writer.family("uptime_seconds", "gauge", "Seconds since the shared zone was made; a reload keeps it.");
    writer.sample("uptime_seconds", snapshot.uptime_ms / 1000);
    writer.family("worker_processes", "gauge", "Workers that live, those that are quitting included.");
    writer.sample("worker_processes", snapshot.workers);
    for (const StatusRow& row : status_rows()) {
        writer.family(row.metric, row.is_counter() ? "counter" : "gauge", row.help);
        writer.sample(row.metric, row.value(snapshot));
    }
    write_refused(writer, snapshot.counters);
    write_connections(writer, snapshot);
    writer.end();
    return out;
}

}  // namespace headgate::edge
