// The store on PostgreSQL: any number of `headgate serve`, each with a few of these, each of these with one connection.
//
// One class, split by topic: postgres_store.cpp (opening, migrations, counters), postgres_partitions.cpp,
// postgres_leases.cpp, postgres_ingest.cpp (persist), postgres_claims.cpp, postgres_results.cpp,
// postgres_deliveries.cpp (reading, by hand), postgres_replays.cpp, postgres_retention.cpp, postgres_inbox.cpp,
// postgres_shared.cpp (what sql_store.h has for both engines: organizations, keys, webhooks, much that is read).
//
// Locks are taken in one order, so that transactions never wait for each other in a ring: lease rows, organizations (by
// id), webhooks (by id), ordering keys (advisory, by number), deliveries. Lease rows are locked FOR KEY SHARE, which
// the renewal of a lease does not disturb; who changes an owner locks FOR UPDATE first, and so waits for the
// transactions that have compared the epoch.
#pragma once

#include <new>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "sidecar/store/migrations.h"
#include "sidecar/store/postgres_connection.h"
#include "sidecar/store/reseal.h"
#include "sidecar/store/row_readers.h"
#include "sidecar/store/secret_box.h"
#include "sidecar/store/sql_store.h"
#include "sidecar/store/store.h"

namespace headgate {

class PostgresStore final : public SqlStore<PostgresStore> {
 public:
    PostgresStore(PgTarget target, SecretBox secrets) : SqlStore(std::move(secrets)), db_(std::move(target)) {}

    // Connects. kInvalidArgument when the store's secrets were sealed under a master key that was not given.
    Result<void> check_master_key();
    // What opening says in place of this error: kUnavailable is worth waiting for.
    [[nodiscard]] Error final_error(Error error);

    Result<int> migrate() override;
    Result<int> schema_version() override;
    Result<std::vector<MigrationRow>> migrations() override;
    Result<LeaseView> renew_leases(const LeaseRound& round) override;

    Result<PersistOutcome> persist(const PersistBatch& batch, SubscriptionMatcher& matcher) override;
    Result<void> add_unwanted(std::span<const UnwantedCount> counts) override;

    Result<std::vector<ClaimedDelivery>> claim_due(const ClaimRequest& request) override;
    Result<std::optional<TimeMs>> next_due_at(Epochs lane_epochs) override;
    Result<RecordOutcome> record_attempts(std::span<const AttemptRecord> attempts, Epochs lane_epochs) override;
    Result<std::size_t> recover_in_flight(std::span<const int> lanes, Epochs lane_epochs, TimeMs now) override;
    Result<void> spread_overdue(OverdueSpread& spread) override;
    Result<std::optional<TimeMs>> oldest_due_at(TimeMs now, Epochs lane_epochs,
                                                std::span<const std::string> held_back) override;
    Result<DeliveryCounts> delivery_counts(TimeMs now) override;
    Result<Delivery> get_delivery(std::string_view org, std::string_view id) override;
    Result<std::vector<Delivery>> list_deliveries(std::string_view org, const DeliveryQuery& query) override;
    Result<Delivery> retry_delivery(std::string_view org, std::string_view id, TimeMs now) override;
    Result<Delivery> cancel_delivery(std::string_view org, std::string_view id, TimeMs now) override;
    Result<std::size_t> advance_replay(std::string_view id, const Wants& wants, std::size_t queued_max,
                                       TimeMs now) override;
    Result<std::size_t> relay_system_events(SubscriptionMatcher& matcher, std::size_t max, TimeMs now) override;
    Result<std::size_t> purge(const PurgeRequest& request) override;
    Result<std::vector<AttemptRecord>> attempts_of_delivery(std::string_view org,
                                                            std::string_view delivery_id) override;

    Result<void> carry_usage(std::span<const KeyUsage> usage, Epochs shard_epochs) override;
    Result<EventPage> list_events(std::string_view org, const EventQuery& query) override;

    Result<std::vector<SealedUnder>> sealed_under() override;
    Result<ResealStep> reseal(std::string_view after, std::size_t rows_max) override;

    Result<Totals> totals() override;
    Result<void> ping() override;

 private:
    // Runs `work`, connected, and turns what it throws into an Error.
    template <typename Work>
    auto guarded(Work work) -> Result<std::invoke_result_t<Work&>> {
        try {
            db_.ensure();
            if constexpr (std::is_void_v<std::invoke_result_t<Work&>>) {
                work();
                return {};
            } else {
                return work();
            }
        } catch (StoreFailure& failure) {
            return tl::unexpected<Error>(std::move(failure.error));
        } catch (const std::bad_alloc&) {
            return fail(ErrorCode::kUnavailable, "store: out of memory");
        } catch (const std::exception& failure) {
            return fail(ErrorCode::kInternal, std::string("store: ") + failure.what());
        }
    }
    // The same in one transaction, rolled back when `work` throws. BEGIN and COMMIT travel with the statements beside
    // them. When the connection is lost at the end, kUnavailable may stand for a transaction that was committed.
    template <typename Work>
    auto write(Work work) -> Result<std::invoke_result_t<Work&>> {
        return transaction("BEGIN", std::move(work));
    }
    // Several reads of one state.
    template <typename Work>
    auto read(Work work) -> Result<std::invoke_result_t<Work&>> {
        return transaction("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", std::move(work));
    }
    template <typename Work>
    auto transaction(const char* begin, Work work) -> Result<std::invoke_result_t<Work&>> {
        auto result = guarded([&]() -> std::invoke_result_t<Work&> {
            db_.send(begin);
            if constexpr (std::is_void_v<std::invoke_result_t<Work&>>) {
                work();
                commit();
            } else {
                auto value = work();
                commit();
                return value;
            }
        });
        if (!result) db_.roll_back();
        return result;
    }
    void commit() {
        db_.send("COMMIT");
        db_.flush();
    }

    int apply_migrations();
    // Writes down that something is sealed under the current key: without it the store is not opened any more.
    void note_master_key();
    // What of a change of the organization the edge has to know.
    void project_org(const Organization& before, const Organization& after);
    SealedCounts sealed_counts();

    // Locks the lease rows, in order of part, and compares. A shard that is not held at its epoch throws kLeaseLost; of
    // the lanes those that are held come back, true by part. Two halves each: what is queued, and what the answer
    // means.
    std::size_t send_shard_locks(const std::vector<int>& shards);
    static void check_shards(PgResult rows, const std::vector<int>& shards, Epochs epochs);
    std::size_t send_lane_locks(const std::vector<int>& sorted_lanes);
    static std::vector<bool> held_lanes(PgResult rows, Epochs epochs);
    std::vector<bool> held_lanes_now(const std::vector<int>& sorted_lanes, Epochs epochs);  // both halves

    Delivery delivery_row(std::string_view org, std::string_view id);  // throws kNotFound
    // Webhooks of our lanes that have waiting deliveries and may send them, with when the first is due: the oldest
    // first.
    std::vector<std::pair<std::string, TimeMs>> waiting_webhooks(Epochs lane_epochs);
    std::vector<ClaimedDelivery> claim(const PgArray& ids, TimeMs now);
    // What SqlStore asks for.
    static const char* const kWebhookPage;
    static const char* const kWebhookTotal;
    void lock_org(std::string_view org);  // against persists and other changes of its subscriptions
    void order_projections();
    void cancel_deliveries(std::string_view webhook, TimeMs now);
    std::int64_t count_missed(const Replay& replay, const Wants& wants, std::int64_t seq_max);
    void lock_replay(std::string_view org, std::string_view id);
    // Locks (webhook, ordering key) against other changes of their order; the answer has those that have a head.
    std::size_t send_heads(const std::vector<std::pair<std::string_view, std::string_view>>& keys);

    struct OrderingKey {
        std::string_view webhook_id, ordering_key;
        TimeMs now = 0;
    };
    // Their heads have let go, in a statement before: the first that waits becomes the head, and is due.
    std::size_t send_next_heads(const std::vector<OrderingKey>& keys);
    // After a change of what a webhook orders: what may go now goes.
    void settle_order(const Webhook& webhook, TimeMs now);
    void send_system_event(std::string_view org, std::string_view type, std::string_view payload, TimeMs now);

    struct ByHand {
        Delivery delivery;
        bool holds_order = false;
        std::string replay_id;
    };
    ByHand lock_delivery(std::string_view org, std::string_view id);  // throws kNotFound
    void uncount_dead(const ByHand& row);
    void set_by_hand(const Delivery& delivery, std::string_view state, std::string_view status, TimeMs due_at,
                     TimeMs now);
    struct ReplayStep {
        std::size_t made = 0, seen = 0;
        bool is_over = false;  // ended, paused or full
    };
    ReplayStep replay_step(std::string_view id, const Wants& wants, std::size_t queued_max, TimeMs now);
    std::size_t drop_old_partition(const PurgeRequest& request);
    struct PurgeStep {
        std::size_t purged = 0;
        bool is_over = false;
    };
    PurgeStep purge_events(const PurgeRequest& request);
    std::size_t purge_rest(const PurgeRequest& request);
    // How far the present pass of retention has looked: events that must stay are looked at once in a pass.
    struct PurgeCursor {
        std::string org;
        TimeMs created_at = 0;
        std::int64_t seq = 0;
    };
    PurgeCursor purge_cursor_;

    // What a failed call may have claimed nevertheless (its commit's answer was lost): due again with the next call.
    struct Doubtful {
        std::string delivery_id;
        int lane = 0;
        std::int64_t epoch = 0;
    };
    Result<void> look_for_overdue(OverdueSpread& spread);
    Result<void> count_overdue(OverdueSpread& spread);
    Result<void> spread_part(OverdueSpread& spread);
    Result<void> mend_part(OverdueSpread& spread);
    void release_doubtful(Epochs lane_epochs);
    void doubt(std::vector<Doubtful> claimed);

    std::vector<AppliedMigration> applied_migrations();  // none when there is no schema yet
    void refuse_unfinished_copy();                       // throws kConflict
    // Partitions by range of id: of this week and the next ones.
    void make_partitions(TimeMs now);

    PgConnection db_;
    std::vector<Doubtful> doubtful_;

    friend class SqlStore<PostgresStore>;
    friend class PostgresPersist;
    friend class PostgresResults;
};

extern template class SqlStore<PostgresStore>;

[[noreturn]] inline void throw_lane_lost(int lane) {
    throw PgError({ErrorCode::kLeaseLost, "the lease of lane " + std::to_string(lane) + " is not held"});
}

}  // namespace headgate
