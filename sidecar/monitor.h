// Watches the sidecar while it runs and tells others: asks the store and the streams in short turns, publishes the
// status hash, and answers what /health and /metrics ask. Input: the parts' counters. Next files: vitals.h, metrics.h.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "sidecar/io/db_executor.h"
#include "sidecar/io/http_server.h"
#include "sidecar/io/redis_link.h"
#include "sidecar/metrics.h"
#include "sidecar/store/owned_parts.h"
#include "sidecar/vitals.h"

namespace headgate {

struct MonitorOptions {
    std::string key_prefix = "headgate:";
    int shards = 8;
    std::string listen;  // of the scrapers' own server; empty: none
};

// What the monitor asks of the other parts, on the event loop.
struct MonitorSources {
    std::function<Vitals()> vitals;  // but for what the store and the streams are asked for here
    std::function<OwnedPartsPtr()> owned;
    std::function<std::vector<std::string>()> held_back;  // webhooks whose due deliveries may not start
    std::function<BreakerCounts()> breakers;
    std::function<IngestTotals()> ingest;
    const DispatcherCounters& dispatcher;
};

class Monitor {
 public:
    Monitor(boost::asio::any_io_executor executor, DbExecutor& writer, DbExecutor& reader, RedisLink& events,
            MonitorOptions options, MonitorSources sources);
    ~Monitor();

    // Binds the scrapers' address, if there is one.
    Result<void> listen();
    // Each runs until stop(), and never throws.
    boost::asio::awaitable<void> watch_store();
    boost::asio::awaitable<void> watch_deliveries();
    boost::asio::awaitable<void> watch_shards();
    boost::asio::awaitable<void> publish_status();
    boost::asio::awaitable<void> serve();
    void stop();
    // After stop(): until the scrapers' connections are closed, or `grace` has passed.
    boost::asio::awaitable<void> drain(std::chrono::milliseconds grace);

    [[nodiscard]] Vitals vitals() const;
    [[nodiscard]] std::string metrics() const;

 private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace headgate
