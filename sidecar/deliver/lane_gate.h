// When the next request to an endpoint may begin: its webhook's rate, its circuit breaker, and what it said about being
// asked too often. Pure: no clock and no I/O. Input: when requests begin and how they end. Next files: lanes.h, which
// passes over a lane whose gate is closed; dispatcher_gates.cpp, which gives its memory back.
//
// After 429, 502 or 504 the requests in flight at a time are halved, once for all that were under way; each round of
// successes allows one more. An endpoint that is still overwhelmed by one at a time is left alone for a time that
// doubles. With one of these, or 503, Retry-After is a pause of all its requests.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>

#include "common/rate_plan.h"
#include "sidecar/deliver/breaker.h"
#include "sidecar/store/rows.h"

namespace headgate {

class LaneGate {
 public:
    static constexpr TimeMs kPauseMsMin = 1'000;
    static constexpr TimeMs kPauseMsMax = 60'000;

    struct Ticket {
        Breaker::Ticket breaker = 0;
        std::uint32_t cut = 0;
    };
    // How a request ended.
    struct End {
        int status = 0;           // 0 = no response
        bool has_failed = false;  // no usable response, by timeout, connection or name
        bool is_unknown = false;  // not the endpoint's doing: interrupted, refused by us
        std::optional<std::int64_t> retry_after_ms;
    };

    // A webhook's rate and max_in_flight. A changed webhook starts anew: whoever mends it need not wait. A rate that
    // cannot be read is none.
    void configure(const Webhook& webhook);

    // Until then another instance may have sent for the webhook: its rate counts as used up, so that the two of them
    // together stay within it. 0 = there was no other.
    void was_anothers(TimeMs until) noexcept;

    // No request begins before, whatever the endpoint may say.
    void postpone(TimeMs until) noexcept { paused_until_ = std::max(paused_until_, until); }

    // From when on a request may begin, as far as is known now; `now` or earlier = at once. Times are of one clock that
    // never steps back, in ms. Apart from that, limit() bounds how many may be in flight.
    [[nodiscard]] TimeMs free_at(TimeMs now) const noexcept;
    [[nodiscard]] int limit(TimeMs now) const noexcept;
    // How many deliveries are worth holding in memory: twice the limit, or what the rate lets go in the next second.
    [[nodiscard]] int worth_holding(TimeMs now) const noexcept;

    [[nodiscard]] Ticket began(TimeMs now) noexcept;
    void ended(Ticket ticket, const End& end, TimeMs now) noexcept;

    [[nodiscard]] BreakerState breaker(TimeMs now) const noexcept { return breaker_.state(now); }
    // Nothing would be lost if it were forgotten.
    [[nodiscard]] bool is_at_rest(TimeMs now) const noexcept;

 private:
    void use_up_rate() noexcept;
    void slow_down(Ticket ticket, TimeMs now) noexcept;
    void speed_up(Ticket ticket) noexcept;

    std::int64_t version_ = -1;
    int limit_max_ = 1;
    Breaker breaker_;
    std::optional<RateWindow> rate_;
    std::int64_t rate_tat_us_ = 0;  // GCRA's theoretical arrival time
    TimeMs anothers_until_ = 0;
    int limit_ = 1;
    int successes_ = 0;  // since the last change of limit_
    std::uint32_t cuts_ = 0;
    TimeMs pause_ms_ = 0;  // the last one without a Retry-After
    TimeMs paused_until_ = 0;
};

}  // namespace headgate
