// What lane_gate.h declares.
#include "sidecar/deliver/lane_gate.h"

#include <algorithm>
#include <span>

#include "common/gcra.h"
#include "common/limits.h"

namespace headgate {

namespace {

constexpr int kBadGateway = 502;
constexpr int kServiceUnavailable = 503;
constexpr int kGatewayTimeout = 504;
constexpr int kTooManyRequests = 429;
constexpr std::int64_t kUsPerMs = 1'000;
constexpr std::int64_t kUsPerSecond = 1'000'000;
// A breaker that has been half-open for so long, with nothing to send, is forgotten.
constexpr TimeMs kForgottenAfterMs = 10 * 60'000;

LimitDecision charge(const RateWindow& rate, std::int64_t& tat_us, TimeMs now, WindowState& state) noexcept {
    return gcra_charge(std::span(&rate, 1), std::span(&tat_us, 1), now * kUsPerMs, 1, 0, 0, 0, std::span(&state, 1));
}

bool is_overload(int status) noexcept {
    return status == kTooManyRequests || status == kBadGateway || status == kGatewayTimeout;
}

}  // namespace

void LaneGate::configure(const Webhook& webhook) {
    if (webhook.version == version_) {
        return;
    }
    const std::int64_t tat_us = rate_tat_us_;
    const auto rate_before = rate_;
    const TimeMs anothers_until = anothers_until_;
    *this = LaneGate();
    anothers_until_ = anothers_until;
    version_ = webhook.version;
    limit_ = limit_max_ = std::max(webhook.max_in_flight, 1);
    if (!webhook.rate.empty()) {
        if (auto rate = parse_rate_window(webhook.rate)) {
            rate_ = *rate;
        }
    }
    // What was sent still counts, unless it is counted otherwise now.
    rate_tat_us_ = rate_ == rate_before ? tat_us : 0;
    use_up_rate();
}

void LaneGate::was_anothers(TimeMs until) noexcept {
    anothers_until_ = until;
    use_up_rate();
}

void LaneGate::use_up_rate() noexcept {
    if (rate_ && anothers_until_ != 0) {
        rate_tat_us_ = std::max(rate_tat_us_, anothers_until_ * kUsPerMs + gcra_cost_us(*rate_, rate_->burst));
    }
}

TimeMs LaneGate::free_at(TimeMs now) const noexcept {
    TimeMs at = std::max(now, paused_until_);
    if (breaker_.state(now) == BreakerState::kOpen) {
        at = std::max(at, breaker_.open_until());
    }
    if (rate_) {
        std::int64_t tat_us = rate_tat_us_;
        WindowState state;
        const LimitDecision decision = charge(*rate_, tat_us, now, state);
        if (decision.granted == 0) {
            at = std::max(at, now + (std::max<std::int64_t>(decision.retry_us, 0) + kUsPerMs - 1) / kUsPerMs);
        }
    }
    return at;
}

int LaneGate::limit(TimeMs now) const noexcept {
    return breaker_.state(now) == BreakerState::kHalfOpen ? std::min(limit_, Breaker::kProbes) : limit_;
}

int LaneGate::worth_holding(TimeMs now) const noexcept {
    int worth = breaker_.state(now) == BreakerState::kHalfOpen ? limit(now) : 2 * limit_;
    if (rate_) {
        std::int64_t tat_us = rate_tat_us_;
        WindowState state;
        const LimitDecision decision = charge(*rate_, tat_us, now, state);
        const std::int64_t each_us = std::max<std::int64_t>(gcra_cost_us(*rate_, 1), 1);
        worth = static_cast<int>(std::min<std::int64_t>(worth, decision.granted + state.free + kUsPerSecond / each_us));
    }
    return std::max(worth, 1);
}

LaneGate::Ticket LaneGate::began(TimeMs now) noexcept {
    if (rate_) {
        WindowState state;
        charge(*rate_, rate_tat_us_, now, state);
    }
    return {breaker_.began(), cuts_};
}

void LaneGate::ended(Ticket ticket, const End& end, TimeMs now) noexcept {
    const bool is_broken = end.has_failed || end.status >= 500;
    breaker_.ended(ticket.breaker,
                   end.is_unknown ? Breaker::Verdict::kUnknown
                   : is_broken    ? Breaker::Verdict::kFails
                                  : Breaker::Verdict::kWorks,
                   now);
    if (end.is_unknown) {
        return;
    }
    const bool has_too_much = !end.has_failed && is_overload(end.status);
    if (end.retry_after_ms && (has_too_much || (!end.has_failed && end.status == kServiceUnavailable))) {
        paused_until_ =
            std::max(paused_until_, now + std::clamp<std::int64_t>(*end.retry_after_ms, 0, limits::kRetryAfterMsMax));
    }
    if (has_too_much) {
        slow_down(ticket, now);
    } else if (!is_broken) {
        speed_up(ticket);
    }
}

void LaneGate::slow_down(Ticket ticket, TimeMs now) noexcept {
    if (ticket.cut != cuts_) {
        return;  // it began before the last cut, and says no more than that one's cause
    }
    ++cuts_;
    successes_ = 0;
    if (limit_ > 1) {
        limit_ = std::max(limit_ / 2, 1);
        return;
    }
    pause_ms_ = pause_ms_ == 0 ? kPauseMsMin : std::min(pause_ms_ * 2, kPauseMsMax);
    paused_until_ = std::max(paused_until_, now + pause_ms_);
}

void LaneGate::speed_up(Ticket ticket) noexcept {
    if (ticket.cut != cuts_) {
        return;
    }
    pause_ms_ = 0;
    if (limit_ < limit_max_ && ++successes_ >= limit_) {
        ++limit_;
        successes_ = 0;
    }
}

bool LaneGate::is_at_rest(TimeMs now) const noexcept {
    const bool is_shut =
        breaker_.state(now) == BreakerState::kOpen ||
        (breaker_.state(now) == BreakerState::kHalfOpen && now - breaker_.open_until() < kForgottenAfterMs);
    return !is_shut && paused_until_ <= now && rate_tat_us_ <= now * kUsPerMs && pause_ms_ == 0;
}

}  // namespace headgate
