// links: headgate_deliver headgate_match headgate_store
// The parts of the dispatcher that need neither a store nor a network.
#include <spdlog/spdlog.h>

#include <memory>
#include <string>
#include <vector>

#include "lua-free-tests/cmocka_cpp.h"  // last
#include "sidecar/base/wall_clock.h"
#include "sidecar/deliver/lanes.h"
#include "sidecar/deliver/memory_quota.h"
#include "sidecar/deliver/store_round.h"

using namespace headgate;

namespace {

// ---- lanes and memory -----------------------------------------------------------------------

HeldDelivery held(const std::string& id) {
    HeldDelivery delivery;
    delivery.delivery_id = id;
    delivery.event = std::make_shared<EventBodies>(std::make_shared<const Event>());
    return delivery;
}

std::shared_ptr<const DeliveryTarget> target(int max_in_flight) {
    auto made = std::make_shared<DeliveryTarget>();
    made->webhook.max_in_flight = max_in_flight;
    return made;
}

void test_lanes_round_robin_and_shares(void**) {
    Lanes lanes(8);
    std::vector<Lane*> closed;
    std::vector<std::string> loading;
    const auto always = [](const DeliveryTarget&, const HeldDelivery&) { return true; };
    for (int i = 0; i < 20; ++i) {
        lanes.push("a", held("a" + std::to_string(i)));
    }
    lanes.push("b", held("b0"));
    assert_null(lanes.next(0, always, loading, closed).lane);
    assert_int_equal(loading.size(), 2);
    assert_null(lanes.next(0, always, loading, closed).lane);
    assert_int_equal(loading.size(), 2);  // asked once
    lanes.set_target(*lanes.find("a"), target(16));
    std::string order;
    while (Lane* lane = lanes.next(0, always, loading, closed).lane) {
        order += lane->webhook_id;
    }
    assert_string_equal(order.c_str(), "aaaa");  // a greedy one leaves as many free as it has
    lanes.set_target(*lanes.find("b"), target(16));
    order.clear();
    while (Lane* lane = lanes.next(0, always, loading, closed).lane) {
        order += lane->webhook_id;
    }
    assert_string_equal(order.c_str(), "b");
    lanes.finished(*lanes.find("a"));
    assert_int_equal(lanes.in_flight(), 4);
    assert_non_null(lanes.next(0, always, loading, closed).lane);
    assert_int_equal(lanes.drain(*lanes.find("a")).size(), 15);
    assert_null(lanes.next(0, always, loading, closed).lane);
}

// A lane that another instance had is made, or comes back, with its webhook's rate used up; others are not touched.
void test_lanes_gained_have_no_burst(void**) {
    Lanes lanes(8);
    std::vector<Lane*> closed;
    std::vector<std::string> loading;
    const auto always = [](const DeliveryTarget&, const HeldDelivery&) { return true; };
    auto rated = std::make_shared<DeliveryTarget>();
    rated->webhook.rate = "10r/s:10";
    lanes.push("before", held("x"));
    lanes.set_target(*lanes.find("before"), rated);
    assert_non_null(lanes.next(1'000, always, loading, closed).lane);
    lanes.gained(lane_of("before"), 2'000);
    lanes.gained(lane_of("after"), 2'000);
    for (const char* webhook_id : {"before", "after", "other"}) {
        lanes.push(webhook_id, held("y"));
        lanes.set_target(*lanes.find(webhook_id), rated);
    }
    Lane* const lane = lanes.next(2'000, always, loading, closed).lane;
    assert_true(lane == lanes.find("other"));
    assert_null(lanes.next(2'000, always, loading, closed).lane);
    assert_int_equal(closed.size(), 2);
    assert_int_equal(lanes.find("after")->gate.free_at(2'000), 2'100);
    assert_int_equal(lanes.find("before")->gate.free_at(2'000), 2'100);
}

void test_lanes_own_limit(void**) {
    Lanes lanes(100);
    std::vector<Lane*> closed;
    std::vector<std::string> loading;
    const auto always = [](const DeliveryTarget&, const HeldDelivery&) { return true; };
    for (int i = 0; i < 5; ++i) {
        lanes.push("a", held("x"));
    }
    assert_null(lanes.next(0, always, loading, closed).lane);
    lanes.set_target(*lanes.find("a"), target(3));
    Lane* const lane = lanes.find("a");
    for (int i = 0; i < 3; ++i) {
        assert_non_null(lanes.next(0, always, loading, closed).lane);
    }
    assert_null(lanes.next(0, always, loading, closed).lane);
    lanes.finished(*lane);
    assert_non_null(lanes.next(0, always, loading, closed).lane);
    int forgotten = 0;
    lanes.forget_idle(wall_clock_ms(), 0, [&](const std::string&) { ++forgotten; });
    assert_int_equal(forgotten, 0);
}

void test_memory_quota_limits_and_order(void**) {
    MemoryQuota quota(1000, 1'000'000);
    for (int i = 0; i < 32; ++i) {
        assert_true(quota.reserve("a"));
    }
    assert_false(quota.reserve("a"));
    assert_false(quota.wants_claim());
    quota.give_back("a");
    assert_false(quota.reserve("a"));  // older ones wait in the store: they come first
    assert_true(quota.reserve("b"));
    for (int i = 0; i < 16; ++i) {
        quota.give_back("a");
    }
    assert_true(quota.wants_claim());
    const std::size_t claim_max = quota.begin_claim();
    assert_int_equal(quota.offer("a"), 17);
    ClaimedDelivery claimed;
    claimed.webhook_id = "a";
    quota.finish_claim({claimed}, claim_max, 0);
    assert_false(quota.wants_claim());  // the store had no more
    assert_true(quota.reserve("a"));
    assert_int_equal(quota.held(), 18);
}

void test_memory_quota_is_shared(void**) {
    MemoryQuota quota(64, 1'000'000);
    quota.set_max_in_flight("hog", 1000);
    int hog = 0;
    while (quota.reserve("hog")) {
        ++hog;
    }
    assert_int_equal(hog, 32);
    for (int i = 0; i < 96; ++i) {
        assert_true(quota.reserve("w" + std::to_string(i)));  // each of many gets at least one
    }
    assert_false(quota.reserve("too many"));
    MemoryQuota bytes(64, 1000);
    assert_true(bytes.reserve("big"));
    bytes.add_bytes("big", 600);
    assert_false(bytes.reserve("big"));
    assert_true(bytes.reserve("small"));
    bytes.add_bytes("small", 400);
    assert_false(bytes.reserve("third"));
}

// While retries and replays wait, claims leave room for what is new; while new events wait, these come first.
void test_memory_quota_arrears_leave_room_for_new_events(void**) {
    MemoryQuota quota(1000, 1'000'000);
    while (quota.reserve("a")) {
    }
    std::vector<ClaimedDelivery> retries(24);
    for (auto& retry : retries) {
        retry.webhook_id = "a";
        retry.attempts = 1;
    }
    const auto claim = [&](int room) {
        while (quota.held() > 0) {
            quota.give_back("a");
        }
        (void)quota.begin_claim();
        assert_int_equal(quota.offer("a"), room);
        quota.finish_claim(retries, retries.size(), 0);  // as many as it could take: there are more
    };
    claim(32);
    for (int i = 0; i < 8; ++i) {
        assert_true(quota.reserve("a"));
    }
    assert_false(quota.reserve("a"));
    quota.give_back("a");
    assert_false(quota.reserve("a"));  // that one waits in the store now, and comes first
    claim(32);
    claim(24);
    assert_true(quota.reserve("a"));
}

void test_memory_quota_what_is_not_worth_holding(void**) {
    MemoryQuota quota(1000, 1'000'000);
    quota.set_worth_holding("a", 0);
    assert_false(quota.reserve("a"));
    assert_false(quota.wants_claim());
    (void)quota.begin_claim();
    assert_int_equal(quota.offer("a"), 0);
    quota.finish_claim({}, 8, 0);
    quota.set_worth_holding("a", 2);
    assert_true(quota.wants_claim());  // whatever was left in the store meanwhile
    (void)quota.begin_claim();
    assert_int_equal(quota.offer("a"), 2);
    ClaimedDelivery claimed;
    claimed.webhook_id = "a";
    quota.finish_claim({claimed, claimed}, 8, 0);
    assert_false(quota.wants_claim());
    assert_int_equal(quota.held(), 2);
    quota.undo_claim({claimed, claimed});
    assert_int_equal(quota.held(), 0);
    assert_true(quota.wants_claim());
}

// A closed gate passes its lane over until its time; others go on, and it comes back by itself.
void test_lanes_closed_gate_waits_for_its_time(void**) {
    Lanes lanes(100);
    std::vector<Lane*> closed;
    std::vector<std::string> loading;
    const auto always = [](const DeliveryTarget&, const HeldDelivery&) { return true; };
    for (int i = 0; i < 3; ++i) {
        lanes.push("slow", held("s"));
        lanes.push("free", held("f"));
    }
    (void)lanes.next(1000, always, loading, closed);
    auto once_a_second = std::make_shared<DeliveryTarget>();
    once_a_second->webhook.rate = "1r/s";
    lanes.set_target(*lanes.find("slow"), once_a_second);
    lanes.set_target(*lanes.find("free"), target(16));
    std::string order;
    while (Lane* lane = lanes.next(1000, always, loading, closed).lane) {
        order += lane->webhook_id[0];
    }
    assert_string_equal(order.c_str(), "sfff");
    assert_int_equal(closed.size(), 1);
    Lane& slow = *closed[0];
    assert_int_equal(slow.gate.free_at(1000), 2000);
    lanes.wait(slow, 2000);
    assert_true(lanes.next_wait() == 2000);
    assert_true(lanes.waited(1999).empty());
    assert_null(lanes.next(1999, always, loading, closed).lane);
    assert_int_equal(lanes.waited(2000).size(), 1);
    lanes.wait(slow, 0);
    assert_ptr_equal(lanes.next(2000, always, loading, closed).lane, &slow);
    assert_false(lanes.next_wait().has_value());
}

// ---- writing results ------------------------------------------------------------------------

ResultBatch batch_of(int records) {
    ResultBatch batch;
    for (int i = 0; i < records; ++i) {
        AttemptRecord record;
        record.delivery_id = std::to_string(i);
        record.response_body = "body";
        batch.records.push_back(record);
    }
    return batch;
}

// A record that the store refuses for good keeps none of the others from being written, and none is written twice.
void test_write_results_culprits_are_isolated(void**) {
    std::vector<std::string> written;
    int rows = 0;
    const RecordAttempts record = [&](std::span<const AttemptRecord> records) -> Result<headgate::RecordOutcome> {
        for (const AttemptRecord& each : records) {
            const bool is_hopeless = each.delivery_id == "37" || (each.delivery_id == "50" && each.is_kept);
            const bool is_too_much = each.delivery_id == "63" && !each.response_body.empty();
            if (is_hopeless || is_too_much) {
                return headgate::fail(ErrorCode::kInternal, "refused");
            }
        }
        for (const AttemptRecord& each : records) {
            written.push_back(each.delivery_id);
            rows += each.is_kept ? 1 : 0;
        }
        return headgate::RecordOutcome{};
    };
    ResultBatch batch = batch_of(100);
    assert_true(write_results(record, batch).has_value());
    assert_int_equal(batch.written, 100);
    assert_int_equal(written.size(), 99);
    assert_int_equal(rows, 98);  // the row of one is refused: its delivery is written all the same
    int expected = 0;
    for (const std::string& id : written) {
        expected += expected == 37 ? 1 : 0;
        assert_string_equal(id.c_str(), std::to_string(expected++).c_str());
    }
}

// A store that is away for a while: what was written stays written, the rest follows.
void test_write_results_passing_error_keeps_the_rest(void**) {
    std::vector<std::string> written;
    int calls = 0;
    const RecordAttempts record = [&](std::span<const AttemptRecord> records) -> Result<headgate::RecordOutcome> {
        ++calls;
        if (calls == 1) {
            return headgate::fail(ErrorCode::kInternal, "too long");
        }
        if (calls == 3) {
            return headgate::fail(ErrorCode::kUnavailable, "locked");
        }
        for (const AttemptRecord& each : records) {
            written.push_back(each.delivery_id);
        }
        return headgate::RecordOutcome{};
    };
    ResultBatch batch = batch_of(10);
    const auto first = write_results(record, batch);
    assert_false(first.has_value());
    assert_true(first.error().code == ErrorCode::kUnavailable);
    assert_int_equal(batch.written, 5);
    assert_true(write_results(record, batch).has_value());
    assert_int_equal(written.size(), 10);
    assert_string_equal(written.back().c_str(), "9");
}

}  // namespace

int main() {
    spdlog::set_level(spdlog::level::off);
    const CMUnitTest tests[] = {
        cmocka_unit_test(test_lanes_round_robin_and_shares),
        cmocka_unit_test(test_lanes_gained_have_no_burst),
        cmocka_unit_test(test_lanes_own_limit),
        cmocka_unit_test(test_memory_quota_limits_and_order),
        cmocka_unit_test(test_memory_quota_is_shared),
        cmocka_unit_test(test_memory_quota_arrears_leave_room_for_new_events),
        cmocka_unit_test(test_memory_quota_what_is_not_worth_holding),
        cmocka_unit_test(test_lanes_closed_gate_waits_for_its_time),
        cmocka_unit_test(test_write_results_culprits_are_isolated),
        cmocka_unit_test(test_write_results_passing_error_keeps_the_rest),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
