// The half of a store that is the same on both engines, statement by statement: organizations, API keys, what of them
// is to be projected, webhooks. What locks, counts or searches in an engine's own way is in that engine's files.
//
// Statements are written with $1, $2, … and name them first in that order: PostgreSQL takes them by number, SQLite in
// the order in which it meets them (https://www.sqlite.org/lang_expr.html#varparam; SqliteConnection refuses another
// order).
//
// `Engine` derives from this class, befriends it, and has
//   db_                               query(), execute(), changes()
//   guarded(), read(), write()        run work, in a transaction or without one
//   kWebhookPage, kWebhookTotal       statements: the page and the number of webhooks that a filter lets through
//   lock_org(org)                     keeps others from changing what it subscribes to; throws kNotFound
//   note_master_key()                 something is about to be sealed under the current key
//   project_org(before, after)        what of a change of an organization the edge has to know
//   order_projections()               before a row is added: the order of their ids is that of commits
//   settle_order(webhook, now)        after a change of what a webhook orders: what may go now goes
//   cancel_deliveries(webhook, now)   all that are unfinished, and none holds an order any more
//   lock_replay(org, id)              against other changes of it, if it is there
//   count_missed(replay, wants, seq)  how many events up to that one it would send
// The bodies are in the other sql_*.h, which only <engine>_shared.cpp includes.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "sidecar/store/row_readers.h"
#include "sidecar/store/secret_box.h"
#include "sidecar/store/store.h"
#include "sidecar/store/store_failure.h"

namespace headgate {

template <typename Engine>
class SqlStore : public Store {
 public:
    Result<void> create_org(const Organization& org) override;
    Result<std::vector<Organization>> list_orgs() override;
    Result<Organization> get_org(std::string_view id) override;
    Result<void> update_org(const Organization& org) override;

    Result<void> create_key(const ApiKey& key) override;
    Result<std::vector<ApiKey>> list_keys(std::string_view org) override;
    Result<ApiKey> get_key(std::string_view org, std::string_view id) override;
    Result<ApiKey> get_key_any_org(std::string_view id) override;
    Result<ApiKey> find_key_by_hash(std::string_view key_hash) override;
    Result<std::vector<ApiKey>> keys_after(std::string_view id, std::size_t max) override;
    Result<void> revoke_key(std::string_view org, std::string_view id, TimeMs now) override;

    Result<std::vector<ProjectionEntry>> pending_projections(std::size_t max) override;
    Result<void> finish_projections(std::int64_t up_to_id) override;
    Result<std::vector<ProjectionEntry>> revocations(TimeMs now) override;

    Result<WebhookList> list_webhooks(std::string_view org, const WebhookFilter& filter) override;
    Result<Webhook> get_webhook(std::string_view org, std::string_view id) override;
    Result<Target> delivery_target(std::string_view webhook_id) override;
    Result<DeliveryStats> webhook_stats(std::string_view org, std::string_view id) override;

    Result<void> create_webhook(const Webhook& webhook) override;
    Result<Webhook> update_webhook(const Webhook& webhook, std::optional<std::int64_t> expected_version) override;
    Result<Webhook> set_webhook_active(std::string_view org, std::string_view id, bool is_active,
                                       std::string_view reason, TimeMs now) override;
    Result<void> add_webhook_secret(std::string_view org, std::string_view id, const WebhookSecret& secret,
                                    TimeMs others_expire_at) override;
    Result<void> delete_webhook(std::string_view org, std::string_view id, TimeMs now) override;

    Result<std::int64_t> count_replay(const Replay& replay, const Wants& wants) override;
    Result<Replay> create_replay(const Replay& replay, const Wants& wants) override;
    Result<Replay> get_replay(std::string_view org, std::string_view id) override;
    Result<std::vector<Replay>> list_replays(std::string_view org, std::string_view webhook_id) override;
    Result<std::vector<Replay>> running_replays() override;
    Result<Replay> set_replay_state(std::string_view org, std::string_view id, std::string_view state,
                                    TimeMs now) override;

    Result<std::vector<Event>> inbox(std::string_view org, const InboxQuery& query) override;
    Result<Event> get_event(std::string_view org, std::string_view id) override;
    Result<Event> ack_event(std::string_view org, std::string_view id, TimeMs now) override;
    Result<std::vector<Delivery>> deliveries_of_event(std::string_view org, std::string_view event_id) override;
    Result<std::vector<LedgerEntry>> ledger_of_event(std::string_view org, std::string_view event_id) override;
    Result<std::vector<Rollup>> rollups(std::string_view org, std::string_view webhook_id, TimeMs since,
                                        TimeMs until) override;
    Result<std::vector<ShardLease>> shard_leases() override;

 protected:
    explicit SqlStore(SecretBox secrets) : secrets_(std::move(secrets)) {}

    [[nodiscard]] std::string seal(std::string_view plain, const std::string& place);
    [[nodiscard]] std::string open(std::string_view sealed, const std::string& place);

    // Secrets are opened on request only: matching and lists do without them.
    enum class WithSecrets : bool { kNo, kYes };
    template <typename Row>
    Webhook read_webhook(const Row& row, WithSecrets with_secrets);
    Webhook webhook_row(std::string_view org, std::string_view id);  // with its secrets; throws kNotFound
    void raise_generation(std::string_view org, TimeMs now);
    Event event_row(std::string_view org, std::string_view id);    // throws kNotFound
    Replay replay_row(std::string_view org, std::string_view id);  // throws kNotFound

    SecretBox secrets_;

 private:
    std::string sealed_headers(const Webhook& webhook);
    std::string sealed_seed(const Webhook& webhook);
    void insert_secret(std::string_view webhook_id, const WebhookSecret& secret);
    void write_active(std::string_view id, bool is_active, std::string_view reason);
    std::int64_t newest_seq(std::string_view org);
    std::int64_t count_replay_now(const Replay& replay, const Wants& wants, std::int64_t seq_max);

    Engine& engine() { return static_cast<Engine&>(*this); }
    auto& db() { return engine().db_; }
};

}  // namespace headgate
