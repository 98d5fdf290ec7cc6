// The transitions of breaker.h.
#include "sidecar/deliver/breaker.h"

#include <algorithm>

namespace headgate {

BreakerState Breaker::state(TimeMs now) const noexcept {
    if (is_closed_) {
        return BreakerState::kClosed;
    }
    return now < open_until_ ? BreakerState::kOpen : BreakerState::kHalfOpen;
}

void Breaker::ended(Ticket ticket, Verdict verdict, TimeMs now) noexcept {
    if (ticket != period_) {
        return;
    }
    if (is_closed_) {
        if (verdict != Verdict::kUnknown && counts_as_failing(verdict == Verdict::kFails, now)) {
            open(now);
        }
        return;
    }
    if (verdict == Verdict::kFails) {
        open(now);
    } else if (verdict == Verdict::kWorks && ++probes_succeeded_ >= kProbes) {
        close();
    }
}

void Breaker::open(TimeMs now) noexcept {
    open_ms_ = open_ms_ == 0 ? kOpenMsMin : std::min(open_ms_ * 2, kOpenMsMax);
    open_until_ = now + open_ms_;
    is_closed_ = false;
    probes_succeeded_ = 0;
    ++period_;
}

void Breaker::close() noexcept {
    const Ticket next = period_ + 1;
    *this = Breaker();
    period_ = next;
}

bool Breaker::counts_as_failing(bool is_failure, TimeMs now) noexcept {
    const std::int64_t index = now / kHalfWindowMs;
    if (index != current_.index) {
        before_ = index == current_.index + 1 ? current_ : HalfWindow();
        current_ = {index, 0, 0};
    }
    ++current_.requests;
    current_.failures += is_failure ? 1 : 0;
    failures_in_a_row_ = is_failure ? failures_in_a_row_ + 1 : 0;
    if (failures_in_a_row_ >= kFailuresInARow) {
        return true;
    }
    const int requests = before_.requests + current_.requests;
    const int failures = before_.failures + current_.failures;
    return is_failure && requests >= kWindowRequestsMin && failures * 2 >= requests;
}

}  // namespace headgate
