// A world in which leases are lived: hosts with workers, a network that delays and loses, and a Redis that runs the
// limit script's arithmetic. One schedule is one seed. What it checks as it goes is what lease.h promises.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <queue>
#include <random>
#include <string>
#include <vector>

#include "common/gcra.h"
#include "common/lease.h"
#include "common/rate_plan.h"

namespace headgate::test {

// What is taken out of the protocol, to show that the schedules would notice.
enum class Mutation { kNone, kReturnWithoutAge, kTokenWithoutAge };

struct Findings {
    std::string violation;  // the first; empty = none
    std::int64_t admitted = 0, from_leases = 0, refused = 0, returned = 0, late = 0, lost = 0;
};

// Level of a leaky bucket in µs·quota: exact for every rate.
struct Level {
    __int128 value = 0;
    std::int64_t at_us = 0;
    void advance(std::int64_t now_us, std::int64_t quota) {
        value = std::max<__int128>(0, value - static_cast<__int128>(now_us - at_us) * quota);
        at_us = now_us;
    }
};

class LeaseWorld {
 public:
    LeaseWorld(std::uint64_t seed, Mutation mutation) : random_(seed), mutation_(mutation) {
        if (mutation == Mutation::kTokenWithoutAge) {
            rules_.life_us = std::int64_t{1} << 50;
        }
        if (mutation == Mutation::kReturnWithoutAge) {
            rules_.return_slack_us = -(std::int64_t{1} << 50);  // no host finds it too old to be worth sending
        }
    }

    Findings run() {
        make_world();
        switch (below(6)) {
            case 0:
                plan_synchronized();
                break;
            case 1:
                plan_forgotten();
                break;
            default:
                plan_random();
        }
        while (!events_.empty() && found_.violation.empty()) {
            const Event event = events_.top();
            events_.pop();
            now_us_ = event.at_us;
            event.run();
            check_balance();
        }
        return found_;
    }

 private:
    struct Event {
        std::int64_t at_us;
        std::uint64_t order;
        std::function<void()> run;
        bool operator<(const Event& other) const {
            return at_us != other.at_us ? at_us > other.at_us : order > other.order;
        }
    };
    struct Worker {
        std::uint64_t life = 0;  // a reply to an earlier one is dropped
        bool asking = false;
        std::vector<std::int64_t> waiting;  // their costs
    };
    struct Host {
        std::int64_t clock_offset_us = 0;
        LeaseState state;
        std::vector<Worker> workers;
    };
    struct Window {
        RateWindow rate;
        Level admitted;  // the promise
        std::vector<std::int64_t> allowances_end_us;
        Level explained;  // spent, lost or kept by a discount: what Redis may hold against the clients
    };

    std::uint64_t below(std::uint64_t n) { return n == 0 ? 0 : random_() % n; }
    bool chance(double p) { return std::uniform_real_distribution<double>()(random_) < p; }
    // Any order of magnitude up to max.
    std::int64_t up_to(std::int64_t max) {
        const auto shift = below(63);
        return std::min(max, static_cast<std::int64_t>(random_() >> 1 >> shift));
    }
    void at(std::int64_t when_us, std::function<void()> run) {
        events_.push({std::max(when_us, now_us_), order_++, std::move(run)});
    }

    void make_world() {
        static constexpr std::int64_t kPeriods[] = {1'000'000, 60'000'000, 3'600'000'000, 86'400'000'000};
        const std::size_t count = 1 + below(3);
        const std::int64_t per_second = 1 + up_to(30'000);
        for (std::size_t i = 0; i < count; ++i) {
            RateWindow rate;
            rate.period_us = kPeriods[i];
            rate.quota = std::max<std::int64_t>(
                1, per_second * (kPeriods[i] / 1'000'000) / static_cast<std::int64_t>(1 + 3 * i * below(3)));
            rate.burst = 1 + static_cast<std::int64_t>(below(static_cast<std::uint64_t>(per_second)));
            windows_.push_back({rate, {}, {}, {}});
            rates_.push_back(rate);
        }
        tats_.resize(count);
        hosts_.resize(2 + below(3));
        for (Host& host : hosts_) {
            host.clock_offset_us = static_cast<std::int64_t>(below(1'000'000'000'000));
            host.workers.resize(1 + below(4));
        }
        redis_offset_us_ = static_cast<std::int64_t>(below(1'000'000'000'000));
        delay_us_ = 50 + up_to(10'000);
        fault_rate_ = chance(0.5) ? 0 : 0.03;
        burst_ = std::min_element(rates_.begin(), rates_.end(), [](const RateWindow& a, const RateWindow& b) {
                     return a.burst < b.burst;
                 })->burst;
    }

    // Bursts of requests here and there, at rates around the limit's, and accidents.
    void plan_random() {
        const auto& rate = rates_[0];
        const double unit_us = static_cast<double>(rate.period_us) / static_cast<double>(rate.quota);
        std::int64_t begin_us = 0;
        const std::size_t phases = 3 + below(8);
        for (std::size_t phase = 0; phase < phases; ++phase) {
            const std::size_t host = below(hosts_.size());
            const std::size_t requests = 1 + below(60);
            const double pace = std::uniform_real_distribution<double>(0, 2)(random_);
            const std::int64_t cost_max = chance(0.7) ? 1 : 1 + up_to(std::min<std::int64_t>(burst_, 1'000) - 1);
            double when = static_cast<double>(begin_us);
            for (std::size_t i = 0; i < requests; ++i) {
                const auto cost =
                    std::min(burst_, 1 + static_cast<std::int64_t>(below(static_cast<std::uint64_t>(cost_max))));
                at(static_cast<std::int64_t>(when), [this, host, cost] { request(host, pick_worker(host), cost); });
                when += std::min(pace * unit_us * static_cast<double>(cost), 50'000.0);
            }
            begin_us += static_cast<std::int64_t>(below(150'000));
        }
        plan_accidents(begin_us);
        if (chance(0.5)) {
            plan_drain(begin_us + static_cast<std::int64_t>(below(300'000)));
        }
    }

    // The worst that clients can do who see into the leases: all hosts spend at the same time and then hold as much,
    // let it go back while the window refills, and do so again and again; in the end everything is spent at once.
    void plan_synchronized() {
        delay_us_ = 50 + up_to(1'000);
        const auto& rate = rates_[0];
        const double share = std::uniform_real_distribution<double>(0.5, 1.1)(random_);
        const std::int64_t cycle_us = 139'000;
        const auto spend =
            static_cast<std::int64_t>(share * static_cast<double>(rate.quota) * static_cast<double>(cycle_us) /
                                      static_cast<double>(rate.period_us) / static_cast<double>(hosts_.size()));
        const std::int64_t cost = std::clamp<std::int64_t>(spend, 1, burst_);
        const std::int64_t cycles = 5 + static_cast<std::int64_t>(below(40));
        for (std::int64_t cycle = 0; cycle < cycles; ++cycle) {
            const std::int64_t begin_us = cycle * cycle_us;
            for (std::size_t host = 0; host < hosts_.size(); ++host) {
                at(begin_us + static_cast<std::int64_t>(below(500)), [this, host, cost] { request(host, 0, cost); });
                at(begin_us + 38'000, [this, host] { request(host, 0, 1); });
            }
        }
        plan_drain(cycles * cycle_us - 3'000);
    }

    // A worker dies with a large lease whose timer it held. The window refills; others take all of it, and then the
    // first host brings back what it still remembers.
    void plan_forgotten() {
        const std::int64_t held = std::max<std::int64_t>(1, burst_ / 3);
        std::int64_t refill_us = 0;
        for (const RateWindow& rate : rates_) {
            refill_us = std::max(refill_us, gcra_cost_us(rate, 2 * held + 2));
        }
        const std::size_t worker = pick_worker(0);
        at(0, [this, worker, held] { request(0, worker, held); });
        at(30'000, [this, worker] { request(0, worker, 1); });
        at(90'000, [this, worker] { kill_worker(hosts_[0].workers[worker]); });
        const std::int64_t full_us =
            100'000 + static_cast<std::int64_t>(below(static_cast<std::uint64_t>(refill_us) * 2));
        for (std::int64_t cost = burst_, i = 0; cost > 0; cost /= 2, i += 100) {
            at(full_us + i, [this, cost] { request(1, pick_worker(1), cost); });
        }
        at(full_us + 10'000, [this, held] { request(0, pick_worker(0), held); });
        plan_drain(full_us + 10'000 + static_cast<std::int64_t>(below(100'000)));
    }

    // Everything that is held, and then everything that Redis has.
    void plan_drain(std::int64_t when_us) {
        at(when_us, [this] {
            for (std::size_t host = 0; host < hosts_.size(); ++host) {
                while (hosts_[host].state.tokens > 0 && found_.violation.empty()) {
                    const std::int64_t before = hosts_[host].state.tokens;
                    request(host, pick_worker(host), std::min(burst_, before));
                    if (hosts_[host].state.tokens >= before) {
                        break;
                    }
                }
                for (std::int64_t cost = burst_; cost > 0; cost /= 2) {
                    at(now_us_ + 1 + static_cast<std::int64_t>(below(1'000)),
                       [this, host, cost] { request(host, pick_worker(host), cost); });
                }
            }
        });
    }

    void plan_accidents(std::int64_t end_us) {
        const auto some_time = [this, end_us] {
            return static_cast<std::int64_t>(below(static_cast<std::uint64_t>(end_us) + 1));
        };
        for (int i = 0; i < 3 && fault_rate_ > 0; ++i) {
            const std::size_t host = below(hosts_.size());
            if (chance(0.3)) {
                at(some_time(), [this, host] { restart(hosts_[host]); });
            }
            if (chance(0.5)) {
                at(some_time(), [this, host] { kill_worker(hosts_[host].workers[pick_worker(host)]); });
            }
        }
        if (fault_rate_ > 0 && chance(0.2)) {
            at(some_time(), [this] { lose_redis_state(); });
        }
    }

    std::size_t pick_worker(std::size_t host) { return below(hosts_[host].workers.size()); }
    [[nodiscard]] std::int64_t clock_of(const Host& host) const { return now_us_ + host.clock_offset_us; }

    void request(std::size_t host_index, std::size_t worker_index, std::int64_t cost) {
        Host& host = hosts_[host_index];
        Worker& worker = host.workers[worker_index];
        LeaseAsker asker;
        asker.may_wait = worker.asking && worker.waiting.size() < 20;
        if (!worker.asking) {
            for (const std::int64_t waiting : worker.waiting) {
                asker.waiting += waiting;
            }
        }
        const std::int64_t held = host.state.tokens;
        const LeaseDecision decision = lease_spend(host.state, rates_, cost, asker, clock_of(host), rules_);
        switch (decision.answer) {
            case LeaseAnswer::kSpent:
                found_.from_leases += cost;
                admit(cost);
                break;
            case LeaseAnswer::kWait:
                worker.waiting.push_back(cost);
                break;
            case LeaseAnswer::kRefused:
                ++found_.refused;
                check_remembered(host_index, cost, decision.retry_us);
                break;
            case LeaseAnswer::kAsk:
                give_up(held - host.state.tokens - decision.take.ret);
                send(host_index, worker_index, decision.take);
                break;
        }
    }

    // One message, of which each half may be slow or lost. A return is on its way for at most kReturnSlackUs: see
    // lease.h.
    void send(std::size_t host_index, std::size_t worker_index, LeaseTake take) {
        Host& host = hosts_[host_index];
        Worker& worker = host.workers[worker_index];
        worker.asking = worker.asking || take.need > 0;
        found_.returned += take.ret;
        flying_returns_.push_back(take.ret);
        const std::uint64_t life = worker.life;
        const bool slow = chance(fault_rate_), lost = chance(fault_rate_);
        const std::int64_t way_us =
            std::min(travel_us(slow), take.ret > 0 ? kLeaseRules.return_slack_us : std::int64_t{1} << 40);
        if (lost) {
            at(now_us_ + way_us, [this, take] {
                forget(flying_returns_, take.ret);
                found_.returned -= take.ret;
                give_up(take.ret);
            });
            at(now_us_ + 50'000 + static_cast<std::int64_t>(below(200'000)),
               [=, this] { on_lost(host_index, worker_index, life, take); });
            return;
        }
        at(now_us_ + way_us, [=, this] { redis(host_index, worker_index, life, take); });
    }

    std::int64_t travel_us(bool slow) {
        return slow ? static_cast<std::int64_t>(below(300'000))
                    : 20 + static_cast<std::int64_t>(below(static_cast<std::uint64_t>(delay_us_)));
    }

    void redis(std::size_t host, std::size_t worker, std::uint64_t life, LeaseTake take) {
        forget(flying_returns_, take.ret);
        const std::int64_t age_us = mutation_ == Mutation::kReturnWithoutAge ? 0 : take.ret_age_us;
        std::vector<WindowState> states(rates_.size());
        LimitDecision decision = gcra_charge(rates_, tats_, now_us_ + redis_offset_us_, take.need,
                                             take.need > 0 ? take.ahead : 0, take.ret, age_us, states);
        for (Window& window : windows_) {
            const std::int64_t worth_us = gcra_cost_us(window.rate, std::min(take.ret, window.rate.burst)) - age_us;
            add(window.explained, window.rate,
                gcra_cost_us(window.rate, take.ret) - std::max<std::int64_t>(0, worth_us));
        }
        granted_ += decision.granted;
        flying_grants_.push_back(decision.granted);
        check_explained();
        if (chance(fault_rate_)) {
            give_up_grant(decision.granted);
            at(now_us_ + 50'000 + static_cast<std::int64_t>(below(200'000)),
               [=, this] { on_lost(host, worker, life, take); });
            return;
        }
        at(now_us_ + travel_us(chance(fault_rate_)),
           [=, this] { on_reply(host, worker, life, take, decision, states); });
    }

    void on_reply(std::size_t host_index, std::size_t worker_index, std::uint64_t life, const LeaseTake& take,
                  LimitDecision decision, const std::vector<WindowState>& states) {
        Host& host = hosts_[host_index];
        Worker& worker = host.workers[worker_index];
        if (worker.life != life) {
            give_up_grant(decision.granted);
            return;
        }
        const std::int64_t held = host.state.tokens;
        const std::int64_t now_us = clock_of(host);
        const LeaseOutcome outcome = lease_on_reply(host.state, take, decision, states, now_us, rules_);
        forget(flying_grants_, decision.granted);
        if (outcome == LeaseOutcome::kGranted) {
            admit(take.need);
            give_up(held + decision.granted - take.need - host.state.tokens);
            if (decision.granted > take.need) {
                at(now_us_ + take.asked_us + rules_.life_us + 1 - now_us,
                   [=, this] { on_expiry(host_index, worker_index, life); });
            }
        } else {
            give_up(decision.granted);
            found_.late += outcome == LeaseOutcome::kLate ? 1 : 0;
            if (outcome == LeaseOutcome::kRefused && take.need > 0) {
                ++found_.refused;
                refusals_.push_back({host_index, take.need, now_us_, decision.retry_us});
            }
        }
        if (take.need > 0) {
            serve_waiting(host_index, worker_index);
        }
    }

    void on_lost(std::size_t host_index, std::size_t worker_index, std::uint64_t life, const LeaseTake& take) {
        ++found_.lost;
        if (hosts_[host_index].workers[worker_index].life == life) {
            lease_on_lost(hosts_[host_index].state, take);
            if (take.need > 0) {
                serve_waiting(host_index, worker_index);
            }
        }
    }

    void serve_waiting(std::size_t host_index, std::size_t worker_index) {
        Worker& worker = hosts_[host_index].workers[worker_index];
        worker.asking = false;
        while (!worker.asking && !worker.waiting.empty()) {
            const std::int64_t cost = worker.waiting.front();
            worker.waiting.erase(worker.waiting.begin());
            request(host_index, worker_index, cost);
        }
    }

    void on_expiry(std::size_t host_index, std::size_t worker_index, std::uint64_t life) {
        Host& host = hosts_[host_index];
        if (host.workers[worker_index].life != life) {
            return;
        }
        const std::int64_t held = host.state.tokens;
        const LeaseTake take = lease_due_return(host.state, rates_, clock_of(host), rules_);
        give_up(held - host.state.tokens - take.ret);
        if (take.ret > 0) {
            send(host_index, worker_index, take);
        }
    }

    void kill_worker(Worker& worker) {
        ++worker.life;
        worker.asking = false;
        worker.waiting.clear();
    }
    void restart(Host& host) {
        give_up(host.state.tokens);
        host.state = LeaseState{};
        std::for_each(host.workers.begin(), host.workers.end(), [this](Worker& worker) { kill_worker(worker); });
    }
    void lose_redis_state() {
        std::fill(tats_.begin(), tats_.end(), 0);
        for (Window& window : windows_) {
            window.allowances_end_us.push_back(now_us_ + 100'000);
        }
    }

    static void forget(std::vector<std::int64_t>& flying, std::int64_t units) {
        flying.erase(std::find(flying.begin(), flying.end(), units));
    }
    void give_up_grant(std::int64_t units) {
        forget(flying_grants_, units);
        give_up(units);
    }
    // Charged, and neither spent nor returned.
    void give_up(std::int64_t units) {
        given_up_ += units;
        for (Window& window : windows_) {
            add(window.explained, window.rate, gcra_cost_us(window.rate, units));
        }
    }
    void add(Level& level, const RateWindow& rate, std::int64_t cost_us) const {
        level.advance(now_us_, rate.quota);
        level.value += static_cast<__int128>(cost_us) * rate.quota;
    }

    // The bound over all spans at once: a leaky bucket of the promised size. Redis losing its state allows one burst
    // more, to every span that begins before tokens charged earlier have died.
    void admit(std::int64_t cost) {
        found_.admitted += cost;
        for (Window& window : windows_) {
            const RateWindow& rate = window.rate;
            std::erase_if(window.allowances_end_us, [&](std::int64_t end_us) {
                if (end_us > now_us_) {
                    return false;
                }
                window.admitted.advance(std::max(end_us, window.admitted.at_us), rate.quota);
                window.admitted.value =
                    std::max<__int128>(0, window.admitted.value - static_cast<__int128>(rate.burst) * rate.period_us);
                return true;
            });
            window.admitted.advance(now_us_, rate.quota);
            window.admitted.value += static_cast<__int128>(cost) * rate.period_us;
            const auto bursts = static_cast<std::int64_t>(1 + window.allowances_end_us.size());
            // One µs more for rates that are no whole number of µs apart: see gcra.h.
            const auto allowed = static_cast<__int128>(rate.burst) * bursts * rate.period_us +
                                 static_cast<__int128>(100'001) * rate.quota;
            if (window.admitted.value > allowed) {
                violated("more than burst + rate * (t + 0.1 s) was admitted");
            }
            add(window.explained, rate, gcra_cost_us(rate, cost));
        }
    }

    void check_balance() {
        std::int64_t held = 0;
        for (const Host& host : hosts_) {
            held += host.state.tokens;
        }
        for (const std::int64_t units : flying_grants_) {
            held += units;
        }
        if (granted_ != found_.admitted + held + given_up_ + found_.returned) {
            violated("what was charged is not what was admitted, held, returned and lost");
        }
        if (granted_ - found_.returned < found_.admitted) {
            violated("more was admitted than charged");
        }
    }

    // What Redis holds against the clients is what they spent, what hosts hold, what was lost and what the
    // discount kept: a refusal is early by no more than the latter.
    void check_explained() {
        for (std::size_t i = 0; i < windows_.size(); ++i) {
            Window& window = windows_[i];
            const RateWindow& rate = window.rate;
            window.explained.advance(now_us_, rate.quota);
            __int128 explained = window.explained.value;
            const auto hold = [&](std::int64_t units) {
                explained += static_cast<__int128>(gcra_cost_us(rate, units)) * rate.quota;
            };
            std::for_each(flying_grants_.begin(), flying_grants_.end(), hold);
            std::for_each(flying_returns_.begin(), flying_returns_.end(), hold);
            for (const Host& host : hosts_) {
                hold(host.state.tokens);
            }
            const std::int64_t full_us = tats_[i] - now_us_ - redis_offset_us_;
            // Costs are rounded up, so that two leases that were merged may explain a µs less than they cost.
            if (static_cast<__int128>(full_us - 20) * rate.quota > explained) {
                violated("a window is fuller than spending, leases, losses and discounts explain");
            }
        }
    }

    // A refusal without asking repeats one of Redis that is no older than 50 ms, and ends with it.
    void check_remembered(std::size_t host, std::int64_t cost, std::int64_t retry_us) {
        const bool explained = std::any_of(refusals_.rbegin(), refusals_.rend(), [&](const Refusal& refusal) {
            return refusal.host == host && refusal.need <= cost && now_us_ - refusal.at_us <= 50'000 &&
                   refusal.at_us + refusal.retry_us == now_us_ + retry_us && retry_us > 0;
        });
        if (!explained) {
            violated("a refusal that Redis did not decide in the last 50 ms");
        }
    }

    void violated(const char* what) {
        if (found_.violation.empty()) {
            found_.violation = what;
        }
    }

    struct Refusal {
        std::size_t host;
        std::int64_t need, at_us, retry_us;
    };

    std::mt19937_64 random_;
    Mutation mutation_;
    LeaseRules rules_;
    std::int64_t now_us_ = 0;
    std::uint64_t order_ = 0;
    std::priority_queue<Event> events_;
    std::vector<Host> hosts_;
    std::vector<Window> windows_;
    std::vector<RateWindow> rates_;
    std::vector<std::int64_t> tats_;  // in Redis
    std::int64_t redis_offset_us_ = 0, delay_us_ = 0, burst_ = 0;
    double fault_rate_ = 0;
    std::int64_t granted_ = 0, given_up_ = 0;
    std::vector<std::int64_t> flying_grants_, flying_returns_;
    std::vector<Refusal> refusals_;
    Findings found_;
};

}  // namespace headgate::test
