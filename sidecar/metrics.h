// The metrics of the sidecar as text, for Prometheus. Names and labels: docs/operations.md. Pure but for the numbers of
// the process, which come from /proc. Input: measures.h and the parts' counters, read here and nowhere on a hot path.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "sidecar/api/router.h"
#include "sidecar/base/measures.h"
#include "sidecar/deliver/dispatcher.h"
#include "sidecar/ingest/ingest_groups.h"
#include "sidecar/store/store.h"
#include "sidecar/vitals.h"

namespace headgate {

struct MetricsSample {
    const Measures& measures;
    IngestTotals ingest;
    const DispatcherCounters& dispatcher;
    Vitals vitals;
    std::vector<std::pair<int, std::int64_t>> shard_entries;  // of the shards that are ours
    std::optional<Store::DeliveryCounts> deliveries;
    BreakerCounts breakers;
    std::uint64_t leases_lost = 0;
    std::span<const Route> routes;
};

inline constexpr std::string_view kMetricsContentType = "text/plain; version=0.0.4; charset=utf-8";

// In the text format 0.0.4. A number that is not known has no sample.
[[nodiscard]] std::string metrics_text(const MetricsSample& sample);

}  // namespace headgate
