// The shares of memory_quota.h.
#include "sidecar/deliver/memory_quota.h"

namespace headgate {

MemoryQuota::Entry& MemoryQuota::entry_of(std::string_view webhook_id) {
    if (const auto found = entries_.find(webhook_id); found != entries_.end()) {
        return found->second;
    }
    return entries_.try_emplace(std::string(webhook_id)).first->second;
}

int MemoryQuota::room_of(const Entry& entry) const noexcept {
    // Beyond the common bound, up to twice of it, only who has nothing gets one.
    const std::size_t bound = entry.held == 0 ? 2 * deliveries_max_ : deliveries_max_;
    if (held_ >= bound || entry.held >= entry.limit()) {
        return 0;
    }
    const std::int64_t free_bytes = static_cast<std::int64_t>(bytes_max_) - bytes_;
    if (free_bytes <= 0 || entry.bytes > free_bytes) {
        return 0;
    }
    const auto free = static_cast<int>(deliveries_max_ - std::min(held_, deliveries_max_));
    return std::max(std::min(entry.limit(), free) - entry.held, entry.held == 0 ? 1 : 0);
}

// Keeps count of the hungry ones.
template <typename Change>
void MemoryQuota::change(Entry& entry, Change make) {
    hungry_ -= entry.is_hungry() ? 1 : 0;
    make(entry);
    hungry_ += entry.is_hungry() ? 1 : 0;
}

void MemoryQuota::set_has_more(Entry& entry, bool has_more) noexcept {
    change(entry, [has_more](Entry& each) { each.has_more = has_more; });
}

void MemoryQuota::add_held(Entry& entry, int deliveries) noexcept {
    change(entry, [deliveries](Entry& each) { each.held += deliveries; });
    held_ += static_cast<std::size_t>(deliveries);
}

bool MemoryQuota::reserve(std::string_view webhook_id) {
    const std::lock_guard lock(mutex_);
    Entry& entry = entry_of(webhook_id);
    const bool must_wait = entry.has_more && !entry.has_arrears;
    if (must_wait || room_of(entry) <= 0) {
        entry.has_arrears = false;
        set_has_more(entry, true);
        return false;
    }
    add_held(entry, 1);
    return true;
}

void MemoryQuota::give_back(std::string_view webhook_id, std::int64_t more_bytes) {
    const std::lock_guard lock(mutex_);
    Entry& entry = entry_of(webhook_id);
    add_held(entry, -1);
    entry.bytes += more_bytes;
    bytes_ += more_bytes;
}

std::size_t MemoryQuota::begin_claim() {
    constexpr std::int64_t kClaimMin = 8;
    constexpr std::int64_t kClaimMax = 512;
    constexpr std::int64_t kDeliveryBytesGuess = 4096;
    const std::lock_guard lock(mutex_);
    ++claim_;
    if (held_ >= 2 * deliveries_max_ || bytes_ >= static_cast<std::int64_t>(bytes_max_)) {
        return 0;
    }
    const std::int64_t each =
        std::max(held_ == 0 ? kDeliveryBytesGuess : bytes_ / static_cast<std::int64_t>(held_), std::int64_t{1});
    const std::int64_t free = static_cast<std::int64_t>(bytes_max_) - bytes_;
    return static_cast<std::size_t>(std::clamp(free / each, kClaimMin, kClaimMax));
}

int MemoryQuota::offer(std::string_view webhook_id) {
    const std::lock_guard lock(mutex_);
    Entry& entry = entry_of(webhook_id);
    entry.claim = claim_;
    entry.offered = room_of(entry);
    if (entry.has_arrears && entry.limit() >= 4) {
        entry.offered = std::clamp(entry.limit() - entry.limit() / 4 - entry.held, 0, entry.offered);
    }
    entry.taken = 0;
    return entry.offered;
}

void MemoryQuota::finish_claim(const std::vector<ClaimedDelivery>& claimed, std::size_t claim_max, TimeMs now) {
    constexpr TimeMs kArrearsMs = 60'000;
    const std::lock_guard lock(mutex_);
    for (const ClaimedDelivery& delivery : claimed) {
        Entry& entry = entry_of(delivery.webhook_id);
        const bool is_old =
            delivery.attempts > 0 || (delivery.event != nullptr && now - delivery.event->created_at > kArrearsMs);
        entry.has_arrears = is_old && (entry.taken == 0 || entry.has_arrears);
        add_held(entry, 1);
        ++entry.taken;
    }
    const bool has_seen_all = claimed.size() < claim_max;
    for (auto& [webhook_id, entry] : entries_) {
        if (entry.claim == claim_) {
            set_has_more(entry, !has_seen_all || entry.taken >= entry.offered);
        } else if (has_seen_all) {
            set_has_more(entry, false);
        }
    }
}

void MemoryQuota::undo_claim(const std::vector<ClaimedDelivery>& claimed) {
    const std::lock_guard lock(mutex_);
    for (const ClaimedDelivery& delivery : claimed) {
        Entry& entry = entry_of(delivery.webhook_id);
        add_held(entry, -1);
        set_has_more(entry, true);
    }
}

bool MemoryQuota::wants_claim() const {
    const std::lock_guard lock(mutex_);
    return hungry_ > 0;
}

void MemoryQuota::add_bytes(std::string_view webhook_id, std::int64_t bytes) {
    const std::lock_guard lock(mutex_);
    entry_of(webhook_id).bytes += bytes;
    bytes_ += bytes;
}

void MemoryQuota::set_max_in_flight(std::string_view webhook_id, int max_in_flight) {
    const std::lock_guard lock(mutex_);
    change(entry_of(webhook_id), [max_in_flight](Entry& entry) { entry.most = 2 * std::max(max_in_flight, 1); });
}

void MemoryQuota::set_worth_holding(std::string_view webhook_id, int deliveries) {
    const std::lock_guard lock(mutex_);
    change(entry_of(webhook_id), [deliveries](Entry& entry) {
        entry.worth = deliveries;
        entry.has_more = entry.has_more || deliveries == 0;
    });
}

void MemoryQuota::forget(std::string_view webhook_id) {
    const std::lock_guard lock(mutex_);
    const auto found = entries_.find(webhook_id);
    if (found != entries_.end() && found->second.held == 0) {
        set_has_more(found->second, false);
        entries_.erase(found);
    }
}

std::size_t MemoryQuota::held() const {
    const std::lock_guard lock(mutex_);
    return held_;
}

}  // namespace headgate
