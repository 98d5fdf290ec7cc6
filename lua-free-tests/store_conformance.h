// One suite for every store: what the Store interface promises, tested through that interface only.
// A test file of an engine implements StoreFactory and runs store_conformance_tests().
#pragma once

#include <algorithm>
#include <map>
#include <memory>
#include <numeric>
#include <source_location>
#include <stdexcept>
#include <string>
#include <vector>

#include "common/event_id.h"
#include "lua-free-tests/cmocka_cpp.h"  // last
#include "sidecar/store/lane.h"
#include "sidecar/store/owned_parts.h"

namespace headgate::conformance {

class StoreFactory {
 public:
    virtual ~StoreFactory() = default;
    // Another connection to the same store. Throws std::runtime_error when it cannot be opened.
    virtual std::unique_ptr<Store> open() = 0;
    // The same with other master keys than kMasterKey, the first one current.
    virtual std::unique_ptr<Store> open_with(const std::vector<std::string>&) {
        throw std::runtime_error("this store has one master key");
    }
    // Everything that the engine keeps, as bytes: no secret may be in it.
    virtual std::string raw_bytes() = 0;
    // The first value of the first row, for what the interface neither writes nor shows.
    virtual std::string run_sql(const std::string&) { throw std::runtime_error("no SQL beside this store"); }
    // As if everybody who holds a lease had died long ago. An engine of one instance lets the next one take all at
    // once.
    virtual void expire_leases() {}
};
using MakeFactory = std::unique_ptr<StoreFactory> (*)();
inline MakeFactory make_factory = nullptr;  // set by the engine's main()

inline constexpr TimeMs kNow = 1'800'000'000'000;

inline const std::string kMasterKey(32, 'k');  // what open() gives the store
inline StoreOptions with_keys(StoreOptions options, const std::vector<std::string>& keys) {
    options.master_key = keys.at(0);
    options.previous_master_keys.assign(keys.begin() + 1, keys.end());
    return options;
}

// Subscriptions by exact type or "*", a filter that lets nothing pass (kNothing), and a trap: an event of type
// `poison.pill` cannot be matched.
inline constexpr std::string_view kNothing = R"({"never": 1})";
class ExactMatcher : public SubscriptionMatcher {
 public:
    bool is_current(std::string_view org, std::int64_t generation) const override {
        auto found = orgs_.find(std::string(org));
        return found != orgs_.end() && found->second.generation == generation;
    }
    void load(std::string_view org, std::int64_t generation, std::vector<Webhook> webhooks) override {
        loads++;
        orgs_[std::string(org)] = {generation, std::move(webhooks)};
    }
    void match(const EventRecord& event, std::vector<Match>& out) override {
        if (event.type == "poison.pill") throw std::runtime_error("this event cannot be matched");
        for (const Webhook& webhook : orgs_[std::string(event.org)].webhooks) {
            bool wants = std::any_of(webhook.events.begin(), webhook.events.end(), [&](const std::string& pattern) {
                return pattern == event.type || (pattern == "*" && event.via != "system");
            });
            if (!wants) continue;
            out.push_back({webhook.id, webhook.ordering == "key",
                           !webhook.is_active            ? Verdict::kDisabled
                           : webhook.filters == kNothing ? Verdict::kFiltered
                                                         : Verdict::kWanted});
        }
    }
    Unwanted match_wanted(const EventRecord& event, std::vector<Match>& out) override {
        std::vector<Match> all;
        match(event, all);
        Unwanted unwanted;
        for (Match& each : all) {
            if (each.verdict == Verdict::kWanted) {
                out.push_back(std::move(each));
                continue;
            }
            const bool is_filtered = each.verdict == Verdict::kFiltered;
            (is_filtered ? unwanted.has_filtered : unwanted.has_disabled) = true;
            noted_.push_back({each.webhook_id, std::string(event.type), 0, is_filtered ? 1 : 0, is_filtered ? 0 : 1});
        }
        return unwanted;
    }
    void settle(bool is_committed, TimeMs now) override {
        for (UnwantedCount& count : noted_) {
            count.hour_at = now - now % 3'600'000;
            if (is_committed) counted_.push_back(std::move(count));
        }
        noted_.clear();
    }
    std::vector<UnwantedCount> take_unwanted() override { return std::exchange(counted_, {}); }
    int loads = 0;

 private:
    std::vector<UnwantedCount> noted_, counted_;
    struct Known {
        std::int64_t generation = 0;
        std::vector<Webhook> webhooks;
    };
    std::map<std::string, Known> orgs_;
};

// An event whose text it owns.
struct SampleEvent {
    std::string id = uuid7(kNow), org, type = "order.created", payload = R"({"amount": 1.50})", ordering_key = "";
    TimeMs at = kNow;
    std::string via = "api";
    [[nodiscard]] EventRecord record() const {
        return {.id = id,
                .org = org,
                .key_id = "key-1",
                .type = type,
                .source = "shop",
                .payload = payload,
                .ordering_key = ordering_key,
                .traceparent = "",
                .via = via,
                .at_ms = at};
    }
};

// What one instance owns after a round of leases.
inline OwnedPartsPtr take_parts(Store& store, std::string_view owner, int shards = 4, TimeMs now = kNow) {
    LeaseRound round;
    round.owner = owner;
    round.shards = shards;
    round.lanes = kLanes;
    round.now = now;
    auto view = store.renew_leases(round);
    if (!view) throw std::runtime_error("no leases: " + view.error().message);
    return owned_parts(*view, shards, kLanes);
}

inline std::vector<int> every_lane() {
    std::vector<int> lanes(kLanes);
    std::iota(lanes.begin(), lanes.end(), 0);
    return lanes;
}

// A store with one organization ("org-a"), its leases taken.
struct World {
    std::unique_ptr<StoreFactory> factory;
    std::unique_ptr<Store> store;
    ExactMatcher matcher;
    OwnedPartsPtr owned;

    World() : factory(make_factory()), store(factory->open()) {
        require(store->migrate().has_value());
        add_org("org-a");
        owned = take_parts(*store, "owner");
    }
    static void require(bool ok, std::source_location at = std::source_location::current()) {
        if (!ok) {
            throw std::runtime_error(std::string("the test's own preparation failed, ") + at.file_name() + ":" +
                                     std::to_string(at.line()));
        }
    }
    // The owner leaves and another one takes its place: what it still believes to own is returned.
    OwnedPartsPtr hand_over() {
        LeaseRound leaving;
        leaving.owner = "owner";
        leaving.shards = 4;
        leaving.lanes = kLanes;
        leaving.is_leaving = true;
        leaving.now = kNow;
        require(store->renew_leases(leaving).has_value());
        return std::exchange(owned, take_parts(*store, "successor"));
    }
    void add_org(const std::string& id, bool is_suspended = false) {
        require(store
                    ->create_org({.id = id,
                                  .name = id,
                                  .plan = "pro",
                                  .is_suspended = is_suspended,
                                  .allow_networks = {"10.0.0.0/8"},
                                  .created_at = kNow,
                                  .updated_at = kNow})
                    .has_value());
    }
    [[nodiscard]] Webhook sample_webhook(const std::string& id, const std::string& org = "org-a") const {
        Webhook webhook;
        webhook.id = id;
        webhook.org = org;
        webhook.name = "to " + id;
        webhook.url = "https://example.com/" + id;
        webhook.events = {"order.created"};
        webhook.headers = {{"Authorization", "Bearer very-secret-header-value"}, {"X-Plain", ""}};
        webhook.secrets = {{std::string("new-webhook-secret\0bytes", 24), kNow, std::nullopt},
                           {"old-webhook-secret-bytes", kNow - 1000, kNow + 5000}};
        webhook.filters = R"({"min_amount": 1})";
        webhook.retry = {.max_retries = 3, .schedule_ms = {1000, 2000}, .retry_delay_ms = 5, .backoff_multiplier = 2.5};
        webhook.timeout_ms = 12'345;
        webhook.max_in_flight = 7;
        webhook.created_at = webhook.updated_at = kNow;
        return webhook;
    }
    void add_webhook(const std::string& id, const std::string& org = "org-a", bool is_active = true) {
        Webhook webhook = sample_webhook(id, org);
        webhook.is_active = is_active;
        require(store->create_webhook(webhook).has_value());
    }
    Result<PersistOutcome> persist(const std::vector<SampleEvent>& events, bool claims = false,
                                   OwnedPartsPtr as = nullptr, TimeMs now = kNow) {
        if (as == nullptr) as = owned;
        std::vector<EventRecord> records;
        std::vector<StreamPosition> positions;
        for (const SampleEvent& event : events) {
            records.push_back(event.record());
            positions.push_back({static_cast<int>(positions.size() % 4), 1000 + positions.size(), 7});
        }
        return store->persist({.shard_epochs = as->shard_epochs,
                               .lane_epochs = as->lane_epochs,
                               .events = records,
                               .positions = positions,
                               .quarantine = {},
                               .now = now,
                               .claim = [claims](std::string_view) { return claims; }},
                              matcher);
    }
    // `count` events of one webhook, due at now, now + 1, …; their delivery ids.
    std::vector<std::string> add_deliveries(int count, TimeMs first_due, bool claims = false) {
        std::vector<std::string> ids;
        for (int i = 0; i < count; i++) {
            auto outcome = persist({{.org = "org-a"}}, claims, nullptr, first_due + i);
            require(outcome.has_value());
            for (const auto& delivery : outcome->deliveries) ids.push_back(delivery.delivery_id);
        }
        return ids;
    }
    [[nodiscard]] AttemptRecord attempt(const PersistedDelivery& delivery, AttemptOutcome outcome,
                                        int number = 1) const {
        return {.delivery_id = delivery.delivery_id,
                .webhook_id = delivery.webhook_id,
                .org = "org-a",
                .number = number,
                .started_at = kNow + 10,
                .finished_at = kNow + 30,
                .duration_ms = 20,
                .status_code = outcome == AttemptOutcome::kSuccess ? 200 : 503,
                .error_type = outcome == AttemptOutcome::kSuccess ? "" : "http_503",
                .error_message = "",
                .request_headers = R"({"X":"1"})",
                .response_headers = R"({"Y":"2"})",
                .response_body = "the answer",
                .outcome = outcome,
                .next_attempt_at = kNow + 60'000,
                .disable_webhook_reason = ""};
    }
    // State and status of the only delivery of an event: "success/success"; "none" or "several".
    std::string state_of(const std::string& event_id) {
        auto found = store->deliveries_of_event("org-a", event_id);
        if (!found || found->empty()) return "none";
        return found->size() > 1 ? "several" : found->front().state + "/" + found->front().status;
    }
    std::vector<ClaimedDelivery> claim(TimeMs now, std::size_t total_max, int room) {
        auto claimed =
            store->claim_due({now, total_max, owned->lane_epochs, [room](std::string_view) { return room; }});
        require(claimed.has_value());
        return std::move(*claimed);
    }
};

template <typename T>
[[nodiscard]] inline int code_of(const Result<T>& result) {
    return result ? -1 : static_cast<int>(result.error().code);
}
inline constexpr int kOk = -1;
inline constexpr int kNotFound = static_cast<int>(ErrorCode::kNotFound);
inline constexpr int kConflict = static_cast<int>(ErrorCode::kConflict);
inline constexpr int kLeaseLost = static_cast<int>(ErrorCode::kLeaseLost);
inline constexpr int kUnprocessable = static_cast<int>(ErrorCode::kUnprocessable);

inline World& world_of(void** state) { return *static_cast<World*>(*state); }

inline int make_world(void** state) {
    try {
        *state = new World();
        return 0;
    } catch (const std::exception& failure) {
        print_error("%s\n", failure.what());
        return -1;
    }
}
inline int drop_world(void** state) {
    delete static_cast<World*>(*state);
    return 0;
}

}  // namespace headgate::conformance

#define WORLD_TEST(name) cmocka_unit_test_setup_teardown(name, make_world, drop_world)

#include "lua-free-tests/store_conformance_changes.h"
#include "lua-free-tests/store_conformance_delivery.h"
#include "lua-free-tests/store_conformance_ingest.h"
#include "lua-free-tests/store_conformance_lanes.h"
#include "lua-free-tests/store_conformance_master_key.h"
#include "lua-free-tests/store_conformance_ordering.h"
#include "lua-free-tests/store_conformance_recovery.h"
#include "lua-free-tests/store_conformance_replay.h"
#include "lua-free-tests/store_conformance_retention.h"
#include "lua-free-tests/store_conformance_rows.h"
#include "lua-free-tests/store_conformance_schema.h"
#include "lua-free-tests/store_conformance_system.h"

namespace headgate::conformance {

inline std::vector<CMUnitTest> store_conformance_tests() {
    std::vector<CMUnitTest> tests;
    for (const auto& group :
         {row_tests(), schema_tests(), change_tests(), master_key_tests(), ingest_tests(), delivery_tests(),
          lane_tests(), ordering_tests(), recovery_tests(), replay_tests(), retention_tests(), system_tests()}) {
        tests.insert(tests.end(), group.begin(), group.end());
    }
    return tests;
}

}  // namespace headgate::conformance
