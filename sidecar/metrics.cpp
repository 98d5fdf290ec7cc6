// The families of metrics.h, written by prometheus-cpp's serializer.
#include "sidecar/metrics.h"

#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "common/version.h"

namespace headgate {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;
using Labels = std::vector<ClientMetric::Label>;

std::uint64_t value_of(const Counter& counter) { return counter.load(std::memory_order_relaxed); }

class Families {
 public:
    MetricFamily& begin(MetricType type, std::string name, std::string help) {
        families_.push_back({std::move(name), std::move(help), type, {}});
        return families_.back();
    }
    void counter(std::string name, std::string help, double value) {
        sample(begin(MetricType::Counter, std::move(name), std::move(help)), value);
    }
    void gauge(std::string name, std::string help, double value) {
        sample(begin(MetricType::Gauge, std::move(name), std::move(help)), value);
    }
    static void sample(MetricFamily& family, double value, Labels labels = {}) {
        ClientMetric metric;
        metric.label = std::move(labels);
        (family.type == MetricType::Counter ? metric.counter.value : metric.gauge.value) = value;
        family.metric.push_back(std::move(metric));
    }
    template <std::size_t N>
    void histogram(std::string name, std::string help, const Histogram<N>& histogram) {
        ClientMetric metric;
        std::uint64_t seen = 0;
        for (std::size_t place = 0; place < N; ++place) {
            seen += histogram.count(place);
            metric.histogram.bucket.push_back({seen, static_cast<double>(histogram.bounds_us()[place]) / 1e6});
        }
        // Not a counter of its own: it could be ahead of the buckets, and buckets must not exceed it.
        metric.histogram.sample_count = seen + histogram.count(N);
        metric.histogram.sample_sum = static_cast<double>(histogram.sum_us()) / 1e6;
        begin(MetricType::Histogram, std::move(name), std::move(help)).metric.push_back(std::move(metric));
    }
    [[nodiscard]] std::string text() {
        // A family without samples is nothing that a scraper expects.
        std::erase_if(families_, [](const MetricFamily& family) { return family.metric.empty(); });
        std::ostringstream out;
        prometheus::TextSerializer().Serialize(out, families_);
        return out.str();
    }

 private:
    std::vector<MetricFamily> families_;
};

double seconds(std::int64_t ms) { return static_cast<double>(ms) / 1000; }

void add_ingest(Families& all, const MetricsSample& sample) {
    const IngestTotals& ingest = sample.ingest;
    all.gauge("headgate_oldest_undrained_seconds", "Age of the oldest event that is in Redis and not yet in the store.",
              seconds(sample.vitals.oldest_undrained_ms));
    all.counter("headgate_events_drained_total", "Events taken from the streams and stored.",
                static_cast<double>(ingest.drained));
    all.counter("headgate_ingest_batches_total", "Batches of events that were tried to be stored.",
                static_cast<double>(ingest.batches));
    all.counter("headgate_ingest_duplicates_total", "Entries whose event was stored already.",
                static_cast<double>(ingest.duplicates));
    all.counter("headgate_ingest_quarantined_total", "Entries that could not be read or stored and were put aside.",
                static_cast<double>(ingest.quarantined));
    all.counter("headgate_ingest_persist_errors_total", "Batches that the store did not take.",
                static_cast<double>(ingest.persist_errors));
    all.histogram("headgate_ingest_persist_seconds", "Time to store one batch, the wait for the thread included.",
                  sample.measures.persist);
    auto& lag = all.begin(MetricType::Gauge, "headgate_shard_entries",
                          "Entries of a shard's stream that are not yet acknowledged, of the shards owned here.");
    for (const auto& [shard, entries] : sample.shard_entries)
        Families::sample(lag, static_cast<double>(entries), {{"shard", std::to_string(shard)}});
}

void add_attempts(Families& all, const Measures& measures) {
    auto& attempts = all.begin(MetricType::Counter, "headgate_attempts_total",
                               "Delivery attempts by the class of the endpoint's status and why they failed.");
    for (std::size_t status = 0; status < kStatusClasses.size(); ++status) {
        for (std::size_t reason = 0; reason < kAttemptReasons.size(); ++reason) {
            // Not all pairs can be; a success is always there, so that a ratio has its divisor.
            const std::uint64_t count = value_of(measures.attempts[status][reason]);
            if (count == 0 && (kStatusClasses[status] != "2xx" || reason != 0)) continue;
            Families::sample(attempts, static_cast<double>(count),
                             {{"status_class", std::string(kStatusClasses[status])},
                              {"reason", std::string(kAttemptReasons[reason])}});
        }
    }
    all.histogram("headgate_attempt_duration_seconds", "Time of one attempt, from its start to the response's end.",
                  measures.attempt_duration);
    all.histogram("headgate_publish_to_delivery_seconds", "Time from the edge's acceptance of an event to a 2xx.",
                  measures.publish_to_success);
}

void add_deliveries(Families& all, const MetricsSample& sample) {
    const DispatcherCounters& sent = sample.dispatcher;
    all.gauge("headgate_oldest_due_seconds",
              "How long the oldest delivery has been due that is free to start and has not been started.",
              seconds(sample.vitals.oldest_due_ms));
    auto& outcomes = all.begin(MetricType::Counter, "headgate_deliveries_total",
                               "What deliveries came to after an attempt. retry and interrupted are not the end.");
    const std::pair<const char*, double> counts[] = {
        {"success", static_cast<double>(sent.delivered.load())},
        {"retry", static_cast<double>(sent.retried.load())},
        {"dead", static_cast<double>(sent.dead.load())},
        {"cancelled", static_cast<double>(value_of(sample.measures.cancelled))},
        {"interrupted", static_cast<double>(value_of(sample.measures.interrupted))}};
    for (const auto& [outcome, count] : counts) Families::sample(outcomes, count, {{"outcome", outcome}});
    add_attempts(all, sample.measures);
    all.gauge("headgate_deliveries_in_flight", "Requests to endpoints that are under way.",
              static_cast<double>(sent.in_flight.load()));
    all.gauge("headgate_deliveries_in_memory", "Deliveries held in memory, in flight or next.",
              static_cast<double>(sent.in_memory.load()));
    auto& stored = all.begin(MetricType::Gauge, "headgate_deliveries_stored",
                             "Deliveries in the store by state, of all instances. Not counted: those that succeeded.");
    if (sample.deliveries) {
        const std::pair<const char*, std::int64_t> states[] = {{"due", sample.deliveries->due},
                                                               {"retrying", sample.deliveries->later},
                                                               {"in_flight", sample.deliveries->in_flight},
                                                               {"blocked", sample.deliveries->blocked},
                                                               {"dead", sample.deliveries->dead}};
        for (const auto& [state, count] : states)
            Families::sample(stored, static_cast<double>(count), {{"state", state}});
    }
    auto& breakers = all.begin(MetricType::Gauge, "headgate_breakers", "Circuit breakers of webhooks by state.");
    Families::sample(breakers, static_cast<double>(sample.breakers.closed), {{"state", "closed"}});
    Families::sample(breakers, static_cast<double>(sample.breakers.open), {{"state", "open"}});
    Families::sample(breakers, static_cast<double>(sample.breakers.half_open), {{"state", "half_open"}});
}

void add_parts_and_backends(Families& all, const MetricsSample& sample) {
    const Vitals& vitals = sample.vitals;
    const Measures& measures = sample.measures;
    all.gauge("headgate_owned_shards", "Shards that this instance reads.", vitals.shards);
    all.gauge("headgate_owned_lanes", "Lanes that this instance sends for.", vitals.lanes);
    all.counter("headgate_leases_lost_total", "Shards and lanes that were lost without being given up.",
                static_cast<double>(sample.leases_lost));
    all.gauge("headgate_keys_projected", "1 when API keys and revocations have been written to Redis, else 0.",
              vitals.is_projected ? 1 : 0);
    all.gauge("headgate_redis_silent_seconds", "Time since Redis last did what it was asked.",
              seconds(vitals.redis_silent_ms));
    all.counter("headgate_redis_connections_total", "Connections begun to Redis; all but the first few are reconnects.",
                static_cast<double>(value_of(measures.redis_connections)));
    all.counter("headgate_redis_errors_total", "Calls to Redis that got no reply.",
                static_cast<double>(value_of(measures.redis_errors)));
    all.histogram("headgate_redis_call_seconds", "Time of a call to Redis; reads that wait for entries are left out.",
                  measures.redis_call);
    all.gauge("headgate_store_silent_seconds", "Time since the store could last be read and written.",
              seconds(vitals.store_silent_ms));
    all.counter("headgate_store_errors_total", "Pieces of work that the store refused or failed.",
                static_cast<double>(value_of(measures.store_errors)));
    all.histogram("headgate_store_work_seconds",
                  "Time of one piece of work on a store's thread, most often a transaction.", measures.store_work);
    all.histogram("headgate_store_wait_seconds", "Time that a piece of work waited for the store's thread.",
                  measures.store_wait);
}

void add_requests(Families& all, const MetricsSample& sample) {
    auto& requests = all.begin(MetricType::Counter, "headgate_api_requests_total",
                               "Requests to the management API by route and class of status.");
    for (std::size_t place = 0; place < sample.measures.requests.size(); ++place) {
        std::string route = "none", method = "none";
        if (place > 0) {
            if (place > sample.routes.size()) break;
            route = sample.routes[place - 1].pattern;
            method = sample.routes[place - 1].method;
        }
        for (std::size_t status = 0; status < kStatusClasses.size(); ++status) {
            const std::uint64_t count = value_of(sample.measures.requests[place][status]);
            if (count == 0) continue;
            Families::sample(
                requests, static_cast<double>(count),
                {{"method", method}, {"route", route}, {"status_class", std::string(kStatusClasses[status])}});
        }
    }
}

// As Prometheus' own client libraries name them.
void add_process(Families& all, const Vitals& vitals) {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    auto of = [](const timeval& time) {
        return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
    };
    all.counter("process_cpu_seconds_total", "User and system CPU time.", of(usage.ru_utime) + of(usage.ru_stime));
    std::int64_t pages = 0, resident = 0;
    std::ifstream("/proc/self/statm") >> pages >> resident;
    const auto page = static_cast<double>(sysconf(_SC_PAGESIZE));
    all.gauge("process_virtual_memory_bytes", "Virtual memory.", static_cast<double>(pages) * page);
    all.gauge("process_resident_memory_bytes", "Resident memory.", static_cast<double>(resident) * page);
    std::error_code ec;
    std::int64_t open_files = 0;
    for (std::filesystem::directory_iterator entry("/proc/self/fd", ec), end; !ec && entry != end; entry.increment(ec))
        ++open_files;
    // One of them is the directory itself.
    if (open_files > 0) all.gauge("process_open_fds", "Open file descriptors.", static_cast<double>(open_files - 1));
    rlimit files{};
    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur != RLIM_INFINITY)
        all.gauge("process_max_fds", "Bound of open file descriptors.", static_cast<double>(files.rlim_cur));
    all.gauge("headgate_uptime_seconds", "Time since the start.", seconds(vitals.uptime_ms));
    auto& build = all.begin(MetricType::Gauge, "headgate_build_info", "1, with the version as its label.");
    Families::sample(build, 1, {{"version", HEADGATE_VERSION}});
}

}  // namespace

std::string metrics_text(const MetricsSample& sample) {
    Families all;
    add_ingest(all, sample);
    add_deliveries(all, sample);
    add_parts_and_backends(all, sample);
    add_requests(all, sample);
    add_process(all, sample.vitals);
    return all.text();
}

}  // namespace headgate
