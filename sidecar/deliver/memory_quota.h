// How many deliveries may be held in memory, for each webhook and in all. Shared by the event loop
// and the DB thread, which asks inside its transactions; hence the mutex. No I/O.
//
// A webhook may hold twice its max_in_flight, but never more than is still free for everyone: with
// n greedy webhooks each gets about a (n+1)-th of the whole, and there is always room for another one.
#pragma once

#include <algorithm>
#include <climits>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "common/limits.h"
#include "sidecar/store/store.h"

namespace headgate {

struct StringHash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const noexcept { return std::hash<std::string_view>{}(text); }
};
template <typename Value>
using StringMap = std::unordered_map<std::string, Value, StringHash, std::equal_to<>>;

class MemoryQuota {
 public:
    MemoryQuota(std::size_t deliveries_max, std::size_t bytes_max)
        : deliveries_max_(deliveries_max), bytes_max_(bytes_max) {}

    // May one more delivery, new in the store, be held at once? Not while older ones of its webhook
    // wait in the store: they come first, through a claim. Unless all that waits are arrears (retries, replays):
    // claims leave a quarter of the room to what is new meanwhile.
    bool reserve(std::string_view webhook_id);
    // A reservation is void, or a held delivery has left memory but for its result, which has so many more bytes.
    void give_back(std::string_view webhook_id, std::int64_t more_bytes = 0);

    // A claim: how many deliveries may it bring (as far as their size can be guessed from those held
    // now), how many of each webhook, and which it brought. These are held from there on.
    [[nodiscard]] std::size_t begin_claim();
    int offer(std::string_view webhook_id);
    void finish_claim(const std::vector<ClaimedDelivery>& claimed, std::size_t claim_max, TimeMs now);
    // What was claimed stays in the store after all: its transaction failed.
    void undo_claim(const std::vector<ClaimedDelivery>& claimed);
    // Does a webhook have both more in the store that is due and half of its room free?
    [[nodiscard]] bool wants_claim() const;

    // What a held delivery, or its result, occupies; negative: no longer.
    void add_bytes(std::string_view webhook_id, std::int64_t bytes);
    void set_max_in_flight(std::string_view webhook_id, int max_in_flight);
    // How many of this webhook are worth holding, within its limit. 0: none; more may be in the store from here on.
    void set_worth_holding(std::string_view webhook_id, int deliveries);
    // Nothing is remembered of a webhook that holds nothing.
    void forget(std::string_view webhook_id);

    [[nodiscard]] std::size_t held() const;

 private:
    struct Entry {
        int held = 0;  // reservations included
        int most = 2 * limits::kWebhookInFlightDefault;
        int worth = INT_MAX;
        std::int64_t bytes = 0;
        bool has_more = false;     // more are due in the store
        bool has_arrears = false;  // and those that were claimed last had all waited for long
        // Of the last claim that offered it room.
        std::uint64_t claim = 0;
        int offered = 0, taken = 0;

        [[nodiscard]] int limit() const noexcept { return std::min(most, worth); }
        [[nodiscard]] bool is_hungry() const noexcept { return has_more && limit() > 0 && held * 2 <= limit(); }
    };
    Entry& entry_of(std::string_view webhook_id);
    [[nodiscard]] int room_of(const Entry& entry) const noexcept;
    template <typename Change>
    void change(Entry& entry, Change make);
    void set_has_more(Entry& entry, bool has_more) noexcept;
    void add_held(Entry& entry, int deliveries) noexcept;

    const std::size_t deliveries_max_;
    const std::size_t bytes_max_;
    mutable std::mutex mutex_;
    StringMap<Entry> entries_;
    std::size_t held_ = 0;
    std::int64_t bytes_ = 0;
    std::size_t hungry_ = 0;  // entries that are
    std::uint64_t claim_ = 0;
};

}  // namespace headgate
