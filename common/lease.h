// A lease on one limit key: tokens that an nginx host has charged in Redis ahead of time and spends without a
// round trip. Pure functions over a state that all workers of the host share (in shared memory, changed under its
// lock); the caller sends what they ask for and tells them what came back. gcra.h has the arithmetic.
//
// Why no span of t seconds admits more than burst + rate·(t + 0.1 s), on any number of hosts:
//  - A token is spent at most 100 ms after Redis charged it: its age is counted from before the command was
//    queued, so from before the charge, and a reply later than that grants nothing. What is spent in a span was
//    therefore charged in that span or in the 100 ms before it, and Redis charges at most burst + rate·t.
//  - A return gives back what was taken less what has refilled meanwhile. The room that a held token left in the
//    window may have been refilled and taken by others, so without the discount the same tokens would be there twice.
//    What counts is how long the token was away as Redis sees it, from the take's arrival to the return's; the
//    host knows only the time until the return is queued and adds kReturnSlackUs for its way. A return that
//    is longer on its way than that, and longer than its take was, may add rate·(what is above it).
//  - A take or return is never sent twice. What is lost stays charged: charged never falls below admitted.
//
// A refusal is early by at most what other hosts hold, what was charged for replies that were lost or late, what
// the discount keeps, and the 50 ms for which a refusal is remembered.
#pragma once

#include <cstdint>
#include <span>
#include <type_traits>

#include "common/gcra.h"
#include "common/limits.h"
#include "common/rate_plan.h"

namespace headgate {

// All durations of the protocol. Tests pass others to show that each is needed.
struct LeaseRules {
    std::int64_t life_us = 100'000;          // of a token, from before its take was queued
    std::int64_t refusal_us = 50'000;        // for which a refusal is remembered, at most
    std::int64_t return_slack_us = 100'000;  // added to the age of what goes back
};
inline constexpr LeaseRules kLeaseRules;

// What one host knows of one key with one set of windows; all zeros is a key never seen. Times are µs of
// the host's monotonic clock, freshly read. It may be lost at any time: what it held stays charged.
struct LeaseState {
    static constexpr std::size_t kSpentSlots = 5;
    static constexpr std::int64_t kSpentSlotUs = 10'000;

    std::int64_t tokens = 0;           // charged in Redis and not spent
    std::int64_t taken_us = 0;         // before the take that brought them was queued
    std::int64_t asking_until_us = 0;  // a take with tokens ahead is under way; whoever sent it may have died
    std::int64_t refused_until_us = 0;
    std::int64_t refused_need = 0;                             // so many did not fit, so neither do more
    std::int64_t fits_us = 0;                                  // when they will
    std::int64_t tats[limits::kWindowsPerPlanMax] = {};        // as Redis was last seen, on this host's clock
    std::int64_t local_tats[limits::kWindowsPerPlanMax] = {};  // charged here while it was away: Redis never learns
    std::int64_t spent_slot = 0;                               // the slot of the latest spending
    std::uint32_t spent[kSpentSlots] = {};                     // by slot modulo their number
    std::uint32_t take_number = 0;                             // of the take that is under way
};
static_assert(std::is_trivially_copyable_v<LeaseState> && sizeof(LeaseState) <= 256);

// One call of the limit script. The caller keeps it until the reply, and never sends it twice.
struct LeaseTake {
    std::int64_t need = 0, ahead = 0, ret = 0, ret_age_us = 0;  // the script's arguments
    std::int64_t asked_us = 0;
    std::uint32_t number = 0;  // 0: not the host's one take with tokens ahead
};

enum class LeaseAnswer : std::uint8_t {
    kSpent,    // admitted
    kAsk,      // send `take`
    kWait,     // until the take that the same worker has under way is answered, then ask again
    kRefused,  // 429
};
struct LeaseDecision {
    LeaseAnswer answer = LeaseAnswer::kAsk;
    std::int64_t retry_us = 0;  // of kRefused
    LeaseTake take;             // of kAsk
};

// What this worker has under way for the key. One take with tokens ahead is under way for each host, and, while it is,
// at most one for just what is needed from each other worker.
struct LeaseAsker {
    std::int64_t waiting = 0;  // units for which others of this worker will wait for the same reply
    bool may_wait = false;     // a take of this worker is under way, and there is room to wait for it
};

// A request of `cost` units, 1 to the smallest burst.
[[nodiscard]] LeaseDecision lease_spend(LeaseState& state, std::span<const RateWindow> windows, std::int64_t cost,
                                        const LeaseAsker& asker, std::int64_t now_us,
                                        const LeaseRules& rules = kLeaseRules) noexcept;

enum class LeaseOutcome : std::uint8_t {
    kGranted,  // what the take needed is admitted; what it asked ahead may be spent
    kRefused,
    kLate,  // later than a token lives: charged, but nothing may be spent, as if Redis had not answered
};
// The script's reply to `take`. `states` is what it said of each window. retry_us of a refusal is corrected to now.
// kGranted counts `need` as spent.
[[nodiscard]] LeaseOutcome lease_on_reply(LeaseState& state, const LeaseTake& take, LimitDecision& decision,
                                          std::span<const WindowState> states, std::int64_t now_us,
                                          const LeaseRules& rules = kLeaseRules) noexcept;
// What a reply said of each window, where nothing is held: for lease_charge_local().
void lease_remember(LeaseState& state, std::span<const WindowState> states, std::int64_t now_us) noexcept;
// There will be no reply, or none that can be read. What was asked for may have been charged: it is given up.
void lease_on_lost(LeaseState& state, const LeaseTake& take) noexcept;

// Tokens too old to be spent. need is 0; ret is 0 when nothing is worth returning. Called when a take's
// tokens expire, at asked_us + life_us.
[[nodiscard]] LeaseTake lease_due_return(LeaseState& state, std::span<const RateWindow> windows, std::int64_t now_us,
                                         const LeaseRules& rules = kLeaseRules) noexcept;

// What the windows hold for this host's clients: as Redis last said, refilled since, with what the lease holds.
void lease_window_states(const LeaseState& state, std::span<const RateWindow> windows, std::int64_t now_us,
                         std::span<WindowState> states) noexcept;

// The limit of this host alone, while Redis is away: goes on from what Redis was last seen to have charged, and admits
// at most burst + rate·t, however often Redis comes and goes: what was charged here stays charged.
[[nodiscard]] LimitDecision lease_charge_local(LeaseState& state, std::span<const RateWindow> windows,
                                               std::int64_t cost, std::int64_t now_us,
                                               std::span<WindowState> states) noexcept;

}  // namespace headgate
