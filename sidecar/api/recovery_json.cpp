// Showing what became of events; see recovery_json.h.
#include "sidecar/api/recovery_json.h"

#include <boost/json.hpp>

#include "common/rfc3339.h"
#include "sidecar/base/json_text.h"
#include "sidecar/base/text.h"
#include "sidecar/store/row_text.h"

namespace headgate {
namespace json = boost::json;
namespace {

json::value text_or_null(std::string_view text) {
    if (text.empty()) return nullptr;
    return json::value(text);
}

constexpr std::string_view kMask = "********";

// Headers are kept as the text of an object; none when there was no response.
json::value headers_json(const std::string& text) {
    boost::system::error_code ec;
    auto headers = json::parse(text, ec);
    if (ec || !headers.is_object()) return json::object();
    return headers;
}

// Values of the webhook's own headers and signatures are masked where they are kept; attempts of earlier versions hold
// signatures in the clear.
json::value request_headers_json(const std::string& text) {
    auto headers = headers_json(text);
    for (auto& header : headers.get_object()) {
        const std::string name = to_lower({header.key().data(), header.key().size()});
        if (name.find("signature") != std::string::npos || name.find("hmac") != std::string::npos) {
            header.value() = kMask;
        }
    }
    return headers;
}

}  // namespace

json::object delivery_json(const Delivery& delivery) {
    json::object shown;
    shown.emplace("id", delivery.id);
    shown.emplace("webhook_id", delivery.webhook_id);
    shown.emplace("event_id", delivery.event_id);
    shown.emplace("kind", delivery.kind);
    shown.emplace("state", delivery.state);
    shown.emplace("status", delivery.status);
    shown.emplace("attempts", delivery.attempts);
    shown.emplace("ordering_key", text_or_null(delivery.ordering_key));
    const bool is_waiting = delivery.state == "queued" || delivery.state == "retrying";
    shown.emplace("due_at", is_waiting ? json::value(rfc3339_format(delivery.due_at)) : json::value());
    shown.emplace("created_at", rfc3339_format(delivery.created_at));
    shown.emplace("updated_at", rfc3339_format(delivery.updated_at));
    return shown;
}

json::object attempt_json(const AttemptRecord& attempt) {
    json::object shown;
    shown.emplace("number", attempt.number);
    shown.emplace("outcome", outcome_name(attempt.outcome));
    shown.emplace("started_at", rfc3339_format(attempt.started_at));
    shown.emplace("finished_at", rfc3339_format(attempt.finished_at));
    shown.emplace("duration_ms", attempt.duration_ms);
    shown.emplace("status_code", attempt.status_code == 0 ? json::value() : json::value(attempt.status_code));
    shown.emplace("error_type", text_or_null(attempt.error_type));
    shown.emplace("error_message", text_or_null(attempt.error_message));
    shown.emplace("request_headers", request_headers_json(attempt.request_headers));
    shown.emplace("response_headers", headers_json(attempt.response_headers));
    shown.emplace("response_body", attempt.response_body);
    const bool goes_on = attempt.outcome == AttemptOutcome::kRetry || attempt.outcome == AttemptOutcome::kInterrupted;
    shown.emplace("next_attempt_at", goes_on && attempt.next_attempt_at != 0
                                         ? json::value(rfc3339_format(attempt.next_attempt_at))
                                         : json::value());
    return shown;
}

json::array attempts_json(const std::vector<AttemptRecord>& attempts) {
    json::array shown;
    for (const auto& attempt : attempts) shown.push_back(attempt_json(attempt));
    return shown;
}

json::object replay_json(const Replay& replay) {
    json::object shown;
    shown.emplace("id", replay.id);
    shown.emplace("webhook_id", replay.webhook_id);
    shown.emplace("which", replay.which);
    shown.emplace("since", rfc3339_format(replay.since));
    shown.emplace("until", rfc3339_format(replay.until));
    shown.emplace("state", replay.state);
    shown.emplace("total", replay.total);
    shown.emplace("made", replay.made);
    shown.emplace("succeeded", replay.succeeded);
    shown.emplace("failed", replay.failed);
    shown.emplace("created_at", rfc3339_format(replay.created_at));
    shown.emplace("updated_at", rfc3339_format(replay.updated_at));
    return shown;
}

json::object event_json(const Event& event) {
    json::object shown;
    shown.emplace("id", event.id);
    shown.emplace("type", event.type);
    shown.emplace("source", event.source);
    shown.emplace("ordering_key", text_or_null(event.ordering_key));
    shown.emplace("via", event.via);
    shown.emplace("status", event.status);
    shown.emplace("created_at", rfc3339_format(event.created_at));
    shown.emplace("updated_at", rfc3339_format(event.updated_at));
    return shown;
}

std::string event_text(const Event& event) {
    std::string text = json_text(event_json(event));
    text.pop_back();  // the closing brace
    return text + ",\"payload\":" + event.payload + "}";
}

json::value cursor_json(const std::string& cursor) { return text_or_null(cursor); }

}  // namespace headgate
