// What the parts of the dispatcher share: its state, of the event loop alone unless something else is said.
//   dispatcher.cpp          deliveries come in, requests go out and end; start and stop
//   dispatcher_lanes.cpp    lanes come and go; those that came are recovered
//   dispatcher_store.cpp    results go into the store, what is due comes out
//   dispatcher_targets.cpp  webhooks are read
//   dispatcher_gates.cpp    lanes wait for their gates
#pragma once

#include <spdlog/spdlog.h>

#include <algorithm>
#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <chrono>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "sidecar/base/wall_clock.h"
#include "sidecar/deliver/attempt.h"
#include "sidecar/deliver/clock_watch.h"
#include "sidecar/deliver/dispatcher.h"
#include "sidecar/deliver/lanes.h"
#include "sidecar/deliver/memory_quota.h"
#include "sidecar/deliver/store_round.h"
#include "sidecar/deliver/wake_signal.h"

namespace headgate {

namespace asio = boost::asio;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

inline constexpr milliseconds kBackoffMin{100};
inline constexpr milliseconds kBackoffMax{2'000};
// Results that are not written yet, for each request that may be in flight: with more of them nothing is sent.
inline constexpr std::size_t kUnwrittenPerInFlight = 4;

// More than one word: instances that started with the same one would make the same ids.
[[nodiscard]] inline std::mt19937_64 seeded() {
    std::random_device device;
    std::seed_seq seed{device(), device(), device(), device()};
    return std::mt19937_64(seed);
}

struct Dispatcher::Impl : std::enable_shared_from_this<Impl> {
    asio::any_io_executor executor;
    DbExecutor& db;
    const DispatcherOptions options;
    DispatcherCounters counters;
    std::shared_ptr<MemoryQuota> quota;  // shared with the DB thread
    std::unique_ptr<HttpClient> http;    // null once the dispatcher is gone

    // Before a lane is recovered its deliveries in flight are its last owner's: none of ours may be among them.
    std::shared_ptr<ReadyLanes> ready = std::make_shared<ReadyLanes>();  // shared with the DB thread

    OwnedPartsPtr owned;
    Lanes lanes;
    std::vector<std::string> loading;                                 // webhooks whose target is to be read
    std::multimap<steady_clock::time_point, std::string> load_again;  // those that could not be, by when to ask
    std::vector<AttemptRecord> results;
    steady_clock::time_point results_since;  // when the first of them came
    bool is_result_urgent = false;           // one of them is
    std::shared_ptr<ResultBatch> writing = std::make_shared<ResultBatch>();
    std::minstd_rand random{std::random_device{}()};
    std::mt19937_64 spans = seeded();  // the ids of attempts within their traces
    WakeSignal store_signal, load_signal, recover_signal, gate_signal, stop_signal;
    ClockWatch clock;
    steady_clock::time_point next_poll = steady_clock::now();
    bool is_running = false;
    bool is_stopping = false;
    bool is_final = false;  // nothing will be added to the results any more
    bool is_pump_posted = false;
    bool may_be_hungry = false;  // deliveries were left in the store for which there is room now

    Impl(asio::any_io_executor executor, DbExecutor& db, DispatcherOptions options);

    // -- whose lanes
    void follow(OwnedPartsPtr now_owned);
    // Claimed by this instance, and its lane was held ever since.
    [[nodiscard]] bool is_held(const HeldDelivery& delivery, int part) const;
    void let_go(const HeldDelivery& delivery, std::string_view webhook_id, int part);
    [[nodiscard]] bool is_lane_in_use(int part) const;
    asio::awaitable<void> recover_loop();
    asio::awaitable<Result<void>> recover_in_flight(RecoverLanes recover);
    asio::awaitable<Result<void>> spread_lanes(std::shared_ptr<OverdueSpread> spread);

    // -- in and out
    void accept(std::vector<ClaimedDelivery> claimed, bool has_waited);
    [[nodiscard]] std::size_t unwritten() const { return results.size() + writing->records.size(); }
    void pump();
    void post_pump();
    void send(Lanes::Start start);
    // The same template would fail on the same event again: only a person can help, by mending the webhook and
    // retrying the delivery.
    void fail_unsent(const Lanes::Start& start, std::string_view reason);
    void complete(const Flight& flight, HttpResponse response);
    // The delivery leaves memory; its result stays until it is written.
    void add_result(const HeldDelivery& delivery, AttemptRecord attempt);
    // What waits in the lane leaves memory unsent: kInterrupted puts it back into the store as it was.
    void drain(Lane& lane, AttemptOutcome outcome, std::string_view error_type, std::string_view reason);
    void give_up_queue(Lane& lane, AttemptOutcome outcome, std::string_view error_type, std::string_view reason);
    void put_back_everything();

    // -- the store
    asio::awaitable<void> store_loop();
    // Urgent: something waits for its being written, as the next of its ordering key does.
    void keep_result(AttemptRecord attempt, bool is_urgent);
    [[nodiscard]] bool may_wait_for_others() const;
    asio::awaitable<void> mend_times(TimeMs step);
    asio::awaitable<void> pause(milliseconds duration);

    // -- webhooks
    asio::awaitable<void> load_loop();
    // Each lane pauses by itself: one webhook that cannot be read holds back no other.
    void resume_failed();
    // False: it could not be read; ask again, later.
    bool apply_target(Lane& lane, const Result<Store::Target>& found);

    // -- gates. Their clock never steps back.
    [[nodiscard]] static TimeMs gate_now_ms();
    // Follows from the state of the lane's gate: how long it waits, and what of it is held in memory.
    void settle_gate(Lane& lane);
    void read_held_back_again();
    asio::awaitable<void> gate_loop();

    // -- start and stop
    asio::awaitable<void> run();
    static asio::awaitable<void> keep_loading(std::shared_ptr<Impl> self) { co_await self->load_loop(); }
    static asio::awaitable<void> keep_recovering(std::shared_ptr<Impl> self) { co_await self->recover_loop(); }
    static asio::awaitable<void> keep_waiting(std::shared_ptr<Impl> self) { co_await self->gate_loop(); }
    static asio::awaitable<void> keep_running(std::shared_ptr<Impl> self) { co_await self->run(); }
    static asio::awaitable<void> stop(std::shared_ptr<Impl> self, milliseconds grace);
    asio::awaitable<void> wait_for_idle(steady_clock::time_point deadline);
};

}  // namespace headgate
