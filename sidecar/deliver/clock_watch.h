// Tells when the wall clock was set: it has gone another way than the steady one. A machine that slept looks like a
// clock that was set forward. Pure.
#pragma once

#include <optional>

#include "sidecar/store/rows.h"

namespace headgate {

// Less is corrected by waiting, and is within what clocks of several machines differ by.
inline constexpr TimeMs kClockStepMs = 60'000;

class ClockWatch {
 public:
    // By how much since the last call, when that is a step: negative, it was set back. Both in ms.
    std::optional<TimeMs> step(TimeMs wall, TimeMs steady) noexcept {
        const TimeMs ahead = wall - steady;
        const TimeMs step = ahead - ahead_.value_or(ahead);
        ahead_ = ahead;
        return step >= kClockStepMs || step <= -kClockStepMs ? std::optional(step) : std::nullopt;
    }

 private:
    std::optional<TimeMs> ahead_;
};

}  // namespace headgate
