// When the revocations are read again as a whole, and by which worker. Lies in the zone, changed under its lock; pure,
// with the time given.
//
// A resync is due when somebody wants one (a new zone, a gap in the control stream, another memory behind the same
// address), and 25 s after the last one even if nobody does: a revocation whose push was lost is in force within 30 s.
#pragma once

#include <cstdint>

namespace headgate::edge {

inline constexpr std::int64_t kResyncIntervalMs = 25'000;
inline constexpr std::int64_t kResyncClaimMs = 5'000;  // a worker that died gives it back after this
inline constexpr std::int64_t kResyncSpacingMs = 200;  // between two that are wanted
inline constexpr std::int64_t kResyncRetryMs = 500;    // after one that failed

struct ResyncSchedule {
    std::uint32_t wanted = 1;  // a new zone knows nothing
    std::uint32_t done = 0;    // `wanted` as it was when the last finished one began
    std::uint32_t began_for = 0;
    std::uint32_t gap = 0;    // `wanted` as it was when something was missed last
    std::uint32_t round = 0;  // of the one under way, or the last
    bool finished_once = false;
    std::int64_t finished_ms = 0;
    std::int64_t not_before_ms = 0;
    std::int64_t claimed_until_ms = 0;  // 0: nobody is at it

    void want() noexcept { ++wanted; }
    // The same because something was missed: until a resync that began later has finished, no other sign of life proves
    // that what is known is current.
    void want_for_gap() noexcept { gap = ++wanted; }
    [[nodiscard]] bool has_gap() const noexcept { return static_cast<std::int32_t>(done - gap) < 0; }

    [[nodiscard]] bool is_due(std::int64_t now_ms) const noexcept {
        const bool claimed = claimed_until_ms != 0 && now_ms < claimed_until_ms;
        const bool old = !finished_once || now_ms - finished_ms >= kResyncIntervalMs;
        return !claimed && now_ms >= not_before_ms && (wanted != done || old);
    }
    // True: the caller does it, as round `round`. Everything below says which round it speaks for, and is ignored
    // (false) when another worker has taken over.
    [[nodiscard]] bool claim(std::int64_t now_ms) noexcept {
        if (!is_due(now_ms)) {
            return false;
        }
        claimed_until_ms = now_ms + kResyncClaimMs;
        began_for = wanted;
        ++round;
        return true;
    }
    [[nodiscard]] bool renew(std::uint32_t of_round, std::int64_t now_ms) noexcept {
        if (of_round != round || claimed_until_ms == 0) {
            return false;
        }
        claimed_until_ms = now_ms + kResyncClaimMs;
        return true;
    }
    // Has nobody wanted another one since the one under way began? What that one did not meet may have been there when
    // it was wanted, so it proves only then that something is gone.
    [[nodiscard]] bool is_latest() const noexcept { return wanted == began_for; }
    bool finish(std::uint32_t of_round, std::int64_t now_ms) noexcept {
        if (!renew(of_round, now_ms)) {
            return false;
        }
        done = began_for;
        finished_once = true;
        finished_ms = now_ms;
        not_before_ms = now_ms + kResyncSpacingMs;
        claimed_until_ms = 0;
        return true;
    }
    bool fail(std::uint32_t of_round, std::int64_t now_ms) noexcept {
        if (!renew(of_round, now_ms)) {
            return false;
        }
        not_before_ms = now_ms + kResyncRetryMs;
        claimed_until_ms = 0;
        return true;
    }
};

}  // namespace headgate::edge
