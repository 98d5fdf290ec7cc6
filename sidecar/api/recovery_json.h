// Deliveries, attempts, replays and events as the API and the command line show them. Pure.
#pragma once

#include <boost/json/object.hpp>
#include <string>

#include "sidecar/store/store.h"

namespace headgate {

[[nodiscard]] boost::json::object delivery_json(const Delivery& delivery);
// The headers of the request as they were kept: redacted.
[[nodiscard]] boost::json::object attempt_json(const AttemptRecord& attempt);
[[nodiscard]] boost::json::array attempts_json(const std::vector<AttemptRecord>& attempts);
[[nodiscard]] boost::json::object replay_json(const Replay& replay);
// Without its payload.
[[nodiscard]] boost::json::object event_json(const Event& event);
// The same as text, with the payload as the bytes that were published.
[[nodiscard]] std::string event_text(const Event& event);
[[nodiscard]] boost::json::value cursor_json(const std::string& cursor);  // null when empty

}  // namespace headgate
