// What an operator asks for: lists of deliveries and events, replays. Pure.
#pragma once

#include <boost/json/fwd.hpp>
#include <string_view>
#include <vector>

#include "sidecar/api/form.h"
#include "sidecar/api/reply.h"
#include "sidecar/store/store.h"

namespace headgate {

struct DeliveryListInput {
    DeliveryQuery query;
    std::vector<FieldError> errors;
};
// webhook_id, event_id, state, since, until, limit, cursor. Whose the ids are is not looked at.
[[nodiscard]] DeliveryListInput read_delivery_list(const Form& form);

struct EventListInput {
    EventQuery query;
    std::vector<FieldError> errors;
};
// type, source, since, until, limit, cursor.
[[nodiscard]] EventListInput read_event_list(const Form& form);

struct ReplayInput {
    Replay replay;  // with an id, ready to be created
    bool is_dry_run = false;
    std::vector<FieldError> errors;
};
// since, until (default: now), which, dry_run. Refuses members that it does not know.
[[nodiscard]] ReplayInput read_replay(const boost::json::object& members, std::string_view org,
                                      std::string_view webhook_id, TimeMs now);

}  // namespace headgate
