// links: headgate_app
// Ownership: what one instance does round by round, and many of them over one table of leases while they are stopped,
// killed and started at random.
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <string>

#include "lua-free-tests/cmocka_cpp.h"  // last
#include "lua-free-tests/lease_table.h"
#include "lua-free-tests/run_awaitable.h"
#include "lua-free-tests/stub_store.h"
#include "sidecar/ownership.h"

using namespace headgate;
using std::chrono::milliseconds;
using TimePoint = LeaseKeeper::TimePoint;

namespace {

using Parts = std::vector<int>;

// ---- one instance, round by round -----------------------------------------------------------

LeaseView view_of(const std::vector<Lease>& lanes, int excess) {
    LeaseView view;
    view.lanes = lanes;
    view.lanes_excess = excess;
    view.instances = 2;
    return view;
}

Parts parts_of(const std::vector<std::int64_t>& epochs) {
    Parts parts;
    for (std::size_t part = 0; part < epochs.size(); part++) {
        if (epochs[part] != 0) parts.push_back(static_cast<int>(part));
    }
    return parts;
}

void test_excess_leaves_first_and_is_released_when_idle(void**) {
    LeaseKeeper keeper(1, 4, true);
    TimePoint began{};
    auto owned = keeper.renewed(view_of({{0, 1}, {1, 1}, {2, 1}, {3, 1}}, 0), {}, began);
    assert_true(parts_of(owned->lane_epochs) == Parts({0, 1, 2, 3}));
    assert_true(owned->leaving_lanes.empty());
    owned = keeper.renewed(view_of({{0, 1}, {1, 1}, {2, 1}, {3, 1}}, 2), {}, began);
    assert_true(parts_of(owned->lane_epochs) == Parts({0, 1}));
    assert_true(owned->leaving_lanes == Parts({3, 2}));
    // Only what nobody uses is released.
    auto idle = keeper.idle([](int) { return false; }, [](int lane) { return lane == 3; });
    assert_true(idle.lanes == Parts({2}) && idle.shards.empty());
    owned = keeper.renewed(view_of({{0, 1}, {1, 1}, {3, 1}}, 1), idle, began);
    assert_true(parts_of(owned->lane_epochs) == Parts({0, 1}));
    assert_true(owned->leaving_lanes == Parts({3}));
    // The others are gone meanwhile: what leaves does so all the same, and what came back is new.
    owned = keeper.renewed(view_of({{0, 1}, {1, 1}, {2, 3}, {3, 1}}, 0), {}, began);
    assert_true(parts_of(owned->lane_epochs) == Parts({0, 1, 2}));
    assert_int_equal(owned->lane_epochs[2], 3);
    assert_true(owned->leaving_lanes == Parts({3}));
    idle = keeper.idle([](int) { return false; }, [](int) { return false; });
    owned = keeper.renewed(view_of({{0, 1}, {1, 1}, {2, 3}, {3, 3}}, 0), idle, began);
    assert_true(parts_of(owned->lane_epochs) == Parts({0, 1, 2, 3}));
    assert_true(keeper.left()->lane_epochs == std::vector<std::int64_t>(4));
}

void test_snapshot_ends_eight_seconds_after_its_round_began(void**) {
    auto now = std::chrono::steady_clock::now();
    LeaseKeeper shared(1, 1, true);
    assert_true(shared.renewed(view_of({{0, 1}}, 0), {}, now)->valid_until == now + milliseconds(8000));
    assert_true(shared.owned()->owns_lane(0));
    // A round that took so long that its leases have nearly ended is worth nothing.
    assert_false(shared.renewed(view_of({{0, 1}}, 0), {}, now - milliseconds(8000))->owns_lane(0));
    assert_int_equal(shared.owned()->lane_epochs[0], 1);
    LeaseKeeper alone(1, 1, false);
    assert_true(alone.renewed(view_of({{0, 1}}, 0), {}, now - milliseconds(60'000))->owns_lane(0));
}

void test_next_round_comes_when_something_is_to_be_done(void**) {
    LeaseKeeper keeper(1, 4, true);
    const TimePoint began{}, answered = began + milliseconds(30);
    LeaseView view = view_of({{0, 1}, {1, 1}, {2, 1}, {3, 1}}, 0);
    (void)keeper.renewed(view, {}, began);
    assert_true(keeper.next_round(view, began, answered) == began + milliseconds(2000));
    assert_true(keeper.next_round(view, began, began + milliseconds(3000)) == began + milliseconds(3050));
    // The others renewed lately: there is time. One did not: its lease ends on the store's clock.
    view.next_end_ms = 8500;
    assert_true(keeper.next_round(view, began, answered) == began + milliseconds(2000));
    view.next_end_ms = 700;
    assert_true(keeper.next_round(view, began, answered) == answered + milliseconds(750));
    view.is_short = true;
    assert_true(keeper.next_round(view, began, answered) == answered + milliseconds(250));
    view = view_of({{0, 1}, {1, 1}, {2, 1}, {3, 1}}, 2);
    (void)keeper.renewed(view, {}, began);
    assert_true(keeper.next_round(view, began, answered) == answered + milliseconds(250));
}

// ---- many instances, a clock that is turned, faults at random -------------------------------

constexpr int kShards = 8, kLanesOfTest = 32;
constexpr TimeMs kTick = 50;

struct Instance {
    std::string name;
    LeaseKeeper keeper{kShards, kLanesOfTest, true};
    TimeMs paused_until = 0, next_round = 0;
    bool is_dead = false;
    // By part, until when something of it is being worked on after it began to leave.
    std::map<std::pair<bool, int>, TimeMs> busy_until;

    // A round under way.
    struct Round {
        LeaseKeeper::Idle released;
        TimeMs began = 0, at_store = 0, answered = 0;
        bool is_lost = false;  // the store never sees it
        std::optional<LeaseView> view;
    };
    std::optional<Round> round;
};

// A schedule of one seed. Every method works on the clock's current time.
struct World {
    std::mt19937 random;
    LeaseTable table{kShards, kLanesOfTest};
    std::vector<std::unique_ptr<Instance>> instances;
    std::deque<std::pair<std::string, Instance::Round>> orphans;  // of the dead, on their way to the store
    TimeMs now = 1'000'000;
    TimeMs taking_max = 300, taking_until = 0;
    int named = 0;

    explicit World(unsigned seed) : random(seed) {}
    TimeMs between(TimeMs low, TimeMs high) { return std::uniform_int_distribution<TimeMs>(low, high)(random); }
    [[nodiscard]] static TimePoint time(TimeMs ms) { return TimePoint(milliseconds(ms)); }
    [[nodiscard]] static TimeMs ms_of(TimePoint time) {
        return std::chrono::duration_cast<milliseconds>(time.time_since_epoch()).count();
    }

    Instance& start() {
        auto made = std::make_unique<Instance>();
        // Ranks must not follow the order of starts.
        made->name = std::to_string(random()) + "-" + std::to_string(named++);
        made->next_round = now;
        instances.push_back(std::move(made));
        return *instances.back();
    }
    void kill(std::size_t index) {
        Instance& victim = *instances[index];
        if (victim.round && !victim.round->view) orphans.emplace_back(victim.name, *victim.round);
        instances.erase(instances.begin() + static_cast<std::ptrdiff_t>(index));
    }
    void leave(std::size_t index) {
        (void)table.renew({.owner = instances[index]->name,
                           .shards = kShards,
                           .lanes = kLanesOfTest,
                           .released_shards = {},
                           .released_lanes = {},
                           .is_leaving = true,
                           .now = now});
        instances.erase(instances.begin() + static_cast<std::ptrdiff_t>(index));
    }

    bool is_busy(const Instance& instance, bool is_shard, int part) const {
        auto found = instance.busy_until.find({is_shard, part});
        return found != instance.busy_until.end() && found->second > now;
    }

    void ask_store(const std::string& owner, Instance::Round& round) {
        round.view = table.renew({.owner = owner,
                                  .shards = kShards,
                                  .lanes = kLanesOfTest,
                                  .released_shards = round.released.shards,
                                  .released_lanes = round.released.lanes,
                                  .is_leaving = false,
                                  .now = now},
                                 now >= taking_until);
        // On PostgreSQL a round is a transaction, and one at a time may take.
        if (now >= taking_until) taking_until = now + between(0, taking_max);
    }

    void turn(TimeMs latency_max, int lost_percent) {
        now += kTick;
        std::erase_if(orphans, [&](auto& orphan) {
            if (orphan.second.at_store > now) return false;
            if (!orphan.second.is_lost) ask_store(orphan.first, orphan.second);
            return true;
        });
        for (auto& each : instances) {
            Instance& it = *each;
            if (it.round && !it.round->view && !it.round->is_lost && it.round->at_store <= now) {
                ask_store(it.name, *it.round);  // though it may be stopped itself
            }
            if (it.paused_until > now) continue;
            if (it.round && it.round->answered <= now) answer(it);
            if (!it.round && it.next_round <= now) {
                Instance::Round round;
                round.released = it.keeper.idle([&](int part) { return is_busy(it, true, part); },
                                                [&](int part) { return is_busy(it, false, part); });
                round.began = now;
                round.at_store = now + between(0, latency_max);
                round.answered = round.at_store + between(0, latency_max);
                round.is_lost = between(0, 99) < lost_percent;
                it.round = std::move(round);
            }
        }
    }

    void answer(Instance& it) {
        Instance::Round round = std::move(*it.round);
        it.round.reset();
        it.next_round = now + 250;
        if (!round.view) return;
        auto before = it.keeper.owned();
        auto after = it.keeper.renewed(*round.view, round.released, time(round.began));
        it.next_round = ms_of(it.keeper.next_round(*round.view, time(round.began), time(now)));
        auto begin_to_leave = [&](bool is_shard, const Parts& leaving, const Parts& already) {
            for (int part : leaving) {
                if (std::find(already.begin(), already.end(), part) != already.end()) continue;
                it.busy_until[{is_shard, part}] = now + between(0, 3000);
            }
        };
        begin_to_leave(true, after->leaving_shards, before->leaving_shards);
        begin_to_leave(false, after->leaving_lanes, before->leaving_lanes);
    }

    // May this instance begin or go on with anything of the part?
    bool works_on(const Instance& it, bool is_shard, int part) const {
        const OwnedParts& owned = *it.keeper.owned();
        if (time(now) >= owned.valid_until || it.paused_until > now) return false;
        const auto& epochs = is_shard ? owned.shard_epochs : owned.lane_epochs;
        const auto& leaving = is_shard ? owned.leaving_shards : owned.leaving_lanes;
        return epochs[static_cast<std::size_t>(part)] != 0 ||
               (std::find(leaving.begin(), leaving.end(), part) != leaving.end() && is_busy(it, is_shard, part));
    }
    int workers(bool is_shard, int part) const {
        int count = 0;
        for (const auto& it : instances) count += works_on(*it, is_shard, part) ? 1 : 0;
        return count;
    }
    template <typename Check>
    bool all_parts(Check check) const {
        for (int part = 0; part < kShards; part++) {
            if (!check(workers(true, part))) return false;
        }
        for (int part = 0; part < kLanesOfTest; part++) {
            if (!check(workers(false, part))) return false;
        }
        return true;
    }
    [[nodiscard]] bool has_no_two_workers() const {
        return all_parts([](int count) { return count <= 1; });
    }
    [[nodiscard]] bool has_a_worker_for_all() const {
        return all_parts([](int count) { return count == 1; });
    }
    [[nodiscard]] bool is_fair() const {
        for (bool is_shard : {true, false}) {
            std::size_t least = SIZE_MAX, most = 0;
            for (const auto& it : instances) {
                const OwnedParts& owned = *it->keeper.owned();
                std::size_t parts = parts_of(is_shard ? owned.shard_epochs : owned.lane_epochs).size();
                least = std::min(least, parts);
                most = std::max(most, parts);
            }
            if (most - least > 1) return false;
        }
        return true;
    }
    // Nothing fails from here on; false when two worked on one part.
    bool run_quietly(TimeMs duration, TimeMs latency_max = 100) {
        bool is_safe = true;
        for (TimeMs end = now + duration; now < end;) {
            turn(latency_max, 0);
            is_safe = is_safe && has_no_two_workers();
        }
        return is_safe;
    }
};

// Pauses longer than a lease, rounds that are slow or lost, kills, starts and clean ends: never do two work on one
// part, and in quiet times all parts are shared out evenly.
void test_never_two_owners_whatever_happens(void**) {
    for (unsigned seed = 1; seed <= 60; seed++) {
        World world(seed);
        for (TimeMs i = world.between(1, 3); i > 0; i--) world.start();
        bool is_safe = true;
        for (TimeMs end = world.now + 60'000; world.now < end && is_safe;) {
            world.turn(4000, 10);
            is_safe = world.has_no_two_workers();
            if (world.between(0, 99) != 0) continue;
            auto index = static_cast<std::size_t>(world.between(0, std::ssize(world.instances) - 1));
            switch (world.between(0, 3)) {
                case 0:
                    if (world.instances.size() < 5) world.start();
                    break;
                case 1:
                    if (world.instances.size() > 1) world.kill(index);
                    break;
                case 2:
                    if (world.instances.size() > 1) world.leave(index);
                    break;
                default:
                    world.instances[index]->paused_until = world.now + world.between(1000, 25'000);
            }
        }
        if (!is_safe) print_error("seed %u\n", seed);
        assert_true(is_safe);
        bool is_quiet_safe = world.run_quietly(60'000);
        if (!is_quiet_safe || !world.has_a_worker_for_all() || !world.is_fair()) print_error("seed %u\n", seed);
        assert_true(is_quiet_safe);
        assert_true(world.has_a_worker_for_all());
        assert_true(world.is_fair());
    }
}

// Whatever the moment at which one is killed or stopped, and however the survivors' rounds lie, its parts have a new
// owner within twelve seconds, on a store that is slow as well.
void test_parts_of_a_dead_instance_are_taken_within_twelve_seconds(void**) {
    for (unsigned seed = 1; seed <= 300; seed++) {
        World world(seed);
        world.taking_max = world.between(0, 500);
        const TimeMs latency_max = world.between(0, 400);
        for (TimeMs i = world.between(2, 4); i > 0; i--) world.start();
        assert_true(world.run_quietly(40'000 + world.between(0, 3000)));
        assert_true(world.has_a_worker_for_all());
        auto index = static_cast<std::size_t>(world.between(0, std::ssize(world.instances) - 1));
        if (seed % 2 == 0) {
            world.kill(index);
        } else {
            world.instances[index]->paused_until = world.now + 60'000;
        }
        TimeMs died = world.now;
        while (!world.has_a_worker_for_all() && world.now < died + 30'000)
            assert_true(world.run_quietly(kTick, latency_max));
        if (world.now - died > 12'000)
            print_error("seed %u: %lld ms\n", seed, static_cast<long long>(world.now - died));
        assert_true(world.now - died <= 12'000);
    }
}

void test_clean_end_is_taken_over_at_once(void**) {
    World world(7);
    for (int i = 0; i < 3; i++) world.start();
    assert_true(world.run_quietly(30'000));
    world.leave(1);
    assert_true(world.run_quietly(3000));
    assert_true(world.has_a_worker_for_all());
}

// ---- the loop itself ------------------------------------------------------------------------

// Keeps what it was asked; answers with what the test says.
class AskedStore : public StubStore {
 public:
    struct Asked {
        std::mutex mutex;
        std::vector<Parts> released_lanes;
        int leaving = 0;
        int failures = 0;
        int excess = 0;
    };
    explicit AskedStore(std::shared_ptr<Asked> asked) : asked_(std::move(asked)) {}
    Result<LeaseView> renew_leases(const LeaseRound& round) override {
        std::lock_guard lock(asked_->mutex);
        if (asked_->failures > 0) {
            asked_->failures--;
            return fail(ErrorCode::kUnavailable, "away");
        }
        asked_->released_lanes.emplace_back(round.released_lanes.begin(), round.released_lanes.end());
        if (round.is_leaving) {
            asked_->leaving++;
            return LeaseView{};
        }
        return view_of({{0, 1}, {1, 1}}, asked_->excess);
    }

 private:
    std::shared_ptr<Asked> asked_;
};

void test_loop_follows_releases_and_leaves(void**) {
    auto asked = std::make_shared<AskedStore::Asked>();
    boost::asio::io_context io;
    DbExecutor db(std::make_unique<AskedStore>(asked));
    bool is_in_use = true, has_ended = false;
    std::vector<OwnedPartsPtr> followed;
    PartUsers users;
    users.follow = [&](OwnedPartsPtr owned) { followed.push_back(std::move(owned)); };
    users.is_shard_in_use = [](int) { return false; };
    users.is_lane_in_use = [&](int) { return is_in_use; };
    Ownership ownership(io.get_executor(), db, {"me", 1, 2, true}, users);
    asked->failures = 1;
    assert_false(run_awaitable(io, ownership.renew()).has_value());
    assert_true(followed.empty());
    assert_true(ownership.refused_since_ms() > 0);
    assert_true(run_awaitable(io, ownership.renew()).has_value());
    assert_int_equal(ownership.refused_since_ms(), 0);
    assert_true(followed.size() == 1 && followed[0] == ownership.owned() && followed[0]->owns_lane(1));
    {
        std::lock_guard lock(asked->mutex);
        asked->excess = 1;
    }
    boost::asio::co_spawn(io, ownership.run(), [&](const std::exception_ptr&) { has_ended = true; });
    auto poked_until = [&](std::size_t rounds) {
        return run_until(io, [&] {
            ownership.poke();
            std::lock_guard lock(asked->mutex);
            return asked->released_lanes.size() >= rounds;
        });
    };
    assert_true(poked_until(5));
    assert_true(followed.back()->leaving_lanes == Parts({1}) && !followed.back()->owns_lane(1));
    for (const Parts& released : asked->released_lanes) assert_true(released.empty());
    is_in_use = false;
    assert_true(poked_until(8));
    assert_true(asked->released_lanes.back() == Parts({1}));
    bool has_left = false;
    boost::asio::co_spawn(io, ownership.leave(), [&](const std::exception_ptr&) { has_left = true; });
    assert_true(run_until(io, [&] { return has_left && has_ended; }));
    assert_int_equal(asked->leaving, 1);
    assert_false(ownership.owned()->owns_lane(0));
    assert_true(followed.back() == ownership.owned());
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(test_excess_leaves_first_and_is_released_when_idle),
        cmocka_unit_test(test_snapshot_ends_eight_seconds_after_its_round_began),
        cmocka_unit_test(test_next_round_comes_when_something_is_to_be_done),
        cmocka_unit_test(test_never_two_owners_whatever_happens),
        cmocka_unit_test(test_parts_of_a_dead_instance_are_taken_within_twelve_seconds),
        cmocka_unit_test(test_clean_end_is_taken_over_at_once),
        cmocka_unit_test(test_loop_follows_releases_and_leaves),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
