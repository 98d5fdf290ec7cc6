// What the API and the command line do alike on a store: replays, and why an event was not delivered. Called on a DB
// thread. Next files: deliveries.cpp, replays.cpp and events.cpp, which answer requests with it.
#pragma once

#include <boost/json/fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "sidecar/store/store.h"

namespace headgate {

// Replays of one webhook that are running or paused at a time.
inline constexpr std::size_t kReplaysUnfinishedMax = 10;

// How many deliveries the replay would make now. kNotFound: no such webhook of the organization.
[[nodiscard]] Result<std::int64_t> count_replay_now(Store& store, const Replay& replay);
// kConflict: the webhook has kReplaysUnfinishedMax unfinished ones.
[[nodiscard]] Result<Replay> start_replay(Store& store, const Replay& replay);

// What one webhook did with an event, and why. In the order of their chances: a delivery tells more than a ledger row,
// which was written when the event came, and that more than the subscription as it is now.
struct Reason {
    std::string webhook_id, webhook_name;  // the name is empty when the webhook was deleted
    // delivered | waiting | dead | cancelled | created_later | type_not_subscribed | filtered | disabled |
    // changed_since
    std::string verdict;
    std::string detail;                // the same for people
    std::vector<Delivery> deliveries;  // of the event to the webhook, oldest first, replays included
};
struct Explanation {
    Event event;
    std::vector<LedgerEntry> ledger;
    std::vector<Reason> reasons;
};
// kNotFound: no such event of the organization.
[[nodiscard]] Result<Explanation> explain(Store& store, std::string_view org, std::string_view event_id);
[[nodiscard]] boost::json::object explanation_json(const Explanation& explanation);

}  // namespace headgate
