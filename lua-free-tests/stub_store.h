// A store that refuses everything: tests override what they need.
#pragma once

#include <string>

#include "sidecar/store/store.h"

namespace headgate {

class StubStore : public Store {
 public:
    Result<int> migrate() override { return refused("migrate"); }
    Result<int> schema_version() override { return refused("schema_version"); }
    Result<std::vector<MigrationRow>> migrations() override { return refused("migrations"); }
    Result<LeaseView> renew_leases(const LeaseRound&) override { return refused("renew_leases"); }
    Result<std::vector<ShardLease>> shard_leases() override { return refused("shard_leases"); }
    Result<PersistOutcome> persist(const PersistBatch&, SubscriptionMatcher&) override { return refused("persist"); }
    Result<void> add_unwanted(std::span<const UnwantedCount>) override { return refused("add_unwanted"); }
    Result<std::vector<ClaimedDelivery>> claim_due(const ClaimRequest&) override { return refused("claim_due"); }
    Result<std::optional<TimeMs>> next_due_at(Epochs) override { return refused("next_due_at"); }
    Result<RecordOutcome> record_attempts(std::span<const AttemptRecord>, Epochs) override {
        return refused("record_attempts");
    }
    Result<std::size_t> recover_in_flight(std::span<const int>, Epochs, TimeMs) override {
        return refused("recover_in_flight");
    }
    Result<void> spread_overdue(OverdueSpread&) override { return refused("spread_overdue"); }
    Result<Target> delivery_target(std::string_view) override { return refused("delivery_target"); }
    Result<std::optional<TimeMs>> oldest_due_at(TimeMs, Epochs, std::span<const std::string>) override {
        return refused("oldest_due_at");
    }
    Result<DeliveryCounts> delivery_counts(TimeMs) override { return refused("delivery_counts"); }
    Result<std::vector<Delivery>> deliveries_of_event(std::string_view, std::string_view) override {
        return refused("deliveries_of_event");
    }
    Result<std::vector<AttemptRecord>> attempts_of_delivery(std::string_view, std::string_view) override {
        return refused("attempts_of_delivery");
    }
    Result<Delivery> get_delivery(std::string_view, std::string_view) override { return refused("get_delivery"); }
    Result<std::vector<Delivery>> list_deliveries(std::string_view, const DeliveryQuery&) override {
        return refused("list_deliveries");
    }
    Result<Delivery> retry_delivery(std::string_view, std::string_view, TimeMs) override {
        return refused("retry_delivery");
    }
    Result<Delivery> cancel_delivery(std::string_view, std::string_view, TimeMs) override {
        return refused("cancel_delivery");
    }
    Result<std::vector<LedgerEntry>> ledger_of_event(std::string_view, std::string_view) override {
        return refused("ledger_of_event");
    }
    Result<std::int64_t> count_replay(const Replay&, const Wants&) override { return refused("count_replay"); }
    Result<Replay> create_replay(const Replay&, const Wants&) override { return refused("create_replay"); }
    Result<Replay> get_replay(std::string_view, std::string_view) override { return refused("get_replay"); }
    Result<std::vector<Replay>> list_replays(std::string_view, std::string_view) override {
        return refused("list_replays");
    }
    Result<Replay> set_replay_state(std::string_view, std::string_view, std::string_view, TimeMs) override {
        return refused("set_replay_state");
    }
    Result<std::vector<Replay>> running_replays() override { return refused("running_replays"); }
    Result<std::size_t> advance_replay(std::string_view, const Wants&, std::size_t, TimeMs) override {
        return refused("advance_replay");
    }
    Result<std::size_t> relay_system_events(SubscriptionMatcher&, std::size_t, TimeMs) override {
        return refused("relay_system_events");
    }
    Result<std::size_t> purge(const PurgeRequest&) override { return refused("purge"); }
    Result<void> create_org(const Organization&) override { return refused("create_org"); }
    Result<std::vector<Organization>> list_orgs() override { return refused("list_orgs"); }
    Result<Organization> get_org(std::string_view) override { return refused("get_org"); }
    Result<void> create_key(const ApiKey&) override { return refused("create_key"); }
    Result<std::vector<ApiKey>> list_keys(std::string_view) override { return refused("list_keys"); }
    Result<ApiKey> get_key(std::string_view, std::string_view) override { return refused("get_key"); }
    Result<ApiKey> find_key_by_hash(std::string_view) override { return refused("find_key_by_hash"); }
    Result<void> revoke_key(std::string_view, std::string_view, TimeMs) override { return refused("revoke_key"); }
    Result<std::vector<ProjectionEntry>> pending_projections(std::size_t) override {
        return refused("pending_projections");
    }
    Result<void> finish_projections(std::int64_t) override { return refused("finish_projections"); }
    Result<ApiKey> get_key_any_org(std::string_view) override { return refused("get_key_any_org"); }
    Result<std::vector<ApiKey>> keys_after(std::string_view, std::size_t) override { return refused("keys_after"); }
    Result<std::vector<ProjectionEntry>> revocations(TimeMs) override { return refused("revocations"); }
    Result<void> create_webhook(const Webhook&) override { return refused("create_webhook"); }
    Result<WebhookList> list_webhooks(std::string_view, const WebhookFilter&) override {
        return refused("list_webhooks");
    }
    Result<Webhook> get_webhook(std::string_view, std::string_view) override { return refused("get_webhook"); }
    Result<DeliveryStats> webhook_stats(std::string_view, std::string_view) override {
        return refused("webhook_stats");
    }
    Result<void> delete_webhook(std::string_view, std::string_view, TimeMs) override {
        return refused("delete_webhook");
    }
    Result<EventPage> list_events(std::string_view, const EventQuery&) override { return refused("list_events"); }
    Result<std::vector<Event>> inbox(std::string_view, const InboxQuery&) override { return refused("inbox"); }
    Result<Event> ack_event(std::string_view, std::string_view, TimeMs) override { return refused("ack_event"); }
    Result<Event> get_event(std::string_view, std::string_view) override { return refused("get_event"); }
    Result<std::vector<SealedUnder>> sealed_under() override { return refused("sealed_under"); }
    Result<ResealStep> reseal(std::string_view, std::size_t) override { return refused("reseal"); }
    Result<void> carry_usage(std::span<const KeyUsage>, Epochs) override { return refused("carry_usage"); }
    Result<Totals> totals() override { return refused("totals"); }
    Result<void> ping() override { return refused("ping"); }
    Result<void> update_org(const Organization&) override { return refused("update_org"); }
    Result<Webhook> update_webhook(const Webhook&, std::optional<std::int64_t>) override {
        return refused("update_webhook");
    }
    Result<Webhook> set_webhook_active(std::string_view, std::string_view, bool, std::string_view, TimeMs) override {
        return refused("set_webhook_active");
    }
    Result<void> add_webhook_secret(std::string_view, std::string_view, const WebhookSecret&, TimeMs) override {
        return refused("add_webhook_secret");
    }
    Result<std::vector<Rollup>> rollups(std::string_view, std::string_view, TimeMs, TimeMs) override {
        return refused("rollups");
    }

 private:
    static tl::unexpected<Error> refused(const char* what) {
        return fail(ErrorCode::kInternal, std::string(what) + " is not of this test");
    }
};

}  // namespace headgate
