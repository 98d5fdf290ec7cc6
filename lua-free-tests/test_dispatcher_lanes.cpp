// links: headgate_deliver headgate_match headgate_store
// The dispatcher while lanes come, leave and are lost.
#include <spdlog/spdlog.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "lua-free-tests/cmocka_cpp.h"  // last
#include "lua-free-tests/loopback_server.h"
#include "lua-free-tests/run_awaitable.h"
#include "lua-free-tests/stub_store.h"
#include "sidecar/base/wall_clock.h"
#include "sidecar/deliver/dispatcher.h"
#include "sidecar/store/lane.h"

using namespace headgate;
using std::chrono::milliseconds;

namespace {

constexpr const char* kWebhook = "wh";
const auto kLane = static_cast<std::size_t>(lane_of(kWebhook));
constexpr const char* kOverdueWebhook = "overdue";
const int kOverdueLane = lane_of(kOverdueWebhook);

// ---- deliveries of one webhook, and the lease of its lane, in memory ------------------------

struct Table {
    std::mutex mutex;
    std::string url;
    std::int64_t epoch = 1;  // of the lane, as the store has it
    std::map<std::string, std::string> states;
    std::vector<std::string> calls;  // recover, spread, claim; and record:<outcome> for each that was written
    int recover_failures = 0;
    bool has_overdue = false;  // of kOverdueWebhook: there is always another part to be spread
    int parts = 0, part_failures = 0;

    std::vector<std::string> calls_now() {
        const std::lock_guard lock(mutex);
        return calls;
    }
    int count(const std::string& call) {
        const std::lock_guard lock(mutex);
        return static_cast<int>(std::count(calls.begin(), calls.end(), call));
    }
    int in_state(const std::string& state) {
        const std::lock_guard lock(mutex);
        return static_cast<int>(
            std::count_if(states.begin(), states.end(), [&](const auto& row) { return row.second == state; }));
    }
    void add(int deliveries, const std::string& state) {
        const std::lock_guard lock(mutex);
        for (int i = 0; i < deliveries; ++i) {
            states["d" + std::to_string(states.size())] = state;
        }
    }
    void set_epoch(std::int64_t changed) {
        const std::lock_guard lock(mutex);
        epoch = changed;
    }
};

class TableStore : public StubStore {
 public:
    explicit TableStore(std::shared_ptr<Table> table) : table_(std::move(table)) {}

    Result<std::size_t> recover_in_flight(std::span<const int> lanes, Epochs epochs, TimeMs) override {
        const std::lock_guard lock(table_->mutex);
        if (table_->recover_failures > 0) {
            --table_->recover_failures;
            return fail(ErrorCode::kUnavailable, "away");
        }
        std::size_t recovered = 0;
        for (const int lane : lanes) {
            if (lane == kOverdueLane) {
                table_->calls.emplace_back("recover overdue");
            }
            if (static_cast<std::size_t>(lane) != kLane || epochs[kLane] != table_->epoch) {
                continue;
            }
            table_->calls.emplace_back("recover");
            for (auto& [id, state] : table_->states) {
                if (state == "in_flight") {
                    state = "queued";
                    ++recovered;
                }
            }
        }
        return recovered;
    }
    Result<void> spread_overdue(OverdueSpread& spread) override {
        const std::lock_guard lock(table_->mutex);
        if (spread.step() == OverdueSpread::Step::kLook) {
            if (spread.wants_lane(static_cast<int>(kLane)) || spread.wants_lane(kOverdueLane)) {
                table_->calls.emplace_back("spread");
            }
            std::vector<OverdueSpread::Share> shares;
            if (table_->has_overdue && spread.wants_lane(kOverdueLane)) {
                shares.push_back({kOverdueWebhook, kOverdueLane, 0});
            }
            spread.looked({}, std::move(shares));
            return {};
        }
        if (spread.step() == OverdueSpread::Step::kCount) {
            spread.counted(0, 1'000'000);
            spread.went_on({.index = 1}, 0);
            return {};
        }
        if (table_->part_failures > 0) {
            --table_->part_failures;
            return fail(ErrorCode::kUnavailable, "away");
        }
        table_->parts++;
        OverdueSpread::Place place = spread.place();
        if (!table_->has_overdue) {
            place = {.index = 1};
        }
        spread.went_on(place, 1);
        return {};
    }
    Result<std::optional<TimeMs>> next_due_at(Epochs epochs) override {
        const std::lock_guard lock(table_->mutex);
        std::optional<TimeMs> due;
        for (const auto& [id, state] : table_->states) {
            if (state == "queued" && epochs[kLane] != 0) {
                due = 1;
            }
        }
        return due;
    }
    Result<std::vector<ClaimedDelivery>> claim_due(const ClaimRequest& request) override {
        const std::lock_guard lock(table_->mutex);
        std::vector<ClaimedDelivery> claimed;
        if (request.lane_epochs[kLane] != table_->epoch) {
            return claimed;
        }
        table_->calls.emplace_back("claim");
        if (request.lane_epochs[static_cast<std::size_t>(kOverdueLane)] != 0) {
            table_->calls.emplace_back("claim overdue");
        }
        const int room = request.room(kWebhook);
        for (auto& [id, state] : table_->states) {
            if (state == "queued" && std::ssize(claimed) < room && claimed.size() < request.total_max) {
                state = "in_flight";
                Event event;
                event.id = id;
                event.org = "org";
                event.payload = "{}";
                claimed.push_back({id, kWebhook, std::make_shared<const Event>(std::move(event)), 1, 0});
            }
        }
        return claimed;
    }
    Result<RecordOutcome> record_attempts(std::span<const AttemptRecord> attempts, Epochs epochs) override {
        const std::lock_guard lock(table_->mutex);
        RecordOutcome outcome;
        for (const AttemptRecord& attempt : attempts) {
            if (epochs[kLane] != table_->epoch) {
                ++outcome.late;
                continue;
            }
            const bool is_success = attempt.outcome == AttemptOutcome::kSuccess;
            table_->calls.emplace_back(is_success ? "record:success" : "record:interrupted");
            table_->states[attempt.delivery_id] = is_success ? "success" : "queued";
        }
        return outcome;
    }
    Result<Target> delivery_target(std::string_view) override {
        Target target;
        target.webhook.id = kWebhook;
        target.webhook.org = "org";
        target.webhook.url = table_->url;
        target.webhook.max_in_flight = 2;
        target.webhook.secrets = {{"secret", 1, std::nullopt}};
        target.allow_networks = {"*"};
        target.generation = 1;
        return target;
    }

 private:
    std::shared_ptr<Table> table_;
};

// An endpoint that answers each request when it is let.
class Gate {
 public:
    LoopbackServer::Handler handler() {
        return [this](LoopbackServer::Connection& connection) {
            while (connection.read_request()) {
                std::unique_lock lock(mutex_);
                ++requests_;
                changed_.wait(lock, [this] { return is_open_; });
                if (!connection.respond(200)) {
                    return;
                }
            }
        };
    }
    void open() {
        const std::lock_guard lock(mutex_);
        is_open_ = true;
        changed_.notify_all();
    }
    void close() {
        const std::lock_guard lock(mutex_);
        is_open_ = false;
    }
    int requests() {
        const std::lock_guard lock(mutex_);
        return requests_;
    }

 private:
    std::mutex mutex_;
    std::condition_variable changed_;
    bool is_open_ = false;
    int requests_ = 0;
};

OwnedPartsPtr owning(std::int64_t epoch, bool is_leaving = false) {
    auto owned = std::make_shared<OwnedParts>();
    owned->shard_epochs.resize(1);
    owned->lane_epochs.resize(kLanes);
    owned->lane_epochs[kLane] = is_leaving ? 0 : epoch;
    if (is_leaving) {
        owned->leaving_lanes.push_back(static_cast<int>(kLane));
    }
    return owned;
}

struct World {
    Gate gate;
    LoopbackServer server{gate.handler()};
    std::shared_ptr<Table> table = std::make_shared<Table>();
    boost::asio::io_context io;
    DbExecutor db{std::make_unique<TableStore>(table)};
    std::unique_ptr<Dispatcher> dispatcher;

    explicit World(OwnedPartsPtr owned) {
        table->url = server.url();
        DispatcherOptions options;
        options.owned = std::move(owned);
        options.guard.allow_networks = {parse_network("127.0.0.0/8").value()};
        dispatcher = std::make_unique<Dispatcher>(io.get_executor(), db, options);
        boost::asio::co_spawn(io, dispatcher->run(), boost::asio::detached);
    }
    ~World() {
        gate.open();
        dispatcher.reset();
        db.join();
    }
    template <typename Condition>
    bool until(Condition condition) {
        return run_until(io, condition);
    }
    // Long enough for whatever the dispatcher does by itself: its poll of the store is twice a second.
    void let_some_time_pass() {
        const auto deadline = std::chrono::steady_clock::now() + milliseconds(700);
        run_until(io, [&] { return std::chrono::steady_clock::now() > deadline; });
    }
    const DispatcherCounters& counters() const { return dispatcher->counters(); }
    bool in_use() const { return dispatcher->is_lane_in_use(static_cast<int>(kLane)); }
};

// ---- gained ---------------------------------------------------------------------------------

void test_gained_lane_is_recovered_before_anything_of_it_is_claimed(void**) {
    World world(owning(0));
    world.gate.open();
    world.table->add(2, "in_flight");  // of whoever owned the lane before
    world.table->add(2, "queued");
    world.table->recover_failures = 2;
    world.let_some_time_pass();
    assert_true(world.table->calls_now().empty());
    assert_false(world.dispatcher->reserve(kWebhook));
    world.dispatcher->follow(owning(1));
    assert_false(world.dispatcher->reserve(kWebhook));
    assert_true(world.until([&] { return world.table->in_state("success") == 4; }));
    const auto calls = world.table->calls_now();
    assert_string_equal(calls[0].c_str(), "recover");
    assert_string_equal(calls[1].c_str(), "spread");
    assert_int_equal(world.table->count("recover"), 1);
    assert_int_equal(world.gate.requests(), 4);
    assert_true(world.dispatcher->reserve(kWebhook));
    world.dispatcher->release(kWebhook);
    // The same epoch again is nothing new; another one is.
    world.dispatcher->follow(owning(1));
    assert_true(world.dispatcher->reserve(kWebhook));
    world.dispatcher->release(kWebhook);
    world.table->set_epoch(3);
    world.dispatcher->follow(owning(3));
    assert_false(world.dispatcher->reserve(kWebhook));
    assert_true(world.until([&] { return world.table->count("recover") == 2; }));
}

OwnedPartsPtr owning_both() {
    auto owned = std::make_shared<OwnedParts>(*owning(1));
    owned->lane_epochs[static_cast<std::size_t>(kOverdueLane)] = 1;
    return owned;
}

int parts_of(World& world) {
    const std::lock_guard lock(world.table->mutex);
    return world.table->parts;
}

// A lane with a million overdue deliveries is spread for a while; the others are sent for meanwhile.
void test_lane_with_much_overdue_holds_back_no_other(void**) {
    World world(owning(0));
    world.gate.open();
    world.table->add(2, "queued");
    world.table->has_overdue = true;
    world.dispatcher->follow(owning_both());
    assert_true(world.until([&] { return world.table->in_state("success") == 2; }));
    assert_true(world.dispatcher->reserve(kWebhook));
    world.dispatcher->release(kWebhook);
    const int parts = parts_of(world);
    assert_true(world.until([&] { return parts_of(world) > parts + 1; }));
    assert_int_equal(world.table->count("claim overdue"), 0);
    assert_true(world.dispatcher->reserve(kOverdueWebhook));  // what is new is sent
    world.dispatcher->release(kOverdueWebhook);
    {
        const std::lock_guard lock(world.table->mutex);
        world.table->has_overdue = false;
    }
    world.table->add(1, "queued");
    assert_true(world.until([&] { return world.table->count("claim overdue") > 0; }));
    assert_int_equal(world.table->count("spread"), 1);
}

void test_spreading_that_fails_begins_anew_and_so_it_does_when_lanes_are_gained(void**) {
    World world(owning(0));
    world.gate.open();
    world.table->has_overdue = true;
    world.table->part_failures = 2;
    auto first = std::make_shared<OwnedParts>(*owning_both());
    first->lane_epochs[kLane] = 0;
    world.dispatcher->follow(first);
    assert_true(world.until([&] { return parts_of(world) > 0; }));
    assert_int_equal(world.table->count("spread"), 3);
    world.table->add(2, "queued");
    world.dispatcher->follow(owning_both());
    assert_true(world.until([&] { return world.table->in_state("success") == 2; }));
    assert_int_equal(world.table->count("spread"), 4);
    assert_int_equal(world.table->count("claim overdue"), 0);
    assert_int_equal(world.table->count("recover overdue"), 1);  // what we have in flight since is ours
}

// ---- lost -----------------------------------------------------------------------------------

void test_lost_lane_is_forgotten_and_its_late_results_are_not_written(void**) {
    World world(owning(1));
    world.table->add(4, "queued");
    assert_true(world.until([&] { return world.gate.requests() == 2 && world.counters().in_memory == 4; }));
    world.table->set_epoch(2);
    world.dispatcher->follow(owning(0));
    assert_int_equal(world.counters().in_memory, 2);  // the requests in flight
    assert_true(world.in_use());
    world.gate.open();
    assert_true(world.until([&] { return world.counters().late == 2; }));
    assert_true(world.until([&] { return !world.in_use(); }));
    assert_int_equal(world.table->in_state("in_flight"), 4);  // for the new owner to recover
    assert_int_equal(world.table->count("record:success") + world.table->count("record:interrupted"), 0);
    world.let_some_time_pass();
    assert_int_equal(world.gate.requests(), 2);
}

// The lane is ours again when the result of before comes: what it says is of a delivery that was recovered meanwhile.
void test_result_of_an_earlier_ownership_is_refused(void**) {
    World world(owning(1));
    world.table->add(2, "queued");
    assert_true(world.until([&] { return world.gate.requests() == 2; }));
    world.table->set_epoch(3);
    world.dispatcher->follow(owning(3));
    assert_true(world.until([&] { return world.table->count("recover") == 2; }));
    world.gate.open();
    assert_true(world.until([&] { return world.table->in_state("success") == 2; }));
    assert_true(world.until([&] { return world.counters().late == 2; }));
    assert_int_equal(world.table->count("record:success"), 2);
    assert_int_equal(world.gate.requests(), 4);
}

// ---- leaving --------------------------------------------------------------------------------

void test_leaving_lane_is_put_back_and_what_is_in_flight_counts(void**) {
    World world(owning(1));
    world.table->add(4, "queued");
    assert_true(world.until([&] { return world.gate.requests() == 2 && world.counters().in_memory == 4; }));
    world.dispatcher->follow(owning(1, true));
    assert_true(world.until([&] { return world.table->count("record:interrupted") == 2; }));
    assert_true(world.in_use());
    assert_int_equal(world.table->in_state("queued"), 2);
    world.gate.open();
    assert_true(world.until([&] { return world.table->count("record:success") == 2; }));
    assert_true(world.until([&] { return !world.in_use(); }));
    world.let_some_time_pass();
    assert_int_equal(world.gate.requests(), 2);
    assert_int_equal(world.table->in_state("queued"), 2);
    assert_int_equal(world.counters().late, 0);
    assert_int_equal(world.counters().in_memory, 0);
}

// ---- leases that are too old ----------------------------------------------------------------

void test_nothing_is_begun_on_old_leases_and_all_goes_on_after_a_renewal(void**) {
    World world(owning(1));
    world.table->add(6, "queued");
    assert_true(world.until([&] { return world.gate.requests() == 2 && world.counters().in_memory == 6; }));
    auto old = std::make_shared<OwnedParts>(*owning(1));
    old->valid_until = std::chrono::steady_clock::now();
    world.dispatcher->follow(old);
    world.gate.open();
    assert_true(world.until([&] { return world.table->count("record:success") == 2; }));
    world.let_some_time_pass();
    assert_int_equal(world.gate.requests(), 2);
    assert_int_equal(world.counters().in_memory, 4);  // kept: nobody else has the lane yet
    assert_false(world.dispatcher->reserve(kWebhook));
    world.dispatcher->follow(owning(1));
    assert_true(world.until([&] { return world.table->in_state("success") == 6; }));
    assert_int_equal(world.table->count("recover"), 1);
    assert_int_equal(world.gate.requests(), 6);
}

}  // namespace

int main() {
    spdlog::set_level(spdlog::level::off);
    const CMUnitTest tests[] = {
        cmocka_unit_test(test_gained_lane_is_recovered_before_anything_of_it_is_claimed),
        cmocka_unit_test(test_lane_with_much_overdue_holds_back_no_other),
        cmocka_unit_test(test_spreading_that_fails_begins_anew_and_so_it_does_when_lanes_are_gained),
        cmocka_unit_test(test_lost_lane_is_forgotten_and_its_late_results_are_not_written),
        cmocka_unit_test(test_result_of_an_earlier_ownership_is_refused),
        cmocka_unit_test(test_leaving_lane_is_put_back_and_what_is_in_flight_counts),
        cmocka_unit_test(test_nothing_is_begun_on_old_leases_and_all_goes_on_after_a_renewal),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
