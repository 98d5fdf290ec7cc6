// Input: a key's lease, a cost and the time. Output: spent, refused, or what to ask Redis. Next: limit_lease
// (at the edge), which holds the states and sends the takes.
#include "common/lease.h"

#include <algorithm>
#include <array>
#include <utility>

namespace headgate {

namespace {

using Tats = std::array<std::int64_t, limits::kWindowsPerPlanMax>;

// Empties the slots that have passed since the latest spending, so that all that stand are of the last 50 ms.
void advance_spent(LeaseState& state, std::int64_t now_us) noexcept {
    const std::int64_t slot = now_us / LeaseState::kSpentSlotUs;
    const std::int64_t passed = slot - state.spent_slot;
    if (passed <= 0) {
        return;  // also when the other worker read the clock a little later
    }
    if (passed >= static_cast<std::int64_t>(LeaseState::kSpentSlots)) {
        std::fill(std::begin(state.spent), std::end(state.spent), 0);
    } else {
        for (std::int64_t i = state.spent_slot + 1; i <= slot; ++i) {
            state.spent[static_cast<std::size_t>(i) % LeaseState::kSpentSlots] = 0;
        }
    }
    state.spent_slot = slot;
}

void add_spent(LeaseState& state, std::int64_t cost, std::int64_t now_us) noexcept {
    advance_spent(state, now_us);
    std::uint32_t& spent = state.spent[static_cast<std::size_t>(state.spent_slot) % LeaseState::kSpentSlots];
    spent = static_cast<std::uint32_t>(std::min<std::int64_t>(UINT32_MAX, spent + cost));
}

std::int64_t recently_spent(LeaseState& state, std::int64_t now_us) noexcept {
    advance_spent(state, now_us);
    std::int64_t sum = 0;
    for (const std::uint32_t spent : state.spent) {
        sum += spent;
    }
    return sum;
}

// Moves what is held into `take`, unless the discount would keep it in every window.
void take_back(LeaseState& state, std::span<const RateWindow> windows, std::int64_t now_us, LeaseTake& take,
               const LeaseRules& rules) noexcept {
    const std::int64_t tokens = std::exchange(state.tokens, 0);
    const std::int64_t age_us = now_us - state.taken_us + rules.return_slack_us;
    if (tokens > 0 && std::any_of(windows.begin(), windows.end(), [&](const RateWindow& window) {
            return gcra_cost_us(window, std::min(tokens, window.burst)) > age_us;
        })) {
        take.ret = tokens;
        take.ret_age_us = age_us;
    }
}

}  // namespace

LeaseDecision lease_spend(LeaseState& state, std::span<const RateWindow> windows, std::int64_t cost,
                          const LeaseAsker& asker, std::int64_t now_us, const LeaseRules& rules) noexcept {
    LeaseDecision decision;
    if (state.tokens >= cost && now_us - state.taken_us <= rules.life_us) {
        state.tokens -= cost;
        add_spent(state, cost, now_us);
        decision.answer = LeaseAnswer::kSpent;
        return decision;
    }
    if (now_us < state.refused_until_us && cost >= state.refused_need) {
        decision.answer = LeaseAnswer::kRefused;
        decision.retry_us = state.fits_us - now_us;
        return decision;
    }
    if (asker.may_wait) {
        decision.answer = LeaseAnswer::kWait;
        return decision;
    }
    LeaseTake& take = decision.take;
    take.need = cost;
    take.ahead = asker.waiting;
    take.asked_us = now_us;
    if (now_us < state.asking_until_us) {
        return decision;
    }
    take_back(state, windows, now_us, take, rules);
    if (const std::int64_t spent = recently_spent(state, now_us); spent > 1) {
        take.ahead += spent;
    }
    state.take_number += state.take_number == UINT32_MAX ? 2 : 1;
    take.number = state.take_number;
    state.asking_until_us = now_us + rules.life_us;
    return decision;
}

LeaseOutcome lease_on_reply(LeaseState& state, const LeaseTake& take, LimitDecision& decision,
                            std::span<const WindowState> states, std::int64_t now_us,
                            const LeaseRules& rules) noexcept {
    lease_on_lost(state, take);
    lease_remember(state, states, now_us);
    const bool late = now_us - take.asked_us > rules.life_us;
    if (decision.granted == 0) {
        if (!late && take.need > 0) {
            state.refused_until_us = now_us + std::clamp<std::int64_t>(decision.retry_us, 0, rules.refusal_us);
            state.refused_need = take.need;
            state.fits_us = now_us + decision.retry_us;
        }
        return LeaseOutcome::kRefused;
    }
    if (late) {
        return LeaseOutcome::kLate;
    }
    state.refused_until_us = 0;
    add_spent(state, take.need, now_us);
    if (const std::int64_t ahead = decision.granted - take.need; ahead > 0) {
        // What is still held is younger than a token lives, or it is given up: it must not make these older.
        const bool joins = state.tokens > 0 && now_us - state.taken_us <= rules.life_us;
        state.taken_us = joins ? std::min(state.taken_us, take.asked_us) : take.asked_us;
        state.tokens = ahead + (joins ? state.tokens : 0);
    }
    return LeaseOutcome::kGranted;
}

void lease_remember(LeaseState& state, std::span<const WindowState> states, std::int64_t now_us) noexcept {
    for (std::size_t i = 0; i < states.size(); ++i) {
        state.tats[i] = now_us + states[i].full_us;
    }
}

void lease_on_lost(LeaseState& state, const LeaseTake& take) noexcept {
    if (take.number != 0 && take.number == state.take_number) {
        state.asking_until_us = 0;
    }
}

LeaseTake lease_due_return(LeaseState& state, std::span<const RateWindow> windows, std::int64_t now_us,
                           const LeaseRules& rules) noexcept {
    LeaseTake take;
    take.asked_us = now_us;
    if (state.tokens > 0 && now_us - state.taken_us > rules.life_us) {
        take_back(state, windows, now_us, take, rules);
    }
    return take;
}

void lease_window_states(const LeaseState& state, std::span<const RateWindow> windows, std::int64_t now_us,
                         std::span<WindowState> states) noexcept {
    Tats tats;
    std::copy_n(state.tats, windows.size(), tats.begin());
    gcra_charge(windows, std::span(tats).first(windows.size()), now_us, 0, 0, state.tokens, 0, states);
}

LimitDecision lease_charge_local(LeaseState& state, std::span<const RateWindow> windows, std::int64_t cost,
                                 std::int64_t now_us, std::span<WindowState> states) noexcept {
    for (std::size_t i = 0; i < windows.size(); ++i) {
        state.local_tats[i] = std::max(state.local_tats[i], state.tats[i]);
    }
    return gcra_charge(windows, std::span(state.local_tats).first(windows.size()), now_us, cost, 0, 0, 0, states);
}

}  // namespace headgate
