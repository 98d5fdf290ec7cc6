// The circuit breaker of one endpoint: a pure state machine, no clock and no I/O. Input: when requests begin and how
// they end; output: may one begin now? Next file: lane_gate.h.
//
// Closed: everything passes. It opens after kFailuresInARow failures in a row, or when half of at least
// kWindowRequestsMin requests of the last minute or so failed. Open: nothing passes for a time that doubles with each
// opening that follows another, up to kOpenMsMax. Then half-open: at most kProbes requests at a time (the caller sees
// to it); kProbes successes close it, one failure opens it again.
#pragma once

#include <cstdint>

#include "sidecar/store/rows.h"

namespace headgate {

enum class BreakerState : std::uint8_t { kClosed, kOpen, kHalfOpen };

class Breaker {
 public:
    static constexpr int kFailuresInARow = 10;
    static constexpr int kWindowRequestsMin = 20;
    static constexpr TimeMs kHalfWindowMs = 30'000;
    static constexpr int kProbes = 2;
    static constexpr TimeMs kOpenMsMin = 5'000;
    static constexpr TimeMs kOpenMsMax = 5 * 60'000;

    // Of a request: the period in which it began. What ends in a later one says nothing about that.
    using Ticket = std::uint32_t;
    enum class Verdict : std::uint8_t {
        kWorks,
        kFails,
        kUnknown,  // it was not the endpoint's doing
    };

    // `now` is of any clock that never steps back, in ms.
    [[nodiscard]] BreakerState state(TimeMs now) const noexcept;
    [[nodiscard]] TimeMs open_until() const noexcept { return open_until_; }  // of the last opening

    [[nodiscard]] Ticket began() const noexcept { return period_; }
    void ended(Ticket ticket, Verdict verdict, TimeMs now) noexcept;

 private:
    struct HalfWindow {
        std::int64_t index = 0;  // of time divided by kHalfWindowMs
        int requests = 0, failures = 0;
    };
    void open(TimeMs now) noexcept;
    void close() noexcept;
    [[nodiscard]] bool counts_as_failing(bool is_failure, TimeMs now) noexcept;

    Ticket period_ = 0;
    bool is_closed_ = true;
    TimeMs open_until_ = 0;
    TimeMs open_ms_ = 0;  // how long the last opening lasts; 0 = it has not opened since it was closed
    int probes_succeeded_ = 0;
    int failures_in_a_row_ = 0;
    HalfWindow before_, current_;
};

}  // namespace headgate
