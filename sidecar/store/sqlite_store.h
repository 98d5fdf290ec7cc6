// The store on SQLite: WAL, synchronous=FULL, one file, one writing `headgate serve` (a lock on
// `<file>.lock`), command-line processes beside it.
//
// One class, split by topic: sqlite_store.cpp (opening, migrations, leases, counters), sqlite_ingest.cpp (persist,
// relay), sqlite_delivery.cpp (claims), sqlite_results.cpp (attempts, take-over), sqlite_recovery.cpp (by hand),
// sqlite_replay.cpp, sqlite_retention.cpp, sqlite_parts.cpp (lanes, rollups, ordering), sqlite_inbox.cpp,
// sqlite_shared.cpp (what sql_store.h has for both engines: organizations, keys, webhooks, much that is read).
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
#include "sidecar/store/sql_store.h"
#include "sidecar/store/sqlite_parts.h"
#include "sidecar/store/sqlite_statement.h"
#include "sidecar/store/sqlite_wal_thread.h"
#include "sidecar/store/store.h"

namespace headgate {

class SqliteStore final : public SqlStore<SqliteStore> {
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

    // From now on a thread beside this connection syncs and checkpoints what it commits. Throws SqliteError.
    void tend_wal_beside(const std::string& path) { wal_thread_.emplace(path).follow(db_); }
    // kInvalidArgument when the file's secrets were sealed under a master key that was not given.
    Result<void> check_master_key();

    Result<int> migrate() override;
    Result<int> schema_version() override;
    Result<std::vector<MigrationRow>> migrations() override;
    Result<LeaseView> renew_leases(const LeaseRound& round) override;

    Result<PersistOutcome> persist(const PersistBatch& batch, SubscriptionMatcher& matcher) override;
    Result<void> add_unwanted(std::span<const UnwantedCount> counts) override;

    Result<std::vector<ClaimedDelivery>> claim_due(const ClaimRequest& request) override;
    Result<void> together(const std::function<Result<void>()>& work) override;
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
        } catch (StoreFailure& failure) {
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
        if (auto is_there = guarded([this] { db_.check_place(); }); !is_there) {
            return tl::unexpected<Error>(std::move(is_there.error()));
        }
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
            db_.set_commits_wait(commits_wait_);
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

    // Writes down that something is sealed under the current key: without it the store is not opened any more.
    void note_master_key();
    // What of a change of the organization the edge has to know.
    void project_org(const Organization& before, const Organization& after);
    SealedCounts sealed_counts();
    std::vector<std::pair<std::string, std::string>> master_key_checks();  // name and value
    Result<void> look_for_overdue(OverdueSpread& spread);
    Result<void> count_overdue(OverdueSpread& spread);
    Result<void> spread_part(OverdueSpread& spread);
    Result<void> mend_part(OverdueSpread& spread);
    std::vector<Lease> lease_all(std::string_view kind, int parts, const LeaseRound& round);
    std::vector<AppliedMigration> applied_migrations();  // none when there is no schema yet
    void check_leases(const PersistBatch& batch);
    // Of those lanes that are ours: webhooks that have waiting deliveries and may send them, with when the first is
    // due.
    std::vector<std::pair<std::string, TimeMs>> waiting_webhooks(SqliteLanes& lanes);
    using DueRow = std::pair<TimeMs, std::int64_t>;  // due_at, rowid: the order in which they are sent
    std::vector<ClaimedDelivery> claim(const std::vector<DueRow>& due, TimeMs now);
    // Leaves an operational event, unless it would follow from another one.
    void disable_webhook(std::string_view id, std::string_view reason, TimeMs now, bool raises_event);
    void add_system_event(std::string_view org, std::string_view type, std::string_view payload, TimeMs now);
    // Ordering: may the head of a key let the next one go, given its state, status and webhook's policy?
    bool lets_go(std::string_view webhook_id, std::string_view state, std::string_view status);
    std::size_t release_order(std::int64_t head, std::string_view webhook_id, std::string_view ordering_key,
                              TimeMs now);
    // What SqlStore asks for.
    static const char* const kWebhookPage;
    static const char* const kWebhookTotal;
    void lock_org(std::string_view org);
    void order_projections() {}  // one writer at a time
    void settle_order(const Webhook& webhook, TimeMs now);
    void cancel_deliveries(std::string_view webhook, TimeMs now);
    std::int64_t count_missed(const Replay& replay, const Wants& wants, std::int64_t seq_max);
    void lock_replay(std::string_view, std::string_view) {}
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
    SqliteConnection db_;
    std::optional<SqliteWalThread> wal_thread_;
    bool is_together_ = false;  // inside of together()
    bool commits_wait_ = true;  // for the disk; see together()
    // How far the present pass of retention has looked: events that must stay are looked at once in a pass.
    struct PurgeCursor {
        std::string org;
        TimeMs created_at = 0;
        std::int64_t seq = 0;
    };
    PurgeCursor purge_cursor_;

    friend class SqlStore<SqliteStore>;
    friend class SqlitePersist;
    friend class SqliteResults;
};

[[noreturn]] inline void throw_lease_lost(const char* kind, int part) {
    throw SqliteError(
        {ErrorCode::kLeaseLost, std::string("the lease of ") + kind + " " + std::to_string(part) + " is not held"});
}
extern template class SqlStore<SqliteStore>;

}  // namespace headgate
