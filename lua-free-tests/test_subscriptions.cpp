// links: headgate_match
#include <string>
#include <string_view>
#include <vector>

#include "lua-free-tests/cmocka_cpp.h"  // last
#include "sidecar/match/subscriptions.h"

using namespace headgate;

namespace {

Webhook webhook(std::string id, std::vector<std::string> events, std::string filters = "{}") {
    Webhook made;
    made.id = std::move(id);
    made.org = "org";
    made.events = std::move(events);
    made.filters = std::move(filters);
    return made;
}

EventRecord event(std::string_view type, std::string_view payload = "{}", std::string_view via = "api") {
    EventRecord record;
    record.org = "org";
    record.type = type;
    record.payload = payload;
    record.via = via;
    return record;
}

std::string matched(Subscriptions& subscriptions, const EventRecord& record) {
    std::vector<SubscriptionMatcher::Match> matches;
    subscriptions.match(record, matches);
    std::string ids;
    for (const auto& match : matches) {
        if (match.verdict == SubscriptionMatcher::Verdict::kFiltered) ids += "filtered:";
        if (match.verdict == SubscriptionMatcher::Verdict::kDisabled) ids += "disabled:";
        ids += match.webhook_id + (match.ordered ? "! " : " ");
    }
    return ids;
}

void test_subscriptions_match_patterns_once_each(void**) {
    Subscriptions subscriptions;
    std::vector<Webhook> webhooks = {webhook("exact", {"order.created"}),
                                     webhook("prefix", {"order.*"}),
                                     webhook("all", {"*"}),
                                     webhook("many", {"order.*", "order.created", "*", "order.item.*", "order.*"}),
                                     webhook("ordered", {"order.created"}),
                                     webhook("off", {"*"})};
    webhooks[4].ordering = "key";
    webhooks[5].is_active = false;
    subscriptions.load("org", 7, std::move(webhooks));
    assert_string_equal(matched(subscriptions, event("order.created")).c_str(),
                        "exact prefix all many ordered! disabled:off ");
    assert_string_equal(matched(subscriptions, event("order.item.added")).c_str(), "prefix all many disabled:off ");
    assert_string_equal(matched(subscriptions, event("order")).c_str(), "all many disabled:off ");
    assert_string_equal(matched(subscriptions, event("order.")).c_str(), "all many disabled:off ");
    assert_string_equal(matched(subscriptions, event("user.created")).c_str(), "all many disabled:off ");
    EventRecord foreign = event("order.created");
    foreign.org = "other";
    assert_string_equal(matched(subscriptions, foreign).c_str(), "");
}

void test_subscriptions_operational_events_only_by_name(void**) {
    Subscriptions subscriptions;
    subscriptions.load("org", 1, {webhook("all", {"*"}), webhook("named", {"webhook.disabled"})});
    assert_string_equal(matched(subscriptions, event("webhook.disabled", "{}", "system")).c_str(), "named ");
}

void test_subscriptions_generation_decides_is_current(void**) {
    Subscriptions subscriptions;
    assert_false(subscriptions.is_current("org", 1));
    subscriptions.load("org", 1, {webhook("a", {"*"})});
    assert_true(subscriptions.is_current("org", 1));
    assert_false(subscriptions.is_current("org", 2));
    subscriptions.load("org", 2, {webhook("b", {"*"})});
    assert_string_equal(matched(subscriptions, event("x")).c_str(), "b ");
}

void test_subscriptions_oldest_org_is_forgotten(void**) {
    Subscriptions subscriptions(2);
    subscriptions.load("one", 1, {});
    subscriptions.load("two", 1, {});
    EventRecord record = event("x");
    record.org = "one";
    matched(subscriptions, record);  // now `two` is the one used longest ago
    subscriptions.load("three", 1, {});
    assert_true(subscriptions.is_current("one", 1));
    assert_false(subscriptions.is_current("two", 1));
    assert_true(subscriptions.is_current("three", 1));
}

void test_subscriptions_filters_decide_and_broken_ones_match_nothing(void**) {
    Subscriptions subscriptions;
    subscriptions.load("org", 1,
                       {webhook("big", {"*"}, R"({"min_amount":100})"), webhook("broken", {"*"}, R"({"a":{"$bad":1}})"),
                        webhook("plain", {"*"}, "{}")});
    assert_int_equal(subscriptions.counters().invalid_filters, 1);
    assert_string_equal(matched(subscriptions, event("x", R"({"amount":100})")).c_str(), "big plain ");
    assert_string_equal(matched(subscriptions, event("x", R"({"amount":1})")).c_str(), "filtered:big plain ");
    assert_int_equal(subscriptions.counters().filtered, 1);
}

// A payload that a filter cannot read stops only the webhooks with a filter.
void test_subscriptions_unreadable_payload_does_not_stop_others(void**) {
    Subscriptions subscriptions;
    subscriptions.load("org", 1, {webhook("filtered", {"*"}, R"({"a":1})"), webhook("plain", {"*"})});
    const std::string deep = R"({"a":1,"b":)" + std::string(80, '[') + std::string(80, ']') + "}";
    assert_string_equal(matched(subscriptions, event("x", deep)).c_str(), "filtered:filtered plain ");
    assert_string_equal(matched(subscriptions, event("x", R"({"a":1,)")).c_str(), "filtered:filtered plain ");
    assert_string_equal(matched(subscriptions, event("x", R"({"a":1,"b":"\ud800"})")).c_str(),
                        "filtered:filtered plain ");
    assert_int_equal(subscriptions.counters().payload_errors, 3);
}

// However many webhooks do not want an event, it looks at none of them: their filters, which would
// count as filtered, are not evaluated.
void test_subscriptions_ten_thousand_strangers_are_not_looked_at(void**) {
    Subscriptions subscriptions;
    std::vector<Webhook> webhooks;
    for (int i = 0; i < 10'000; ++i) {
        const std::string name = "type" + std::to_string(i);
        webhooks.push_back(webhook(name, {name + ".created", name + ".sub.*"}, R"({"never":1})"));
    }
    subscriptions.load("org", 1, std::move(webhooks));
    for (int i = 0; i < 20'000; ++i) {
        matched(subscriptions, event("other.created.a.b.c"));
    }
    assert_int_equal(subscriptions.counters().filtered, 0);
    matched(subscriptions, event("type77.sub.x"));
    assert_int_equal(subscriptions.counters().filtered, 1);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(test_subscriptions_match_patterns_once_each),
        cmocka_unit_test(test_subscriptions_operational_events_only_by_name),
        cmocka_unit_test(test_subscriptions_generation_decides_is_current),
        cmocka_unit_test(test_subscriptions_oldest_org_is_forgotten),
        cmocka_unit_test(test_subscriptions_filters_decide_and_broken_ones_match_nothing),
        cmocka_unit_test(test_subscriptions_unreadable_payload_does_not_stop_others),
        cmocka_unit_test(test_subscriptions_ten_thousand_strangers_are_not_looked_at),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
