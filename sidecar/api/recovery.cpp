// Replays and explanations; see recovery.h.
#include "sidecar/api/recovery.h"

#include <algorithm>
#include <boost/json.hpp>
#include <unordered_map>

#include "common/rfc3339.h"
#include "sidecar/api/recovery_json.h"
#include "sidecar/match/subscriptions.h"
#include "sidecar/match/wants.h"

namespace headgate {
namespace json = boost::json;
namespace {

using Verdict = SubscriptionMatcher::Verdict;

constexpr int kWebhooksPage = 200;

Result<std::vector<Webhook>> all_webhooks(Store& store, std::string_view org) {
    std::vector<Webhook> webhooks;
    Store::WebhookFilter filter;
    filter.page.limit = kWebhooksPage;
    for (;;) {
        auto page = store.list_webhooks(org, filter);
        if (!page) return tl::unexpected(page.error());
        const bool is_last = page->webhooks.size() < static_cast<std::size_t>(kWebhooksPage);
        std::move(page->webhooks.begin(), page->webhooks.end(), std::back_inserter(webhooks));
        if (is_last) return webhooks;
        filter.page.offset += kWebhooksPage;
    }
}

EventRecord record_of(const Event& event) {
    return {.id = event.id,
            .org = event.org,
            .key_id = event.key_id,
            .type = event.type,
            .source = event.source,
            .payload = event.payload,
            .ordering_key = event.ordering_key,
            .traceparent = event.traceparent,
            .via = event.via,
            .at_ms = event.created_at};
}

// What the subscriptions would say now, whether they are active or not; those that do not name the type are absent.
std::unordered_map<std::string, Verdict> verdicts_now(const Event& event, const std::vector<Webhook>& webhooks) {
    std::vector<Webhook> active = webhooks;
    for (auto& webhook : active) webhook.is_active = true;
    Subscriptions index(1);
    index.load(event.org, 1, std::move(active));
    std::vector<SubscriptionMatcher::Match> matches;
    index.match(record_of(event), matches);
    std::unordered_map<std::string, Verdict> verdicts;
    for (const auto& match : matches) verdicts.emplace(match.webhook_id, match.verdict);
    return verdicts;
}

void explain_deliveries(Reason& reason) {
    const auto succeeded = std::find_if(reason.deliveries.begin(), reason.deliveries.end(),
                                        [](const Delivery& delivery) { return delivery.state == "success"; });
    if (succeeded != reason.deliveries.end()) {
        reason.verdict = "delivered";
        reason.detail = "delivered, after " + std::to_string(succeeded->attempts) +
                        (succeeded->attempts == 1 ? " attempt" : " attempts");
        return;
    }
    const Delivery& newest = reason.deliveries.back();
    if (newest.state == "dead") {
        reason.verdict = "dead";
        reason.detail = "given up after " + std::to_string(newest.attempts) + " attempts; it can be retried by hand";
    } else if (newest.state == "cancelled") {
        reason.verdict = "cancelled";
        reason.detail = "cancelled by hand, or with its webhook";
    } else {
        reason.verdict = "waiting";
        reason.detail = newest.state == "blocked"     ? "waits for an earlier event of its ordering key"
                        : newest.state == "in_flight" ? "is being sent"
                                                      : "is due at " + rfc3339_format(newest.due_at);
    }
}

// Of a webhook that has no delivery of the event.
void explain_absence(Reason& reason, const Event& event, const Webhook& webhook, const Verdict* now,
                     std::string_view ledger) {
    if (webhook.created_at > event.created_at) {
        reason.verdict = "created_later";
        reason.detail = "the webhook was created at " + rfc3339_format(webhook.created_at) + ", after the event";
    } else if (now == nullptr) {
        reason.verdict = "type_not_subscribed";
        reason.detail = "none of its events is " + event.type;
    } else if (*now == Verdict::kFiltered) {
        reason.verdict = "filtered";
        reason.detail = "its filters do not match the payload";
    } else if (!webhook.is_active || ledger == "webhook_disabled") {
        reason.verdict = "disabled";
        reason.detail = webhook.is_active ? "the webhook was disabled when the event came" : "the webhook is disabled";
        if (!webhook.disabled_reason.empty()) reason.detail += ": " + webhook.disabled_reason;
    } else {
        reason.verdict = "changed_since";
        reason.detail =
            "as the webhook is now it wants the event: it was disabled, or had other events or filters, when the event "
            "came (changed at " +
            rfc3339_format(webhook.updated_at) + ")";
    }
}

json::object reason_json(const Reason& reason) {
    json::object shown;
    shown.emplace("webhook_id", reason.webhook_id);
    shown.emplace("webhook_name", reason.webhook_name.empty() ? json::value() : json::value(reason.webhook_name));
    shown.emplace("verdict", reason.verdict);
    shown.emplace("detail", reason.detail);
    json::array deliveries;
    for (const auto& delivery : reason.deliveries) deliveries.push_back(delivery_json(delivery));
    shown.emplace("deliveries", std::move(deliveries));
    return shown;
}

}  // namespace

Result<std::int64_t> count_replay_now(Store& store, const Replay& replay) {
    auto webhook = store.get_webhook(replay.org, replay.webhook_id);
    if (!webhook) return tl::unexpected(webhook.error());
    return store.count_replay(replay, wants_of(*webhook));
}

Result<Replay> start_replay(Store& store, const Replay& replay) {
    auto webhook = store.get_webhook(replay.org, replay.webhook_id);
    if (!webhook) return tl::unexpected(webhook.error());
    auto others = store.list_replays(replay.org, replay.webhook_id);
    if (!others) return tl::unexpected(others.error());
    const auto unfinished = std::count_if(others->begin(), others->end(), [](const Replay& other) {
        return other.state == "running" || other.state == "paused";
    });
    if (static_cast<std::size_t>(unfinished) >= kReplaysUnfinishedMax) {
        return fail(ErrorCode::kConflict, "The webhook has " + std::to_string(unfinished) +
                                              " unfinished replays; wait for one, or cancel it");
    }
    return store.create_replay(replay, wants_of(*webhook));
}

Result<Explanation> explain(Store& store, std::string_view org, std::string_view event_id) {
    auto event = store.get_event(org, event_id);
    if (!event) return tl::unexpected(event.error());
    auto deliveries = store.deliveries_of_event(org, event_id);
    if (!deliveries) return tl::unexpected(deliveries.error());
    auto ledger = store.ledger_of_event(org, event_id);
    if (!ledger) return tl::unexpected(ledger.error());
    auto webhooks = all_webhooks(store, org);
    if (!webhooks) return tl::unexpected(webhooks.error());

    std::unordered_map<std::string, std::vector<Delivery>> of_webhook;
    for (auto& delivery : *deliveries) {
        if (delivery.kind != "test") of_webhook[delivery.webhook_id].push_back(delivery);
    }
    const auto verdicts = verdicts_now(*event, *webhooks);
    Explanation explanation{std::move(*event), std::move(*ledger), {}};
    for (const Webhook& webhook : *webhooks) {
        Reason reason{webhook.id, webhook.name, {}, {}, {}};
        if (auto made = of_webhook.extract(webhook.id); !made.empty()) {
            reason.deliveries = std::move(made.mapped());
            explain_deliveries(reason);
        } else {
            const auto verdict = verdicts.find(webhook.id);
            std::string_view said;
            for (const auto& entry : explanation.ledger) {
                if (entry.webhook_id.empty() || entry.webhook_id == webhook.id) said = entry.reason;
            }
            explain_absence(reason, explanation.event, webhook, verdict == verdicts.end() ? nullptr : &verdict->second,
                            said);
        }
        explanation.reasons.push_back(std::move(reason));
    }
    // What is left is of webhooks that were deleted.
    for (auto& [id, made] : of_webhook) {
        Reason reason{id, {}, {}, {}, std::move(made)};
        explain_deliveries(reason);
        reason.detail += " (the webhook was deleted)";
        explanation.reasons.push_back(std::move(reason));
    }
    return explanation;
}

json::object explanation_json(const Explanation& explanation) {
    json::object shown;
    shown.emplace("event", event_json(explanation.event));
    json::array ledger;
    for (const auto& entry : explanation.ledger) {
        json::object row;
        row.emplace("webhook_id", entry.webhook_id.empty() ? json::value() : json::value(entry.webhook_id));
        row.emplace("reason", entry.reason);
        row.emplace("created_at", rfc3339_format(entry.created_at));
        ledger.push_back(std::move(row));
    }
    shown.emplace("ledger", std::move(ledger));
    json::array reasons;
    for (const auto& reason : explanation.reasons) reasons.push_back(reason_json(reason));
    shown.emplace("webhooks", std::move(reasons));
    return shown;
}

}  // namespace headgate
