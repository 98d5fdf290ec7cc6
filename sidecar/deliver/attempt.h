// From the end of a request to what is kept of it: the attempt's record, its line in the log, the
// counters. Pure but for the log. Input: HttpResponse; output: AttemptRecord, for Store::record_attempts.
#pragma once

#include <memory>
#include <string>

#include "sidecar/deliver/dispatcher.h"
#include "sidecar/deliver/http_client.h"
#include "sidecar/deliver/lanes.h"
#include "sidecar/store/store.h"

namespace headgate {

// A delivery on its way.
struct Flight {
    Lane* lane = nullptr;
    HeldDelivery delivery;
    std::shared_ptr<const DeliveryTarget> target;  // as it was when the request was made
    std::string request_headers;                   // redacted
    TimeMs started_at = 0;
    LaneGate::Ticket ticket{};
};

[[nodiscard]] AttemptRecord record_attempt(const Flight& flight, HttpResponse response, TimeMs now, double random);

// The log's lines, the tables and JSON are text: bytes that are not UTF-8 become U+FFFD, NUL included.
[[nodiscard]] std::string as_text(std::string bytes);

// Nothing was sent: the delivery goes back to the store as it was (kInterrupted), or is cancelled.
[[nodiscard]] AttemptRecord record_unsent(const HeldDelivery& delivery, std::string_view webhook_id,
                                          AttemptOutcome outcome, std::string_view error_type, std::string_view reason,
                                          TimeMs now);

void log_attempt(const AttemptRecord& attempt, const Event& event);
void count_attempt(const AttemptRecord& attempt, const Event& event, DispatcherCounters& counters) noexcept;

// What a record occupies in memory, roughly.
[[nodiscard]] std::int64_t bytes_of(const AttemptRecord& attempt) noexcept;
[[nodiscard]] std::int64_t bytes_of(const HeldDelivery& delivery) noexcept;

}  // namespace headgate
