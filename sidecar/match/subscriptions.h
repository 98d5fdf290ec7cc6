// Which webhooks want an event: an index over all subscriptions of an organization, so that an
// event costs a few hash lookups however many webhooks do not want it. Used inside the persist
// transaction, on the DB thread only. Input: an EventRecord. Next file: the store's persist.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "sidecar/store/store.h"

namespace headgate {

struct MatchCounters {
    std::uint64_t matched = 0;
    std::uint64_t filtered = 0;         // the type matched, the filter did not
    std::uint64_t payload_errors = 0;   // events whose payload no filter could read
    std::uint64_t invalid_filters = 0;  // webhooks loaded with a filter that does not compile
};

class Subscriptions : public SubscriptionMatcher {
 public:
    // Organizations whose index is kept; beyond, the one used longest ago is forgotten and read again when needed.
    explicit Subscriptions(std::size_t orgs_max = 10'000);
    ~Subscriptions() override;

    bool is_current(std::string_view org, std::int64_t generation) const override;
    // Inactive webhooks are reported as such, their filters not evaluated. A pattern or filter that does not compile
    // matches nothing and is logged.
    void load(std::string_view org, std::int64_t generation, std::vector<Webhook> webhooks) override;
    // Each webhook at most once, in the order in which they were loaded.
    void match(const EventRecord& event, std::vector<Match>& out) override;
    // Those that want it, in the same order. Memory of what is counted is bounded: of events of so many types since
    // take_unwanted that there is no room, the webhooks that did not want them are not counted.
    Unwanted match_wanted(const EventRecord& event, std::vector<Match>& out) override;
    void settle(bool is_committed, TimeMs now) override;
    std::vector<UnwantedCount> take_unwanted() override;

    [[nodiscard]] const MatchCounters& counters() const noexcept;

 private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace headgate
