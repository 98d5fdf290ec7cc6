// links: headgate_app
// What the owner of lane 0 does for all.
#include <spdlog/spdlog.h>

#include <boost/asio/co_spawn.hpp>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "lua-free-tests/cmocka_cpp.h"  // last
#include "lua-free-tests/run_awaitable.h"
#include "lua-free-tests/stub_store.h"
#include "sidecar/base/wall_clock.h"
#include "sidecar/chores.h"
#include "sidecar/match/wants.h"

using namespace headgate;
using std::chrono::milliseconds;

namespace {

constexpr std::int64_t kDay = 24LL * 3600 * 1000;

struct Table {
    std::mutex mutex;
    std::size_t purgeable = 0, relayable = 0;
    std::vector<PurgeRequest> purges;
    int relays = 0;
    bool refuses = false;
    std::map<std::string, Replay> replays;
    std::map<std::string, int> advanced;  // by replay
    bool target_is_deleted = false, target_is_active = true;

    template <typename Read>
    auto read(Read what) {
        const std::lock_guard lock(mutex);
        return what(*this);
    }
};

class TableStore : public StubStore {
 public:
    explicit TableStore(std::shared_ptr<Table> table) : table_(std::move(table)) {}

    Result<std::size_t> purge(const PurgeRequest& request) override {
        const std::lock_guard lock(table_->mutex);
        if (table_->refuses) return fail(ErrorCode::kUnavailable, "away");
        table_->purges.push_back(request);
        std::size_t purged = std::min(request.batch_max, table_->purgeable);
        table_->purgeable -= purged;
        return purged;
    }
    Result<std::size_t> relay_system_events(SubscriptionMatcher&, std::size_t max, TimeMs) override {
        const std::lock_guard lock(table_->mutex);
        table_->relays++;
        std::size_t relayed = std::min(max, table_->relayable);
        table_->relayable -= relayed;
        return relayed;
    }
    Result<std::vector<Replay>> running_replays() override {
        const std::lock_guard lock(table_->mutex);
        std::vector<Replay> running;
        for (const auto& [id, replay] : table_->replays) {
            if (replay.state == "running") running.push_back(replay);
        }
        return running;
    }
    Result<Target> delivery_target(std::string_view id) override {
        const std::lock_guard lock(table_->mutex);
        Target target;
        target.webhook.id = id;
        target.webhook.org = "org";
        target.webhook.events = {"order.*"};
        target.webhook.is_active = table_->target_is_active;
        target.is_deleted = table_->target_is_deleted;
        return target;
    }
    Result<std::size_t> advance_replay(std::string_view id, const Wants& wants, std::size_t queued_max,
                                       TimeMs) override {
        const std::lock_guard lock(table_->mutex);
        if (id == "broken") return fail(ErrorCode::kInternal, "a row cannot be read");
        EventRecord wanted;
        wanted.org = "org";
        wanted.type = "order.created";
        wanted.payload = "{}";
        EventRecord unwanted = wanted;
        unwanted.type = "invoice.paid";
        if (queued_max == 0 || !wants(wanted) || wants(unwanted)) return fail(ErrorCode::kInternal, "wants the wrong");
        if (++table_->advanced[std::string(id)] == 3) table_->replays[std::string(id)].state = "done";
        return std::size_t{1};
    }
    Result<Replay> set_replay_state(std::string_view, std::string_view id, std::string_view state, TimeMs) override {
        const std::lock_guard lock(table_->mutex);
        Replay& replay = table_->replays[std::string(id)];
        replay.state = state;
        return replay;
    }

 private:
    std::shared_ptr<Table> table_;
};

Replay replay(const std::string& id) {
    Replay made;
    made.id = id;
    made.org = "org";
    made.webhook_id = "wh";
    made.which = "all";
    return made;
}

OwnedPartsPtr owning(bool lane_0) {
    auto owned = std::make_shared<OwnedParts>();
    owned->shard_epochs = {1};
    owned->lane_epochs = {lane_0 ? 1 : 0, 1};
    return owned;
}

struct World {
    std::shared_ptr<Table> table = std::make_shared<Table>();
    boost::asio::io_context io;
    DbExecutor db{std::make_unique<TableStore>(table)};
    std::unique_ptr<Chores> chores;
    bool has_ended = false;
    int replayed = 0;  // calls of on_replayed

    void start(bool is_ours = true) {
        ChoresOptions options;
        options.owned = owning(is_ours);
        options.retention_events_ms = 90 * kDay;
        options.retention_attempts_ms = 30 * kDay;
        options.retention_quarantine_ms = 60 * kDay;
        options.retention_audit_ms = 365 * kDay;
        options.purge_interval = options.relay_interval = options.replay_interval = milliseconds(10);
        options.purge_pause = milliseconds(1);
        options.on_replayed = [this] { replayed++; };
        chores = std::make_unique<Chores>(io.get_executor(), db, options);
        boost::asio::co_spawn(io, chores->run(), [this](const std::exception_ptr&) { has_ended = true; });
    }
    template <typename Condition>
    bool until(Condition condition) {
        return run_until(io, [&] { return table->read(condition); });
    }
    bool stop() {
        chores->stop();
        return run_until(io, [this] { return has_ended; });
    }
};

void test_purges_and_relays_until_nothing_is_left(void**) {
    World world;
    world.table->purgeable = 1234;
    world.table->relayable = 250;
    TimeMs now = wall_clock_ms();
    world.start();
    assert_true(world.until([](Table& table) { return table.purgeable == 0 && table.relayable == 0; }));
    assert_true(world.stop());
    PurgeRequest first = world.table->purges.front();
    assert_true(first.batch_max <= 500);
    assert_true(first.events_before >= now - 90 * kDay && first.events_before <= wall_clock_ms() - 90 * kDay);
    assert_true(first.attempts_before >= now - 30 * kDay && first.attempts_before <= wall_clock_ms() - 30 * kDay);
    assert_true(first.quarantine_before >= now - 60 * kDay && first.quarantine_before <= wall_clock_ms() - 60 * kDay);
    assert_true(first.audit_before >= now - 365 * kDay && first.audit_before <= wall_clock_ms() - 365 * kDay);
}

void test_only_the_owner_of_lane_0_works(void**) {
    World world;
    world.table->purgeable = 10;
    world.start(false);
    auto deadline = std::chrono::steady_clock::now() + milliseconds(200);
    run_until(world.io, [&] { return std::chrono::steady_clock::now() > deadline; });
    assert_true(world.table->read([](Table& table) { return table.purges.empty() && table.relays == 0; }));
    world.chores->follow(owning(true));
    assert_true(world.until([](Table& table) { return table.purgeable == 0 && table.relays > 2; }));
    world.chores->follow(owning(false));
    // What has begun may end.
    deadline = std::chrono::steady_clock::now() + milliseconds(50);
    run_until(world.io, [&] { return std::chrono::steady_clock::now() > deadline; });
    int relays = world.table->read([](Table& table) { return table.relays; });
    deadline = std::chrono::steady_clock::now() + milliseconds(200);
    run_until(world.io, [&] { return std::chrono::steady_clock::now() > deadline; });
    assert_int_equal(world.table->read([](Table& table) { return table.relays; }), relays);
    assert_true(world.stop());
}

// A store that refuses one chore keeps none of the others from being done.
void test_failure_of_one_holds_back_no_other(void**) {
    World world;
    world.table->refuses = true;
    world.table->replays["broken"] = replay("broken");
    world.table->replays["good"] = replay("good");
    world.start();
    assert_true(world.until([](Table& table) { return table.advanced["good"] == 1 && table.relays > 2; }));
    assert_true(world.stop());
}

void test_replays_advance_until_done_and_end_with_their_webhook(void**) {
    World world;
    world.table->replays["r1"] = replay("r1");
    world.table->target_is_active = false;
    world.start();
    assert_true(world.until([](Table& table) { return table.relays > 5; }));
    assert_true(world.table->read([](Table& table) { return table.advanced.empty(); }));  // waits for its webhook
    world.table->read([](Table& table) { return table.target_is_active = true; });
    assert_true(world.until([](Table& table) { return table.replays["r1"].state == "done"; }));
    assert_true(run_until(world.io, [&] { return world.replayed == 3; }));  // once for each step that made any
    world.table->read([](Table& table) {
        table.replays["r2"] = replay("r2");
        return table.target_is_deleted = true;
    });
    assert_true(world.until([](Table& table) { return table.replays["r2"].state == "cancelled"; }));
    assert_true(world.stop());
}

}  // namespace

int main() {
    spdlog::set_level(spdlog::level::off);
    const CMUnitTest tests[] = {
        cmocka_unit_test(test_purges_and_relays_until_nothing_is_left),
        cmocka_unit_test(test_only_the_owner_of_lane_0_works),
        cmocka_unit_test(test_failure_of_one_holds_back_no_other),
        cmocka_unit_test(test_replays_advance_until_done_and_end_with_their_webhook),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
