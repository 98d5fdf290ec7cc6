// One persist transaction in progress; see postgres_ingest.cpp. The relay of operational events uses it as well.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "sidecar/store/id_source.h"
#include "sidecar/store/postgres_parts.h"
#include "sidecar/store/postgres_store.h"

namespace headgate {

class PostgresPersist {
 public:
    enum class WithLeases : bool { kNo, kYes };  // kNo: the caller's lane is what entitles it
    PostgresPersist(PostgresStore& store, const PersistBatch& batch, SubscriptionMatcher& matcher,
                    WithLeases with_leases = WithLeases::kYes)
        : store_(store), db_(store.db_), batch_(batch), matcher_(matcher), with_leases_(with_leases), ids_(batch.now) {}

    PersistOutcome run();
    [[nodiscard]] std::vector<PostgresStore::Doubtful> take_claimed() { return std::move(claimed_); }

 private:
    struct Org {
        std::string_view id;
        bool exists = false;
        bool is_suspended = false;
        std::int64_t generation = 0, seq = 0, matched = 0, made = 0;
    };
    struct NewEvent {
        std::size_t index = 0;
        std::int64_t seq = 0;
    };
    struct NewDelivery {
        std::size_t event_index = 0;
        Org* org = nullptr;
        int lane = 0;
        std::string webhook_id;
        std::string_view ordering_key;
        std::string_view state = "queued";
        bool holds_order = false;
    };
    struct Unmatched {
        std::size_t index = 0;
        std::string_view reason;
    };

    void lock_and_look();
    Org& org_of(std::string_view id);
    void match_events();
    void match_event(std::size_t index, Org& org);
    void load_subscriptions(const Org& org);
    static bool is_storable(const EventRecord& event);
    void decide_order_and_claims();
    [[nodiscard]] bool has_lane(int lane) const;
    [[nodiscard]] StreamPosition position_of(std::size_t index) const;
    void send_rows();
    void send_events();
    void send_deliveries();
    void send_ledger();
    void send_organizations();
    void quarantine_event(std::size_t index, std::string reason);
    void quarantine(const QuarantineEntry& entry);

    PostgresStore& store_;
    PgConnection& db_;
    const PersistBatch& batch_;
    SubscriptionMatcher& matcher_;
    WithLeases with_leases_;
    IdSource ids_;
    std::vector<Org> orgs_;  // sorted by id; does not move any more when deliveries point into it
    PgResult existing_;
    std::vector<NewEvent> new_events_;
    std::vector<NewDelivery> deliveries_;
    std::vector<Unmatched> unmatched_;
    std::vector<QuarantineEntry> strangers_;
    std::vector<SubscriptionMatcher::Match> matches_;
    std::vector<PostgresStore::Doubtful> claimed_;
    PgRollups rollups_;
    PersistOutcome outcome_;
};

}  // namespace headgate
