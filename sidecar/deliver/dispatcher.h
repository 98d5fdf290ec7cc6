// Stage 3: deliveries -> endpoints -> store. Holds at most 2 x max_in_flight deliveries of a webhook
// in memory; the rest waits in SQL. Next files: lanes.h (whose turn), memory_quota.h (how much is
// held), body.h, delivery_headers.h, http_client.h, retry_policy.h.
//
// The executor is one event loop on one thread. Results are written in groups: while one transaction runs, the
// next one's are gathered. A result that cannot be written is kept and written again; nothing new is
// sent while too many wait.
#pragma once

#include <atomic>
#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "sidecar/deliver/http_client.h"
#include "sidecar/deliver/target_guard.h"
#include "sidecar/ingest/ingest.h"
#include "sidecar/io/db_executor.h"
#include "sidecar/store/owned_parts.h"

namespace headgate {

struct DispatcherOptions {
    int max_in_flight = 256;  // of the process
    OwnedPartsPtr owned;      // the lanes to send for, until follow() says otherwise
    TargetGuardOptions guard;
    HttpClientOptions http;
    std::string user_agent = "Headgate";
    // Called on the event loop when results were written from which an operational event may have come.
    std::function<void()> on_final_failure;
};

struct DispatcherCounters {
    std::atomic<std::uint64_t> delivered{0}, failed{0}, retried{0}, dead{0}, attempts{0}, blocked{0};
    std::atomic<std::uint64_t> late{0};  // results that were not written: their lane had changed hands
    std::atomic<std::int64_t> in_flight{0}, in_memory{0};
    std::atomic<std::int64_t> refused_since_ms{0};  // of the visits to the store, as of IngestCounters
    // Publish-to-2xx latency of the last delivery, ms.
    std::atomic<std::int64_t> last_latency_ms{0};
};

struct BreakerCounts {
    int closed = 0, open = 0, half_open = 0;
};

class Dispatcher : public DeliverySink {
 public:
    Dispatcher(boost::asio::any_io_executor executor, DbExecutor& db, DispatcherOptions options);
    ~Dispatcher() override;

    bool reserve(std::string_view webhook_id) override;
    void release(std::string_view webhook_id) override;
    void accept(std::vector<ClaimedDelivery> claimed, std::size_t unclaimed) override;

    // Recovers what the lanes' last owners left in flight, and sends, until stop(). Never throws.
    boost::asio::awaitable<void> run();
    // Graceful: starts nothing new, waits up to `grace` for what is in flight, records the rest as
    // interrupted (no retry used up), flushes every result to the store.
    boost::asio::awaitable<void> stop(std::chrono::milliseconds grace);
    // The lanes to send for from here on. Those gained are recovered first. Of those that leave, what waits in memory
    // goes back into the store; of those lost it is forgotten: the new owner recovers it. Requests in flight
    // end as they do, and count if their lane was held all the time.
    void follow(OwnedPartsPtr owned);
    // There is something new in the store that is due: looked for at once, and not with the next poll.
    void look();
    // Is there anything in memory of this lane that is still to be written?
    [[nodiscard]] bool is_lane_in_use(int lane) const;
    // A webhook or organization changed: its target is read again before the next attempt. Any thread.
    void invalidate(std::string_view webhook_id);
    // Of the owned lanes' webhooks that have been sent something lately. Event loop only, as is the next one.
    [[nodiscard]] BreakerCounts breaker_counts() const;
    // Webhooks of which nothing may be begun now: at their bound of requests, over their rate, throttled, or with a
    // breaker that is not closed. What of theirs is due waits rightly.
    [[nodiscard]] std::vector<std::string> held_back() const;
    [[nodiscard]] const DispatcherCounters& counters() const;
    // For the test button: the same guard, bounds and connections.
    [[nodiscard]] HttpClient& http_client();

 private:
    struct Impl;
    std::shared_ptr<Impl> impl_;
};

}  // namespace headgate
