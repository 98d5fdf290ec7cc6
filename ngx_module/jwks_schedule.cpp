// See jwks_schedule.h.
#include "ngx_module/jwks_schedule.h"

#include <algorithm>

namespace headgate::edge {

bool KeySchedule::wants_fetch(std::int64_t now_ms, std::int64_t cache_ms) const noexcept {
    if (in_flight(now_ms)) {
        return false;
    }
    if (fetched_at_ms != 0 && now_ms - fetched_at_ms < cache_ms && !forced && !forcing) {
        return false;
    }
    // The last fetch succeeded, or it failed some time ago.
    return attempted_at_ms <= fetched_at_ms || now_ms - attempted_at_ms >= (usable(now_ms) ? kRetryStaleMs : kRetryMs);
}

bool KeySchedule::wants_fetch_for_kid(std::int64_t now_ms) const noexcept {
    return !in_flight(now_ms) && (kid_fetch_at_ms == 0 || now_ms - kid_fetch_at_ms >= kKidCooldownMs);
}

void KeySchedule::begin(std::int64_t now_ms, bool for_kid) noexcept {
    attempted_at_ms = now_ms;
    claimed_until_ms = now_ms + kFetchDeadlineMs;
    forcing = forcing || forced;
    forced = false;
    if (for_kid) {
        kid_fetch_at_ms = now_ms;
    }
}

void KeySchedule::succeed(std::int64_t now_ms) noexcept {
    fetched_at_ms = now_ms;
    forcing = false;
    claimed_until_ms = 0;
}

void KeySchedule::abandon(std::int64_t now_ms) noexcept {
    claimed_until_ms = 0;
    attempted_at_ms = std::min(attempted_at_ms, now_ms - (usable(now_ms) ? kRetryStaleMs : kRetryMs) + kRetryMs);
    kid_fetch_at_ms = std::min(kid_fetch_at_ms, now_ms - kKidCooldownMs + kRetryMs);
}

}  // namespace headgate::edge
