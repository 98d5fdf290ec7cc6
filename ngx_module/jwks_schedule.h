// When a remote key set is fetched and how long it is good: pure, on whatever clock the caller has, in ms; 0 is never.
#pragma once

#include <cstdint>

namespace headgate::edge {

inline constexpr std::int64_t kKeysStaleMsMax = 24LL * 3600 * 1000;  // a set that cannot be renewed is good so long
inline constexpr std::int64_t kKidCooldownMs = 30'000;               // between fetches that unknown kids caused
inline constexpr std::int64_t kFetchDeadlineMs = 10'000;  // then another request may fetch: its worker may be dead
inline constexpr std::int64_t kRetryMs = 1'000;           // after a fetch that failed while there is no set
inline constexpr std::int64_t kRetryStaleMs = 10'000;     // ... while there is an old one

struct KeySchedule {
    std::int64_t fetched_at_ms = 0;     // the set that is there
    std::int64_t attempted_at_ms = 0;   // the last fetch that was begun
    std::int64_t kid_fetch_at_ms = 0;   // the last one for an unknown kid
    std::int64_t claimed_until_ms = 0;  // a fetch is under way until then
    bool forced = false;                // an operator asked for a new one
    bool forcing = false;               // and a fetch was begun for that, but none has succeeded since

    [[nodiscard]] bool usable(std::int64_t now_ms) const noexcept {
        return fetched_at_ms != 0 && now_ms - fetched_at_ms < kKeysStaleMsMax;
    }
    [[nodiscard]] bool in_flight(std::int64_t now_ms) const noexcept { return now_ms < claimed_until_ms; }
    // Is it time for a fetch, and nobody at it?
    [[nodiscard]] bool wants_fetch(std::int64_t now_ms, std::int64_t cache_ms) const noexcept;
    // The same because of a token whose kid is in no set.
    [[nodiscard]] bool wants_fetch_for_kid(std::int64_t now_ms) const noexcept;

    void begin(std::int64_t now_ms, bool for_kid) noexcept;
    void succeed(std::int64_t now_ms) noexcept;
    void fail() noexcept { claimed_until_ms = 0; }
    // Its client went away: no fault of the source, so the next request may try, but not without a pause.
    void abandon(std::int64_t now_ms) noexcept;
};

}  // namespace headgate::edge
