// What attempt.h declares.
#include "sidecar/deliver/attempt.h"

#include <spdlog/spdlog.h>

#include <utility>

#include "sidecar/base/log.h"
#include "sidecar/base/measures.h"
#include "sidecar/deliver/retry_policy.h"
#include "sidecar/deliver/trace_context.h"
#include "sidecar/store/row_text.h"

namespace headgate {

namespace {

bool is_success(const HttpResponse& response) noexcept {
    return response.failure == HttpFailure::kNone && response.status >= 200 && response.status <= 299;
}

// What is the same however the attempt ended.
AttemptRecord begin_record(const HeldDelivery& delivery, std::string_view webhook_id) {
    const Event& event = delivery.event->event();
    AttemptRecord attempt;
    attempt.delivery_id = delivery.delivery_id;
    attempt.webhook_id = webhook_id;
    attempt.org = event.org;
    attempt.number = delivery.attempts + 1;
    attempt.lane_epoch = delivery.lane_epoch;
    attempt.row = delivery.row;
    attempt.event_type = event.type;
    attempt.event_via = event.via;
    return attempt;
}

}  // namespace

std::string as_text(std::string bytes) {
    std::string text;
    std::size_t clean = 0;  // bytes before this one need no copy
    for (std::size_t i = 0; i < bytes.size();) {
        const auto byte = static_cast<unsigned char>(bytes[i]);
        std::size_t length = byte < 0x80                   ? 1
                             : byte >= 0xc2 && byte < 0xe0 ? 2
                             : byte >= 0xe0 && byte < 0xf0 ? 3
                             : byte >= 0xf0 && byte < 0xf5 ? 4
                                                           : 0;
        bool is_valid = byte != 0 && length > 0 && i + length <= bytes.size();
        for (std::size_t k = 1; is_valid && k < length; ++k) {
            const auto next = static_cast<unsigned char>(bytes[i + k]);
            // Overlong forms, surrogates and what lies beyond U+10FFFF show in the second byte (RFC 3629).
            const unsigned char low = k == 1 && byte == 0xe0 ? 0xa0 : k == 1 && byte == 0xf0 ? 0x90 : 0x80;
            const unsigned char high = k == 1 && byte == 0xed ? 0x9f : k == 1 && byte == 0xf4 ? 0x8f : 0xbf;
            is_valid = next >= low && next <= high;
        }
        if (is_valid) {
            i += length;
            continue;
        }
        text.append(bytes, clean, i - clean).append("\xef\xbf\xbd");
        clean = ++i;
    }
    if (clean == 0) {
        return bytes;
    }
    return text.append(bytes, clean, std::string::npos);
}

AttemptRecord record_attempt(const Flight& flight, HttpResponse response, TimeMs now, double random) {
    AttemptRecord attempt = begin_record(flight.delivery, flight.target->webhook.id);
    attempt.started_at = flight.started_at;
    attempt.finished_at = now;
    attempt.duration_ms = response.duration_ms;
    attempt.status_code = response.status;
    if (response.failure != HttpFailure::kNone) {
        attempt.error_type = failure_name(response.failure);
        attempt.error_message = as_text(std::move(response.message));
    } else if (!is_success(response)) {
        attempt.error_type = "http_" + std::to_string(response.status);
        attempt.error_message = "the endpoint answered " + std::to_string(response.status);
    }
    attempt.request_headers = flight.request_headers;
    attempt.response_headers = headers_json(response.headers);
    attempt.response_body = as_text(std::move(response.body));
    if (response.failure == HttpFailure::kInterrupted) {
        attempt.outcome = AttemptOutcome::kInterrupted;
        attempt.next_attempt_at = now;
        return attempt;
    }
    AttemptResult result;
    result.number = attempt.number;
    result.status_code = response.status;
    result.has_failed = response.failure != HttpFailure::kNone;
    result.retry_after = find_header(response.headers, "retry-after");
    RetryDecision decision = decide_retry(flight.target->webhook.retry, result, now, random);
    attempt.outcome = decision.outcome;
    attempt.disable_webhook_reason = std::move(decision.disable_webhook_reason);
    if (attempt.outcome == AttemptOutcome::kRetry) {
        attempt.next_attempt_at = now + decision.delay_ms;
    }
    return attempt;
}

AttemptRecord record_unsent(const HeldDelivery& delivery, std::string_view webhook_id, AttemptOutcome outcome,
                            std::string_view error_type, std::string_view reason, TimeMs now) {
    AttemptRecord attempt = begin_record(delivery, webhook_id);
    attempt.started_at = attempt.finished_at = now;
    attempt.error_type = error_type;
    attempt.error_message = reason;
    attempt.request_headers = attempt.response_headers = "{}";
    attempt.outcome = outcome;
    attempt.next_attempt_at = outcome == AttemptOutcome::kInterrupted ? now : 0;
    return attempt;
}

void log_attempt(const AttemptRecord& attempt, const Event& event) {
    if (!spdlog::should_log(spdlog::level::info)) {
        return;
    }
    const std::string_view trace = trace_id(event.traceparent);
    spdlog::info(
        "delivery.attempt delivery={} webhook={} org={} event_id={} type={} attempt={} outcome={} status={} "
        "error_type={} duration_ms={} latency_ms={} trace={}",
        attempt.delivery_id, attempt.webhook_id, log_value(attempt.org), event.id, log_value(event.type),
        attempt.number, outcome_name(attempt.outcome), attempt.status_code,
        attempt.error_type.empty() ? "none" : attempt.error_type, attempt.duration_ms,
        attempt.finished_at - event.created_at, trace.empty() ? "none" : trace);
}

void count_attempt(const AttemptRecord& attempt, const Event& event, DispatcherCounters& counters) noexcept {
    ++counters.attempts;
    Measures& measured = measures();
    add(measured.attempts[status_class(attempt.status_code)][attempt_reason(attempt.error_type)]);
    measured.attempt_duration.observe_ms(attempt.duration_ms);
    switch (attempt.outcome) {
        case AttemptOutcome::kSuccess:
            ++counters.delivered;
            counters.last_latency_ms = attempt.finished_at - event.created_at;
            measured.publish_to_success.observe_ms(attempt.finished_at - event.created_at);
            break;
        case AttemptOutcome::kRetry:
            ++counters.failed;
            ++counters.retried;
            break;
        case AttemptOutcome::kDead:
            ++counters.failed;
            ++counters.dead;
            break;
        case AttemptOutcome::kCancelled:
            add(measured.cancelled);
            break;
        case AttemptOutcome::kInterrupted:
            add(measured.interrupted);
            break;
    }
    if (attempt.error_type == failure_name(HttpFailure::kBlockedAddress)) {
        ++counters.blocked;
    }
}

std::int64_t bytes_of(const AttemptRecord& attempt) noexcept {
    return static_cast<std::int64_t>(sizeof attempt + attempt.error_message.size() + attempt.request_headers.size() +
                                     attempt.response_headers.size() + attempt.response_body.size());
}

std::int64_t bytes_of(const HeldDelivery& delivery) noexcept {
    // The payload as it was read, and once more in the body.
    return static_cast<std::int64_t>(sizeof delivery + 2 * delivery.event->event().payload.size());
}

}  // namespace headgate
