// Rows as they come from a query: which columns, in which order, and the values made of them. Both engines' cursors
// have the same members (text, view, number, real, is_null, optional_number), so that one reader does for both.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "sidecar/store/row_text.h"

#define HEADGATE_KEY_COLUMNS                                                                                          \
    "id, key_hash, key_prefix, organization_id, coalesce(user_id, ''), name, description, scopes, allowed_ips, plan," \
    " limits, expires_at, last_used_at, usage_count, is_active, created_at, updated_at, usage_mark, usage_seen,"      \
    " coalesce((SELECT o.is_suspended FROM organizations o WHERE o.id = organization_id), 0)"
#define HEADGATE_ORG_COLUMNS "id, name, plan, is_suspended, allow_networks, created_at, updated_at"
#define HEADGATE_DELIVERY_COLUMNS \
    "id, webhook_id, event_id, state, status, kind, ordering_key, attempts, due_at, created_at, updated_at"
#define HEADGATE_EVENT_COLUMNS                                                                                     \
    "id, organization_id, key_id, type, source, payload, ordering_key, traceparent, via, status, seq, created_at," \
    " updated_at"
#define HEADGATE_WEBHOOK_COLUMNS                                                                                 \
    "id, organization_id, name, description, url, events, event_filters, headers, content_type, payload_format," \
    " ordering, timeout_ms, max_in_flight, retry_count, retry_schedule_ms, retry_delay_ms, backoff_multiplier,"  \
    " is_active, disabled_reason, version, last_triggered_at, total_deliveries, failed_deliveries, created_at,"  \
    " updated_at, body_template, ordering_policy, rate, signature_style, ed25519_seed, failing_since_at"
#define HEADGATE_WEBHOOK_COLUMN_COUNT 31
#define HEADGATE_REPLAY_COLUMNS                                                                                      \
    "id, organization_id, webhook_id, since_at, until_at, which, state, total, made, succeeded, failed, created_at," \
    " updated_at"
#define HEADGATE_ATTEMPT_COLUMNS                                                                             \
    "number, started_at, finished_at, duration_ms, status_code, error_type, error_message, request_headers," \
    " response_headers, response_body, outcome, coalesce(next_attempt_at, 0)"
#define HEADGATE_ROLLUP_COLUMNS                                                                                 \
    "webhook_id, hour_at, event_type, success_count, failed_count, pending_count, retry_count, response_count," \
    " response_ms_sum, filtered_count, disabled_count"

namespace headgate {

template <typename Row>
ApiKey read_key(const Row& row) {
    ApiKey key;
    key.id = row.text(0);
    key.key_hash = row.text(1);
    key.key_prefix = row.text(2);
    key.org = row.text(3);
    key.user_id = row.text(4);
    key.name = row.text(5);
    key.description = row.text(6);
    key.scopes = words_of_json(row.view(7));
    key.allowed_ips = words_of_json(row.view(8));
    key.plan = row.text(9);
    key.limits = row.text(10);
    key.expires_at = row.optional_number(11);
    key.last_used_at = row.optional_number(12);
    key.usage_count = row.number(13);
    key.is_active = row.number(14) != 0;
    key.created_at = row.number(15);
    key.updated_at = row.number(16);
    key.usage_mark = row.text(17);
    key.usage_seen = row.number(18);
    key.is_org_suspended = row.number(19) != 0;
    return key;
}

template <typename Row>
Organization read_org(const Row& row) {
    return {.id = row.text(0),
            .name = row.text(1),
            .plan = row.text(2),
            .is_suspended = row.number(3) != 0,
            .allow_networks = from_json_list(row.view(4)),
            .created_at = row.number(5),
            .updated_at = row.number(6)};
}

template <typename Row>
Delivery read_delivery(const Row& row) {
    return {.id = row.text(0),
            .webhook_id = row.text(1),
            .event_id = row.text(2),
            .state = row.text(3),
            .status = row.text(4),
            .kind = row.text(5),
            .ordering_key = row.text(6),
            .attempts = static_cast<int>(row.number(7)),
            .due_at = row.number(8),
            .created_at = row.number(9),
            .updated_at = row.number(10)};
}

// `at`: the column where HEADGATE_EVENT_COLUMNS begin.
template <typename Row>
Event read_event(const Row& row, int at = 0) {
    Event event;
    event.id = row.text(at);
    event.org = row.text(at + 1);
    event.key_id = row.text(at + 2);
    event.type = row.text(at + 3);
    event.source = row.text(at + 4);
    event.payload = row.text(at + 5);
    event.ordering_key = row.text(at + 6);
    event.traceparent = row.text(at + 7);
    event.via = row.text(at + 8);
    event.status = row.text(at + 9);
    event.seq = row.number(at + 10);
    event.created_at = row.number(at + 11);
    event.updated_at = row.number(at + 12);
    return event;
}

// Without what is sealed: headers (column 7), ed25519_seed (29) and the secrets, which have a table of their own.
template <typename Row>
Webhook read_webhook_columns(const Row& row) {
    Webhook webhook;
    webhook.id = row.text(0);
    webhook.org = row.text(1);
    webhook.name = row.text(2);
    webhook.description = row.text(3);
    webhook.url = row.text(4);
    webhook.events = from_json_list(row.view(5));
    webhook.filters = row.text(6);
    webhook.content_type = row.text(8);
    webhook.payload_format = format_of(row.view(9));
    webhook.ordering = row.text(10);
    webhook.timeout_ms = row.number(11);
    webhook.max_in_flight = static_cast<int>(row.number(12));
    webhook.retry.max_retries = static_cast<int>(row.number(13));
    webhook.retry.schedule_ms = from_json_numbers(row.view(14));
    webhook.retry.retry_delay_ms = row.number(15);
    webhook.retry.backoff_multiplier = row.real(16);
    webhook.is_active = row.number(17) != 0;
    webhook.disabled_reason = row.text(18);
    webhook.version = row.number(19);
    webhook.last_triggered_at = row.optional_number(20);
    webhook.failure_count = row.number(22);
    webhook.success_count = row.number(21) - webhook.failure_count;
    webhook.created_at = row.number(23);
    webhook.updated_at = row.number(24);
    webhook.body_template = row.text(25);
    webhook.ordering_policy = policy_of(row.view(26));
    webhook.rate = row.text(27);
    webhook.signature_style = row.text(28);
    webhook.failing_since = row.optional_number(30);
    return webhook;
}

template <typename Row>
Replay read_replay(const Row& row) {
    return {.id = row.text(0),
            .org = row.text(1),
            .webhook_id = row.text(2),
            .since = row.number(3),
            .until = row.number(4),
            .which = row.text(5),
            .state = row.text(6),
            .total = row.number(7),
            .made = row.number(8),
            .succeeded = row.number(9),
            .failed = row.number(10),
            .created_at = row.number(11),
            .updated_at = row.number(12)};
}

// What a replay looks at of an event: created_at, seq, id, organization_id, key_id, type, source, payload,
// ordering_key, traceparent, via. Borrowed from the row, until its next step.
template <typename Row>
EventRecord replay_record(const Row& row) {
    return {.id = row.view(2),
            .org = row.view(3),
            .key_id = row.view(4),
            .type = row.view(5),
            .source = row.view(6),
            .payload = row.view(7),
            .ordering_key = row.view(8),
            .traceparent = row.view(9),
            .via = row.view(10),
            .at_ms = row.number(0)};
}

// Does a replay send this event again, as far as the newest delivery of it to the webhook says? nullopt: there is none.
[[nodiscard]] inline bool is_missed(const Replay& replay, std::optional<std::string_view> newest_state) {
    if (replay.which == "all") return true;
    if (replay.which == "missing") return !newest_state;
    return newest_state == "dead" || newest_state == "cancelled";
}

template <typename Row>
AttemptRecord read_attempt(const Row& row, std::string_view delivery_id, std::string_view webhook_id,
                           std::string_view org) {
    AttemptRecord attempt;
    attempt.delivery_id = delivery_id;
    attempt.webhook_id = webhook_id;
    attempt.org = org;
    attempt.number = static_cast<int>(row.number(0));
    attempt.started_at = row.number(1);
    attempt.finished_at = row.number(2);
    attempt.duration_ms = row.number(3);
    attempt.status_code = static_cast<int>(row.number(4));
    attempt.error_type = row.text(5);
    attempt.error_message = row.text(6);
    attempt.request_headers = row.text(7);
    attempt.response_headers = row.text(8);
    attempt.response_body = row.text(9);
    attempt.outcome = outcome_of(row.view(10));
    attempt.next_attempt_at = row.number(11);
    return attempt;
}

template <typename Row>
Rollup read_rollup(const Row& row) {
    return {.webhook_id = row.text(0),
            .event_type = row.text(2),
            .hour_at = row.number(1),
            .success = row.number(3),
            .failed = row.number(4),
            .pending = row.number(5),
            .retries = row.number(6),
            .responses = row.number(7),
            .response_ms_sum = row.number(8),
            .filtered = row.number(9),
            .disabled = row.number(10)};
}

}  // namespace headgate
