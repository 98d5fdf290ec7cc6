// An index of one webhook.
#include "sidecar/match/wants.h"

#include <memory>
#include <vector>

#include "sidecar/match/subscriptions.h"

namespace headgate {

Store::Wants wants_of(const Webhook& webhook) {
    auto index = std::make_shared<Subscriptions>(1);
    Webhook active = webhook;
    active.is_active = true;
    std::vector<Webhook> only;
    only.push_back(std::move(active));
    index->load(webhook.org, 1, std::move(only));
    return [index, found = std::vector<SubscriptionMatcher::Match>()](const EventRecord& event) mutable {
        found.clear();
        index->match(event, found);
        return !found.empty() && found.front().verdict == SubscriptionMatcher::Verdict::kWanted;
    };
}

}  // namespace headgate
