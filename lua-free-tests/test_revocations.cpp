// links: headgate_edge_pure
// The revocations in their span of memory: members, the table at its bounds, and when it is read anew.
#include <cstdint>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "common/hmac.h"
#include "lua-free-tests/cmocka_cpp.h"
#include "ngx_module/resync_schedule.h"
#include "ngx_module/revocations.h"

using namespace headgate;
using namespace headgate::edge;

namespace {

constexpr std::int64_t kNow = 1'800'000'000'000;
constexpr std::size_t kSlotBytes = 40;

struct Table {
    explicit Table(std::size_t slots) : memory(slots * kSlotBytes / sizeof(std::uint64_t)) {
        table.init(memory.data(), slots * kSlotBytes);
        assert_int_equal(table.slots(), slots);
    }
    std::vector<std::uint64_t> memory;
    RevocationTable table{};
};

RevokedMember member(const std::string& text) {
    const auto parsed = parse_revoked_member(text);
    assert_true(parsed.has_value());
    return *parsed;
}
std::string hex_of(std::string_view iss, std::string_view name) {
    return hex_encode(sha256(std::string(iss) + '\0', name));
}

void members(void**) {
    assert_true(member("key:k1").fingerprint == mark_of_key("k1").fingerprint);
    assert_true(member("kid:a@b").fingerprint == mark_of_kid("a@b").fingerprint);
    assert_true(member("jti:" + hex_of("i", "j")).fingerprint == mark_of_jti("i", "j").fingerprint);
    const RevokedMember sub = member("sub:" + hex_of("i", "s") + "@1700");
    assert_true(sub.fingerprint == mark_of_sub("i", "s").fingerprint);
    assert_int_equal(sub.issued_before_ms, 1700);
    assert_true(sub.has_time());
    assert_false(member("key:k1").has_time());
    assert_false(mark_of_key("").has);
    assert_false(mark_of_jti("i", "").has);
    assert_true(mark_of_jti("", "j").has);
    assert_false(mark_of_sub("is", "s").fingerprint == mark_of_sub("i", "ss").fingerprint);
    const std::string hex = hex_of("i", "s");
    for (const std::string& bad :
         {std::string(), std::string("key:"), std::string("key"), std::string("jti:abc"), "jti:" + hex + "0",
          "sub:" + hex, "sub:" + hex + "@", "sub:" + hex + "@-1", "sub:" + hex + "@1x",
          "sub:" + hex + "@" + "99999999999999999999", "sub:" + hex + "@9223372036854775807",
          "sub:" + hex.substr(1) + "@1", std::string("org:x")}) {
        assert_false(parse_revoked_member(bad).has_value());
    }
}

void in_force(void**) {
    Table t(64);
    assert_int_equal(static_cast<int>(t.table.add(member("key:a"), kNow + 10, 1)),
                     static_cast<int>(RevocationTable::Added::kNew));
    assert_true(t.table.revokes(mark_of_key("a"), 0, kNow + 9));
    assert_false(t.table.revokes(mark_of_key("a"), 0, kNow + 10));
    assert_false(t.table.revokes(mark_of_kid("a"), 0, kNow));
    // The later end counts.
    assert_int_equal(static_cast<int>(t.table.add(member("key:a"), kNow + 5, 1)),
                     static_cast<int>(RevocationTable::Added::kKnown));
    assert_true(t.table.revokes(mark_of_key("a"), 0, kNow + 9));
    assert_int_equal(static_cast<int>(t.table.add(member("key:a"), kNow + 20, 1)),
                     static_cast<int>(RevocationTable::Added::kNew));
    assert_true(t.table.revokes(mark_of_key("a"), 0, kNow + 19));
    assert_int_equal(t.table.size(), 1);

    // What was issued before; two times of one subject stand beside each other.
    const std::string sub = "sub:" + hex_of("i", "s") + "@";
    (void)t.table.add(member(sub + "5000"), kNow + 10, 1);
    const RevocationMark mark = mark_of_sub("i", "s");
    assert_true(t.table.revokes(mark, 4999, kNow));
    assert_false(t.table.revokes(mark, 5000, kNow));
    assert_true(t.table.revokes(mark, 0, kNow));  // it does not say when it was issued
    (void)t.table.add(member(sub + "7000"), kNow + 10, 1);
    assert_true(t.table.revokes(mark, 6999, kNow));
    assert_true(t.table.remove(member(sub + "7000")));
    assert_false(t.table.revokes(mark, 6999, kNow));
    assert_true(t.table.revokes(mark, 4999, kNow));
    assert_false(t.table.remove(member(sub + "7000")));
}

void full(void**) {
    Table t(80);
    assert_int_equal(t.table.size_max(), 60);
    assert_int_equal(t.table.size_max_with_time(), 70);
    for (int i = 0; i < 60; ++i) {
        assert_int_equal(static_cast<int>(t.table.add(member("key:" + std::to_string(i)), kNow, 1)),
                         static_cast<int>(RevocationTable::Added::kNew));
    }
    assert_int_equal(static_cast<int>(t.table.add(member("key:60"), kNow, 1)),
                     static_cast<int>(RevocationTable::Added::kLeftOut));
    assert_int_equal(static_cast<int>(t.table.add(member("key:59"), kNow + 1, 1)),
                     static_cast<int>(RevocationTable::Added::kNew));  // it is there
    for (int i = 0; i < 10; ++i) {
        const std::string text = "sub:" + hex_of("i", std::to_string(i)) + "@1";
        assert_int_equal(static_cast<int>(t.table.add(member(text), kNow, 1)),
                         static_cast<int>(RevocationTable::Added::kNew));
    }
    assert_int_equal(static_cast<int>(t.table.add(member("sub:" + hex_of("i", "x") + "@1"), kNow, 1)),
                     static_cast<int>(RevocationTable::Added::kLeftOut));
    assert_int_equal(t.table.size(), 70);
    for (int i = 0; i < 60; ++i) {
        assert_true(t.table.revokes(mark_of_key(std::to_string(i)), 0, kNow - 1));
    }
}

// A table against a map, with removals in any order: no entry is lost behind a hole.
void against_a_map(void**) {
    std::mt19937 random(7);  // NOLINT(cert-msc51-cpp): the same run every time
    for (const std::size_t slots : {8, 9, 64, 127}) {
        Table t(slots);
        std::map<int, bool> held;
        for (int step = 0; step < 20'000; ++step) {
            const int id = static_cast<int>(random() % (slots * 2));
            const RevokedMember one = member("key:" + std::to_string(id));
            if (random() % 2 == 0) {
                if (t.table.add(one, kNow + 1, 1) != RevocationTable::Added::kLeftOut) {
                    held[id] = true;
                }
            } else {
                assert_int_equal(t.table.remove(one), held.count(id));
                held.erase(id);
            }
            assert_int_equal(t.table.size(), held.size());
            if (step % 97 == 0) {
                for (int i = 0; i < static_cast<int>(slots * 2); ++i) {
                    assert_int_equal(t.table.revokes(mark_of_key(std::to_string(i)), 0, kNow), held.count(i));
                }
            }
        }
    }
}

void sweep(void**) {
    Table t(64);
    const auto sweep_all = [&t](std::int64_t now, bool drop_older, std::uint32_t round) {
        for (std::size_t at = 0; at < t.table.slots();) {
            at = t.table.sweep(at, 5, now, drop_older, round);
        }
    };
    (void)t.table.add(member("key:old"), kNow + 100, 1);
    (void)t.table.add(member("key:met"), kNow + 100, 1);
    (void)t.table.add(member("key:ended"), kNow - 1, 1);
    (void)t.table.add(member("key:long-ended"), kNow - RevocationTable::kKeptMs, 1);
    (void)t.table.add(member("key:met"), kNow + 100, 2);
    (void)t.table.add(member("key:pushed"), kNow + 100, 2);
    sweep_all(kNow, false, 2);
    assert_int_equal(t.table.size(), 4);  // without the one that ended so long ago that no leeway lets its token in
    sweep_all(kNow, true, 2);
    assert_false(t.table.revokes(mark_of_key("old"), 0, kNow));
    assert_true(t.table.revokes(mark_of_key("met"), 0, kNow));
    assert_true(t.table.revokes(mark_of_key("pushed"), 0, kNow));
    assert_true(t.table.revokes(mark_of_key("ended"), 0, kNow - 2));  // a location with a leeway still asks about it
    assert_int_equal(t.table.size(), 3);
    // The round counter may wrap.
    (void)t.table.add(member("key:before"), kNow + 100, UINT32_MAX);
    sweep_all(kNow, true, UINT32_MAX);
    assert_true(t.table.revokes(mark_of_key("before"), 0, kNow));
    sweep_all(kNow, true, 0);
    assert_false(t.table.revokes(mark_of_key("before"), 0, kNow));
}

// ---- the schedule -------------------------------------------------------------------------------

void schedule_by_time(void**) {
    ResyncSchedule s;
    assert_true(s.is_due(0));  // a new zone knows nothing
    assert_true(s.claim(0));
    assert_int_equal(s.round, 1);
    assert_false(s.claim(1));  // another worker is at it
    assert_true(s.finish(1, 100));
    assert_false(s.is_due(100 + kResyncIntervalMs - 1));
    assert_true(s.is_due(100 + kResyncIntervalMs));  // nobody wanted it: the push may have been lost
    assert_true(s.claim(100 + kResyncIntervalMs));
    assert_true(s.finish(2, 100 + kResyncIntervalMs));
    static_assert(kResyncIntervalMs + kResyncClaimMs <= 30'000);
}

void schedule_on_demand(void**) {
    ResyncSchedule s;
    assert_true(s.claim(0));
    s.want();  // while one is under way: that one may have passed what it is about
    assert_true(s.finish(1, 10));
    assert_false(s.is_due(10));
    assert_true(s.is_due(10 + kResyncSpacingMs));
    assert_true(s.claim(1000));
    assert_true(s.finish(2, 1010));
    assert_false(s.is_due(5000));
}

// A round that began before somebody wanted another has read some pages too early.
void schedule_of_a_round_that_is_outdated(void**) {
    ResyncSchedule s;
    assert_true(s.claim(0));
    assert_true(s.is_latest());
    s.want();
    assert_false(s.is_latest());
    assert_true(s.finish(1, 10));
    assert_true(s.claim(10 + kResyncSpacingMs));
    assert_true(s.is_latest());
}

void schedule_of_a_gap(void**) {
    ResyncSchedule s;
    assert_false(s.has_gap());
    assert_true(s.claim(0));
    s.want_for_gap();
    assert_true(s.has_gap());
    assert_true(s.finish(1, 10));
    assert_true(s.has_gap());  // it may have read before
    assert_true(s.claim(10 + kResyncSpacingMs));
    assert_true(s.fail(2, 300));
    assert_true(s.has_gap());
    s.want();
    assert_true(s.claim(300 + kResyncRetryMs));
    s.want();  // not for a gap
    assert_true(s.finish(3, 900));
    assert_false(s.has_gap());
}

void schedule_after_failure(void**) {
    ResyncSchedule s;
    assert_true(s.claim(0));
    assert_true(s.fail(1, 10));
    assert_false(s.claim(10 + kResyncRetryMs - 1));
    assert_true(s.claim(10 + kResyncRetryMs));
}

void schedule_of_dead_worker(void**) {
    ResyncSchedule s;
    assert_true(s.claim(0));
    assert_true(s.renew(1, 4000));
    assert_false(s.claim(4000 + kResyncClaimMs - 1));
    assert_true(s.claim(4000 + kResyncClaimMs));  // it was silent for too long
    // The first comes back from a long sleep: it may neither go on nor finish.
    assert_false(s.renew(1, 9001));
    assert_false(s.finish(1, 9002));
    assert_false(s.fail(1, 9003));
    assert_true(s.finish(2, 9004));
    assert_false(s.renew(2, 9005));
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(members),
        cmocka_unit_test(in_force),
        cmocka_unit_test(full),
        cmocka_unit_test(against_a_map),
        cmocka_unit_test(sweep),
        cmocka_unit_test(schedule_by_time),
        cmocka_unit_test(schedule_on_demand),
        cmocka_unit_test(schedule_of_a_round_that_is_outdated),
        cmocka_unit_test(schedule_of_a_gap),
        cmocka_unit_test(schedule_after_failure),
        cmocka_unit_test(schedule_of_dead_worker),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
