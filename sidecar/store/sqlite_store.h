// The store on SQLite: WAL, synchronous=FULL, one file, one writing `headgate serve` (a lock on
// `<file>.lock`), command-line processes beside it.
//
// One class, split by topic: sqlite_store.cpp (opening, migrations, leases, counters), sqlite_ingest.cpp (persist,
// relay), sqlite_delivery.cpp (claims), sqlite_results.cpp (attempts, take-over), sqlite_recovery.cpp (by hand),
// sqlite_replay.cpp, sqlite_retention.cpp, sqlite_parts.cpp (lanes, rollups, ordering), sqlite_orgs_keys.cpp,
// sqlite_webhooks.cpp (reading), sqlite_webhook_changes.cpp, sqlite_inbox.cpp.
#pragma once

#include <new>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>

#include "sidecar/store/migrations.h"
#include "sidecar/store/reseal.h"
#include "sidecar/store/row_readers.h"
#include "sidecar/store/secret_box.h"
#include "sidecar/store/sqlite_checkpoint.h"
#include "sidecar/store/sqlite_parts.h"
#include "sidecar/store/sqlite_statement.h"
#include "sidecar/store/store.h"

namespace headgate {

class SqliteStore final : public Store {
 public:
    // A held lock file; closed with the object.
    class FileLock {
     public:
        FileLock() = default;
        explicit FileLock(int fd) : fd_(fd) {}
        FileLock(FileLock&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
        FileLock& operator=(FileLock&& other) noexcept {
            std::swap(fd_, other.fd_);
            return *this;
        }
        ~FileLock();

     private:
        int fd_ = -1;
    };

    // Throws SqliteError when the file cannot be opened.
    SqliteStore(const std::string& path, bool read_only, SecretBox secrets, FileLock lock);

    // Checkpoints of what this connection commits are made beside it from now on. Throws SqliteError.
    void checkpoint_beside(const std::string& path) { checkpointer_.emplace(path).follow(db_); }
    // kInvalidArgument when the file's secrets were sealed under a master key that was not given.
    Result<void> check_master_key();

    Result<int> migrate() override;
    Result<int> schema_version() override;
    Result<std::vector<MigrationRow>> migrations() override;
    Result<LeaseView> renew_leases(const LeaseRound& round) override;

    Result<PersistOutcome> persist(const PersistBatch& batch, SubscriptionMatcher& matcher) override;

    Result<std::vector<ClaimedDelivery>> claim_due(const ClaimRequest& request) override;
    Result<void> together(const std::function<Result<void>()>& work) override;
    Result<std::optional<TimeMs>> next_due_at(Epochs lane_epochs) override;
    Result<RecordOutcome> record_attempts(std::span<const AttemptRecord> attempts, Epochs lane_epochs) override;
    Result<std::size_t> recover_in_flight(std::span<const int> lanes, Epochs lane_epochs, TimeMs now) override;
    Result<std::size_t> spread_overdue(std::span<const int> lanes, Epochs lane_epochs, TimeMs now, TimeMs overdue_ms,
                                       TimeMs spread_ms) override;
    Result<Target> delivery_target(std::string_view webhook_id) override;
    Result<std::optional<TimeMs>> oldest_due_at(TimeMs now, Epochs lane_epochs,
                                                std::span<const std::string> held_back) override;
    Result<DeliveryCounts> delivery_counts(TimeMs now) override;
    Result<std::vector<ShardLease>> shard_leases() override;
    Result<std::vector<Delivery>> deliveries_of_event(std::string_view org, std::string_view event_id) override;
    Result<Delivery> get_delivery(std::string_view org, std::string_view id) override;
    Result<std::vector<Delivery>> list_deliveries(std::string_view org, const DeliveryQuery& query) override;
    Result<Delivery> retry_delivery(std::string_view org, std::string_view id, TimeMs now) override;
    Result<Delivery> cancel_delivery(std::string_view org, std::string_view id, TimeMs now) override;
    Result<std::vector<LedgerEntry>> ledger_of_event(std::string_view org, std::string_view event_id) override;
    Result<std::int64_t> count_replay(const Replay& replay, const Wants& wants) override;
    Result<Replay> create_replay(const Replay& replay, const Wants& wants) override;
    Result<Replay> get_replay(std::string_view org, std::string_view id) override;
    Result<std::vector<Replay>> list_replays(std::string_view org, std::string_view webhook_id) override;
    Result<Replay> set_replay_state(std::string_view org, std::string_view id, std::string_view state,
                                    TimeMs now) override;
    Result<std::vector<Replay>> running_replays() override;
    Result<std::size_t> advance_replay(std::string_view id, const Wants& wants, std::size_t queued_max,
                                       TimeMs now) override;
    Result<std::size_t> relay_system_events(SubscriptionMatcher& matcher, std::size_t max, TimeMs now) override;
    Result<std::size_t> purge(const PurgeRequest& request) override;
    Result<std::vector<AttemptRecord>> attempts_of_delivery(std::string_view org,
                                                            std::string_view delivery_id) override;

    Result<void> create_org(const Organization& org) override;
    Result<std::vector<Organization>> list_orgs() override;
    Result<Organization> get_org(std::string_view id) override;
    Result<void> update_org(const Organization& org) override;

    Result<void> create_key(const ApiKey& key) override;
    Result<std::vector<ApiKey>> list_keys(std::string_view org) override;
    Result<ApiKey> get_key(std::string_view org, std::string_view id) override;
    Result<ApiKey> find_key_by_hash(std::string_view key_hash) override;
    Result<void> revoke_key(std::string_view org, std::string_view id, TimeMs now) override;
    Result<void> carry_usage(std::span<const KeyUsage> usage, Epochs shard_epochs) override;

    Result<std::vector<ProjectionEntry>> pending_projections(std::size_t max) override;
    Result<void> finish_projections(std::int64_t up_to_id) override;
    Result<ApiKey> get_key_any_org(std::string_view id) override;
    Result<std::vector<ApiKey>> keys_after(std::string_view id, std::size_t max) override;
    Result<std::vector<ProjectionEntry>> revocations(TimeMs now) override;

    Result<void> create_webhook(const Webhook& webhook) override;
    Result<WebhookList> list_webhooks(std::string_view org, const WebhookFilter& filter) override;
    Result<Webhook> get_webhook(std::string_view org, std::string_view id) override;
    Result<DeliveryStats> webhook_stats(std::string_view org, std::string_view id) override;
    Result<Webhook> update_webhook(const Webhook& webhook, std::optional<std::int64_t> expected_version) override;
    Result<Webhook> set_webhook_active(std::string_view org, std::string_view id, bool is_active,
                                       std::string_view reason, TimeMs now) override;
    Result<void> add_webhook_secret(std::string_view org, std::string_view id, const WebhookSecret& secret,
                                    TimeMs others_expire_at) override;
    Result<void> delete_webhook(std::string_view org, std::string_view id, TimeMs now) override;
    Result<std::vector<Rollup>> rollups(std::string_view org, std::string_view webhook_id, TimeMs since,
                                        TimeMs until) override;

    Result<std::vector<Event>> inbox(std::string_view org, const InboxQuery& query) override;
    Result<EventPage> list_events(std::string_view org, const EventQuery& query) override;
    Result<Event> ack_event(std::string_view org, std::string_view id, TimeMs now) override;
    Result<Event> get_event(std::string_view org, std::string_view id) override;

    Result<std::vector<SealedUnder>> sealed_under() override;
    Result<ResealStep> reseal(std::string_view after, std::size_t rows_max) override;

    Result<Totals> totals() override;
    Result<void> ping() override;

 private:
    // Runs `work` and turns what it throws into an Error.
    template <typename Work>
    auto guarded(Work work) -> Result<std::invoke_result_t<Work&>> {
        try {
            if constexpr (std::is_void_v<std::invoke_result_t<Work&>>) {
                work();
                return {};
            } else {
                return work();
            }
        } catch (SqliteError& failure) {
            return tl::unexpected<Error>(std::move(failure.error));
        } catch (const std::bad_alloc&) {
            return fail(ErrorCode::kUnavailable, "store: out of memory");
        } catch (const std::exception& failure) {
            return fail(ErrorCode::kInternal, std::string("store: ") + failure.what());
        }
    }
    // The same in one transaction, rolled back when `work` throws. IMMEDIATE takes the write lock at
    // the start: a transaction that read first could not wait for it.
    template <typename Work>
    auto write(Work work) -> Result<std::invoke_result_t<Work&>> {
        return transaction("BEGIN IMMEDIATE", std::move(work));
    }
    // Several reads of one state.
    template <typename Work>
    auto read(Work work) -> Result<std::invoke_result_t<Work&>> {
        return transaction("BEGIN", std::move(work));
    }
    template <typename Work>
    auto transaction(const char* begin, Work work) -> Result<std::invoke_result_t<Work&>> {
        if (is_together_) return part_of_transaction(std::move(work));
        auto result = guarded([&]() -> std::invoke_result_t<Work&> {
            db_.execute(begin);
            if constexpr (std::is_void_v<std::invoke_result_t<Work&>>) {
                work();
                db_.execute("COMMIT");
            } else {
                auto value = work();
                db_.execute("COMMIT");
                return value;
            }
        });
        if (!result && db_.in_transaction()) roll_back();
        return result;
    }
    void roll_back() noexcept;
    // Inside of together(): what it wrote is undone when it fails, and no more.
    template <typename Work>
    auto part_of_transaction(Work work) -> Result<std::invoke_result_t<Work&>> {
        auto result = guarded([&]() -> std::invoke_result_t<Work&> {
            // A full disk ends the whole transaction; a savepoint would begin another one.
            if (!db_.in_transaction()) throw SqliteError({ErrorCode::kUnavailable, "store: the transaction has ended"});
            db_.execute("SAVEPOINT part");
            if constexpr (std::is_void_v<std::invoke_result_t<Work&>>) {
                work();
                db_.execute("RELEASE part");
            } else {
                auto value = work();
                db_.execute("RELEASE part");
                return value;
            }
        });
        if (!result && db_.in_transaction()) roll_back_part();
        return result;
    }
    void roll_back_part() noexcept;

    [[nodiscard]] std::string seal(std::string_view plain, const std::string& place);
    // Writes down that something is sealed under the current key: without it the store is not opened any more.
    void note_master_key();
    void project_org(const Organization& before, const Organization& after);
    SealedCounts sealed_counts();
    std::vector<std::pair<std::string, std::string>> master_key_checks();  // name and value
    [[nodiscard]] std::string open(std::string_view sealed, const std::string& place);
    Result<std::size_t> mend_times_ahead(std::span<const int> parts, Epochs lane_epochs, TimeMs now);
    std::vector<Lease> lease_all(std::string_view kind, int parts, const LeaseRound& round);
    std::vector<AppliedMigration> applied_migrations();  // none when there is no schema yet
    void check_leases(const PersistBatch& batch);
    // Secrets are opened on request only: matching and lists do without them.
    enum class WithSecrets : bool { kNo, kYes };
    Webhook read_webhook(const SqliteQuery& row, WithSecrets with_secrets);
    Webhook webhook_row(std::string_view org, std::string_view id);  // with its secrets; throws kNotFound
    std::string sealed_headers(const Webhook& webhook);
    std::string sealed_seed(const Webhook& webhook);
    void insert_secret(std::string_view webhook_id, const WebhookSecret& secret);
    Event event_row(std::string_view org, std::string_view id);  // throws kNotFound
    // Of those lanes that are ours: webhooks that have waiting deliveries and may send them, with when the first is
    // due.
    std::vector<std::pair<std::string, TimeMs>> waiting_webhooks(SqliteLanes& lanes);
    using DueRow = std::pair<TimeMs, std::int64_t>;  // due_at, rowid: the order in which they are sent
    std::vector<ClaimedDelivery> claim(const std::vector<DueRow>& due, TimeMs now);
    void write_active(std::string_view id, bool is_active, std::string_view reason);
    void raise_generation(std::string_view org, TimeMs now);
    // Leaves an operational event, unless it would follow from another one.
    void disable_webhook(std::string_view id, std::string_view reason, TimeMs now, bool raises_event);
    void add_system_event(std::string_view org, std::string_view type, std::string_view payload, TimeMs now);
    // Ordering: may the head of a key let the next one go, given its state, status and webhook's policy?
    bool lets_go(std::string_view webhook_id, std::string_view state, std::string_view status);
    std::size_t release_order(std::int64_t head, std::string_view webhook_id, std::string_view ordering_key,
                              TimeMs now);
    void settle_order(const Webhook& webhook, TimeMs now);
    void uncount_dead(const Delivery& delivery, std::string_view replay_id);
    void set_by_hand(const Delivery& delivery, std::string_view state, std::string_view status, TimeMs due_at,
                     TimeMs now);
    struct ByHand {
        Delivery delivery;
        std::int64_t rowid = 0;
        bool holds_order = false;
        std::string replay_id;
    };
    ByHand delivery_by_hand(std::string_view org, std::string_view id);  // throws kNotFound
    Replay replay_row(std::string_view org, std::string_view id);        // throws kNotFound
    std::int64_t newest_seq(std::string_view org);
    std::int64_t count_missed(const Replay& replay, const Wants& wants, std::int64_t seq_max);
    bool is_missed(const Replay& replay, std::string_view event_id);
    struct ReplayStep {
        std::size_t made = 0, seen = 0;
        bool is_over = false;  // ended, paused or full
    };
    ReplayStep replay_step(std::string_view id, const Wants& wants, std::size_t queued_max, TimeMs now);
    struct PurgeStep {
        std::size_t purged = 0;
        bool is_over = false;
    };
    PurgeStep purge_events(const PurgeRequest& request);
    std::size_t purge_rest(const PurgeRequest& request);

    FileLock lock_;
    SecretBox secrets_;
    SqliteConnection db_;
    std::optional<SqliteCheckpointer> checkpointer_;
    bool is_together_ = false;  // inside of together()
    // How far the present pass of retention has looked: events that must stay are looked at once in a pass.
    struct PurgeCursor {
        std::string org;
        TimeMs created_at = 0;
        std::int64_t seq = 0;
    };
    PurgeCursor purge_cursor_;

    friend class SqlitePersist;
    friend class SqliteResults;
};

[[noreturn]] inline void throw_lease_lost(const char* kind, int part) {
    throw SqliteError(
        {ErrorCode::kLeaseLost, std::string("the lease of ") + kind + " " + std::to_string(part) + " is not held"});
}
[[noreturn]] inline void throw_conflict(std::string message) {
    throw SqliteError({ErrorCode::kConflict, std::move(message)});
}
[[noreturn]] inline void throw_not_found(std::string_view what, std::string_view id) {
    throw SqliteError({ErrorCode::kNotFound, std::string(what) + " " + std::string(id) + " does not exist"});
}

}  // namespace headgate
