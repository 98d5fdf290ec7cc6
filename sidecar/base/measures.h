// What the parts of the sidecar count and time while they work: one set for the process, written from any thread and
// read once for each scrape (sidecar/metrics.h). Everything is a relaxed atomic: adding one costs no lock and no text.
// Labels are small fixed sets, and never an organization, a webhook or a URL.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace headgate {

using Counter = std::atomic<std::uint64_t>;

inline void add(Counter& counter, std::uint64_t n = 1) noexcept { counter.fetch_add(n, std::memory_order_relaxed); }

// Counts by upper bound, in microseconds, ascending; the last count is what is above them all.
template <std::size_t N>
class Histogram {
 public:
    explicit constexpr Histogram(const std::array<std::int64_t, N>& bounds_us) noexcept : bounds_us_(bounds_us) {}

    void observe_us(std::int64_t us) noexcept {
        std::size_t place = 0;
        while (place < N && us > bounds_us_[place]) ++place;
        add(counts_[place]);
        add(sum_us_, us > 0 ? static_cast<std::uint64_t>(us) : 0);
    }
    void observe_ms(std::int64_t ms) noexcept { observe_us(ms * 1000); }
    void observe_since(std::chrono::steady_clock::time_point began) noexcept {
        observe_us(
            std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now() - began).count());
    }

    [[nodiscard]] const std::array<std::int64_t, N>& bounds_us() const noexcept { return bounds_us_; }
    [[nodiscard]] std::uint64_t count(std::size_t place) const noexcept {
        return counts_[place].load(std::memory_order_relaxed);
    }
    [[nodiscard]] std::uint64_t sum_us() const noexcept { return sum_us_.load(std::memory_order_relaxed); }

 private:
    std::array<std::int64_t, N> bounds_us_;
    std::array<Counter, N + 1> counts_{};
    Counter sum_us_{0};
};

// A visit to the store or to Redis: 0.5 ms to 10 s.
inline constexpr std::array<std::int64_t, 14> kVisitBoundsUs = {500,       1'000,     2'500,     5'000,     10'000,
                                                                25'000,    50'000,    100'000,   250'000,   500'000,
                                                                1'000'000, 2'500'000, 5'000'000, 10'000'000};
// A request to an endpoint: 5 ms to its largest timeout.
inline constexpr std::array<std::int64_t, 13> kRequestBoundsUs = {
    5'000,     10'000,    25'000,    50'000,     100'000,    250'000,   500'000,
    1'000'000, 2'500'000, 5'000'000, 10'000'000, 30'000'000, 60'000'000};
// From 201 to 2xx: 10 ms to three days, retries included.
inline constexpr std::array<std::int64_t, 16> kDeliveryBoundsUs = {
    10'000,    25'000,     50'000,     100'000,    250'000,     500'000,       1'000'000,      2'500'000,
    5'000'000, 10'000'000, 30'000'000, 60'000'000, 600'000'000, 3'600'000'000, 43'200'000'000, 259'200'000'000};

// Why an attempt failed. What is not listed is `other`: the set stays small whatever is added elsewhere.
inline constexpr std::array<std::string_view, 10> kAttemptReasons = {
    "none",        "http_status", "timeout",         "connection_error",
    "tls_error",   "dns_error",   "blocked_address", "response_too_large",
    "interrupted", "other"};
inline constexpr std::array<std::string_view, 6> kStatusClasses = {"none", "1xx", "2xx", "3xx", "4xx", "5xx"};

// `error_type` as in AttemptRecord: empty on success, http_<status>, or the name of a failure.
[[nodiscard]] constexpr std::size_t attempt_reason(std::string_view error_type) noexcept {
    if (error_type.empty()) return 0;
    if (error_type.starts_with("http_")) return 1;
    std::size_t place = 2;
    while (place + 1 < kAttemptReasons.size() && kAttemptReasons[place] != error_type) ++place;
    return place;
}
[[nodiscard]] constexpr std::size_t status_class(int status) noexcept {
    return status >= 100 && status <= 599 ? static_cast<std::size_t>(status / 100) : 0;
}

inline constexpr std::size_t kRoutesCountedMax =
    256;  // of the API's table; what is behind them is counted with the last

struct Measures {
    // Ingest: one for each batch.
    Histogram<14> persist{kVisitBoundsUs};
    // Delivery: one for each attempt.
    std::array<std::array<Counter, kAttemptReasons.size()>, kStatusClasses.size()> attempts{};
    Counter cancelled{0}, interrupted{0};
    Histogram<13> attempt_duration{kRequestBoundsUs};
    Histogram<16> publish_to_success{kDeliveryBoundsUs};
    // The store: work on a DB thread, and its wait for the thread.
    Histogram<14> store_work{kVisitBoundsUs};
    Histogram<14> store_wait{kVisitBoundsUs};
    Counter store_errors{0};
    // Redis: each call of a client that does not block; connections made.
    Histogram<14> redis_call{kVisitBoundsUs};
    Counter redis_errors{0}, redis_connections{0};
    // The API: by place in its table of routes (the first is what matched none), and by class of status.
    std::array<std::array<Counter, kStatusClasses.size()>, kRoutesCountedMax + 1> requests{};
};

[[nodiscard]] inline Measures& measures() noexcept {
    static Measures all;
    return all;
}

}  // namespace headgate
