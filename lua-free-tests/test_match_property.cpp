// links: headgate_match
// Random subscriptions against random events: what the compiled matcher answers for every webhook is what the naive
// evaluator of match_oracle.h says. A failure prints the seed of its case: HEADGATE_MATCH_SEED=… HEADGATE_MATCH_CASES=1
// runs it alone.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <initializer_list>
#include <map>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "lua-free-tests/cmocka_cpp.h"  // last
#include "lua-free-tests/match_oracle.h"
#include "sidecar/match/subscriptions.h"
#include "sidecar/match/wants.h"

using namespace headgate;

namespace {

class Dice {
 public:
    explicit Dice(std::uint64_t seed) : random_(seed) {}
    std::size_t below(std::size_t count) { return random_() % count; }
    bool one_in(std::size_t count) { return below(count) == 0; }
    template <std::size_t N>
    std::string_view one_of(const std::string_view (&choices)[N]) {
        return choices[below(N)];
    }

 private:
    std::mt19937_64 random_;
};

// ---- JSON text: few names and values, so that filters and payloads meet --------------------------

constexpr std::string_view kNames[] = {"a", "b", "amount", "status", "customer", "gr\xc3\xb6\xc3\x9f", "min_", "max_a"};
constexpr std::string_view kStrings[] = {"",
                                         "1",
                                         "100",
                                         "paid",
                                         "pai",
                                         "PAID",
                                         "id",
                                         "null",
                                         "\"",
                                         "gr\xc3\xb6\xc3\x9f",
                                         "\xf0\x9f\x98\x80",
                                         "\\",
                                         "\xe2\x82\xac",
                                         "2024-01-01"};
constexpr std::string_view kNumbers[] = {"0",
                                         "-0",
                                         "-0.0",
                                         "1",
                                         "1.0",
                                         "10e-1",
                                         "100",
                                         "99.99",
                                         "99.990",
                                         "0.1",
                                         "-1",
                                         "-0.5",
                                         "1e308",
                                         "-1e308",
                                         "1e-308",
                                         "5e-324",
                                         "9007199254740991",
                                         "9007199254740991.0",
                                         "9007199254740992",
                                         "9007199254740993",
                                         "9007199254740992.0",
                                         "9007199254740993.0",
                                         "9223372036854775807",
                                         "9223372036854775808",
                                         "-9223372036854775808",
                                         "-9223372036854775809",
                                         "18446744073709551615",
                                         "18446744073709551616",
                                         "100000000000000000001",
                                         "100000000000000000002",
                                         "1e20"};

// One of several ways to write the same text.
std::string quoted(Dice& dice, std::string_view text) {
    std::string out = "\"";
    for (const char c : text) {
        char escaped[8];
        if (c == '"' || c == '\\') {
            out += '\\';
            out += c;
        } else if (static_cast<unsigned char>(c) < 0x80 && dice.one_in(16)) {
            std::snprintf(escaped, sizeof escaped, dice.one_in(2) ? "\\u%04x" : "\\u%04X", static_cast<unsigned>(c));
            out += escaped;
        } else {
            out += c;
        }
    }
    return out + "\"";
}

std::string number(Dice& dice) {
    if (!dice.one_in(4)) return std::string(dice.one_of(kNumbers));
    std::string text = dice.one_in(3) ? "-" : "";
    text += std::to_string(dice.below(200));
    if (dice.one_in(2)) text += "." + std::to_string(dice.below(1000));
    if (dice.one_in(8)) text += (dice.one_in(2) ? "e" : "E-") + std::to_string(dice.below(30));
    return text;
}

std::string scalar(Dice& dice) {
    static constexpr std::string_view kWords[] = {"null", "true", "false"};
    switch (dice.below(5)) {
        case 0:
            return std::string(dice.one_of(kWords));
        case 1:
        case 2:
            return number(dice);
        default:
            return quoted(dice, dice.one_of(kStrings));
    }
}

std::string space(Dice& dice) { return dice.one_in(12) ? " " : ""; }

std::string object(Dice& dice, int depth);

std::string value(Dice& dice, int depth) {
    if (depth == 0 || !dice.one_in(3)) return scalar(dice);
    if (!dice.one_in(3)) return object(dice, depth - 1);
    std::string text = "[";
    for (std::size_t i = dice.below(4); i > 0; --i) text += value(dice, depth - 1) + (i > 1 ? "," : "");
    return text + "]";
}

std::string object(Dice& dice, int depth) {
    std::string text = "{";
    for (std::size_t i = dice.below(6); i > 0; --i) {
        // A name may come twice, and one with a dot is no path.
        text += quoted(dice, dice.one_in(30) ? "a.b" : dice.one_of(kNames)) + space(dice) + ":" + space(dice) +
                value(dice, depth) + (i > 1 ? "," : "");
    }
    return text + "}";
}

std::string payload(Dice& dice) {
    const std::string text = object(dice, 3);
    if (dice.one_in(40)) {  // around the greatest depth that is read
        const std::size_t arrays = 60 + dice.below(8);
        return R"({"deep":)" + std::string(arrays, '[') + std::string(arrays, ']') +
               (text == "{}" ? "}" : "," + text.substr(1));
    }
    if (dice.one_in(60)) return R"({"half":"\ud83d",)" + text.substr(1);  // no text at all
    if (dice.one_in(60)) return value(dice, 2);
    return text;
}

// ---- filters -------------------------------------------------------------------------------------

std::string fields(Dice& dice, int depth, bool is_below);

std::string scalar_list(Dice& dice) {
    std::string text = "[";
    for (std::size_t i = 1 + dice.below(4); i > 0; --i) text += scalar(dice) + (i > 1 ? "," : "");
    return text + "]";
}

// An object of operators, or in one of three an object of the fields below it.
std::string field_object(Dice& dice, int depth) {
    static constexpr std::string_view kOrdering[] = {"$gt", "$gte", "$lt", "$lte"};
    static constexpr std::string_view kEquality[] = {"$eq", "$ne"};
    static constexpr std::string_view kLists[] = {"$in", "$nin"};
    static constexpr std::string_view kEnds[] = {"$startsWith", "$endsWith"};
    if (depth > 0 && dice.one_in(3)) return fields(dice, depth - 1, true);
    std::string text = "{";
    for (std::size_t i = 1 + dice.below(2); i > 0; --i) {
        std::string name;
        std::string operand;
        switch (dice.below(depth > 0 ? 8 : 6)) {
            case 0:
            case 1:
                name = dice.one_of(kOrdering);
                operand = dice.one_in(3) ? quoted(dice, dice.one_of(kStrings)) : number(dice);
                break;
            case 2:
                name = dice.one_of(kEquality);
                operand = scalar(dice);
                break;
            case 3:
                name = dice.one_of(kLists);
                operand = scalar_list(dice);
                break;
            case 4:
                name = dice.one_of(kEnds);
                operand = quoted(dice, dice.one_of(kStrings));
                break;
            case 5:
                name = "$exists";
                operand = dice.one_in(2) ? "true" : "false";
                break;
            case 6:
                name = "$not";
                operand = field_object(dice, depth - 1);
                break;
            default:
                name = dice.one_in(2) ? "$and" : "$or";
                operand = "[" + field_object(dice, depth - 1) + "," + field_object(dice, depth - 1) + "]";
        }
        if (text.find("\"" + name + "\"") != std::string::npos) continue;
        text += (text.size() > 1 ? ",\"" : "\"") + name + "\":" + operand;
    }
    return text + "}";
}

// At least one condition; every name once. `is_below` a field, where the first member says that these are fields.
std::string fields(Dice& dice, int depth, bool is_below) {
    std::vector<std::string> names, members;
    for (std::size_t i = 1 + dice.below(2); i > 0; --i) {
        std::string name(dice.one_of(kNames));
        std::string wanted;
        const bool is_logical = depth > 0 && dice.one_in(5);
        if (is_logical) {
            name = dice.one_in(3) ? "$not" : dice.one_in(2) ? "$and" : "$or";
            wanted = fields(dice, depth - 1, is_below);
            if (name != "$not") wanted = "[" + wanted + "," + fields(dice, depth - 1, is_below) + "]";
        } else {
            if (dice.one_in(4)) name += "." + std::string(dice.one_of(kNames));
            const std::size_t kind = dice.below(5);
            if (kind == 0) {
                wanted = scalar_list(dice);
            } else if (kind <= 2) {
                wanted = field_object(dice, depth);
            } else if (kind == 3) {
                const std::size_t dot = name.rfind('.');
                name.insert(dot == std::string::npos ? 0 : dot + 1, dice.one_in(2) ? "min_" : "max_");
                wanted = dice.one_in(3) ? quoted(dice, dice.one_of(kStrings)) : number(dice);
            } else {
                // A bound of `a` is nothing but a number or a string.
                wanted = name.ends_with("max_a") ? number(dice) : scalar(dice);
            }
        }
        if (std::find(names.begin(), names.end(), name) != names.end()) continue;
        names.push_back(name);
        members.insert(is_logical && !is_below ? members.begin() : members.end(), "\"" + name + "\":" + wanted);
        if (is_below && members.size() == 2 && !is_logical) std::swap(members[0], members[1]);
    }
    return "{" + members[0] + (members.size() > 1 ? "," + members[1] : "") + "}";
}

std::string filter(Dice& dice) {
    if (dice.one_in(6)) return dice.one_in(2) ? "{}" : "";
    return fields(dice, 3, false);
}

constexpr std::string_view kBrokenFilters[] = {"{",
                                               "[]",
                                               R"({"a":{}})",
                                               R"({"a":{"$regex":"x"}})",
                                               R"({"a":{"$gt":null}})",
                                               R"({"$or":[]})",
                                               R"({"a..b":1})",
                                               R"({"min_a":true})"};

// ---- subscriptions and events --------------------------------------------------------------------

constexpr std::string_view kTypes[] = {"order",          "order.created",    "order.item.added", "order.",
                                       "orders.created", "order.item",       "user.created",     "ORDER.created",
                                       "order..created", "webhook.disabled", "a.b.c.d.e.f.g.h"};
constexpr std::string_view kPatterns[] = {"*",          "order.*",  "order.item.*",     "order.created",
                                          "order.item", "user.*",   "orders.*",         "order",
                                          "a.b.c.*",    "order..*", "webhook.disabled", "a.*"};
constexpr std::string_view kBrokenPatterns[] = {"",          "**", "*.created",     "or der",
                                                "webhook.*", ".",  "order.*.added", ".*"};

struct Subject {
    Webhook webhook;
    bool is_broken = false;  // its filter
};

void choose_events(Dice& dice, Webhook& webhook) {
    webhook.events.clear();
    for (std::size_t i = 1 + dice.below(3); i > 0; --i) {
        webhook.events.emplace_back(dice.one_in(12)  ? dice.one_of(kBrokenPatterns)
                                    : dice.one_in(4) ? dice.one_of(kTypes)
                                                     : dice.one_of(kPatterns));
    }
}

void choose_filter(Dice& dice, Subject& subject) {
    subject.is_broken = dice.one_in(20);
    subject.webhook.filters = subject.is_broken ? std::string(dice.one_of(kBrokenFilters)) : filter(dice);
}

Subject subject(Dice& dice, std::string id) {
    Subject made;
    made.webhook.id = std::move(id);
    made.webhook.org = "org";
    made.webhook.is_active = !dice.one_in(6);
    made.webhook.ordering = dice.one_in(4) ? "key" : "";
    choose_events(dice, made.webhook);
    choose_filter(dice, made);
    return made;
}

struct Happening {
    std::string type, payload;
    bool is_operational = false;
    [[nodiscard]] EventRecord record(std::string_view org) const {
        EventRecord record;
        record.org = org;
        record.type = type;
        record.payload = payload;
        record.via = is_operational ? "system" : "api";
        return record;
    }
};

Happening happening(Dice& dice) { return {std::string(dice.one_of(kTypes)), payload(dice), dice.one_in(15)}; }

// ---- both sides, as text -------------------------------------------------------------------------

struct Seen {
    std::size_t wanted = 0, filtered = 0, disabled = 0, silent = 0;
};

bool is_named(const Subject& subject, const Happening& event) {
    return std::any_of(subject.webhook.events.begin(), subject.webhook.events.end(), [&](const std::string& pattern) {
        return test::oracle_pattern_is_valid(pattern) && test::oracle_names(pattern, event.type, event.is_operational);
    });
}

bool is_wanted(const Subject& subject, const Happening& event) {
    return !subject.is_broken && is_named(subject, event) && test::oracle_takes(subject.webhook.filters, event.payload);
}

std::string expected(const std::vector<Subject>& subjects, const Happening& event, Seen& seen) {
    std::string text;
    for (const Subject& subject : subjects) {
        if (subject.is_broken || !is_named(subject, event)) {
            ++seen.silent;
            continue;
        }
        const bool takes = subject.webhook.is_active && test::oracle_takes(subject.webhook.filters, event.payload);
        text += subject.webhook.id + (subject.webhook.ordering.empty() ? "" : "!");
        text += !subject.webhook.is_active ? "=disabled " : takes ? "=wanted " : "=filtered ";
        ++(!subject.webhook.is_active ? seen.disabled : takes ? seen.wanted : seen.filtered);
    }
    return text;
}

std::string answered(Subscriptions& subscriptions, const EventRecord& record) {
    using Verdict = SubscriptionMatcher::Verdict;
    std::vector<SubscriptionMatcher::Match> matches;
    subscriptions.match(record, matches);
    std::string text;
    for (const auto& match : matches) {
        text += match.webhook_id + (match.ordered ? "!" : "");
        text += match.verdict == Verdict::kDisabled   ? "=disabled "
                : match.verdict == Verdict::kFiltered ? "=filtered "
                                                      : "=wanted ";
    }
    return text;
}

// What a persist transaction is told: those that want it, and how the others are counted. As answered().
std::string counted(Subscriptions& subscriptions, const EventRecord& record) {
    constexpr TimeMs kHour = 3'600'000;
    std::vector<SubscriptionMatcher::Match> matches;
    std::map<std::string, std::string> verdicts;
    subscriptions.match_wanted(record, matches);
    subscriptions.settle(false, kHour);
    if (!subscriptions.take_unwanted().empty()) return "counted what was not committed";
    matches.clear();
    const auto unwanted = subscriptions.match_wanted(record, matches);
    std::string order;
    for (const auto& match : matches) order += match.webhook_id + (match.ordered ? "!" : "") + "=wanted ";
    subscriptions.settle(true, 7 * kHour + 5);
    bool has_filtered = false, has_disabled = false;
    for (const UnwantedCount& count : subscriptions.take_unwanted()) {
        if (count.hour_at != 7 * kHour || count.event_type != record.type) return "another hour or type";
        if (count.filtered + count.disabled != 1) return "counted more than once";
        has_filtered = has_filtered || count.filtered == 1;
        has_disabled = has_disabled || count.disabled == 1;
        verdicts[count.webhook_id] = count.filtered == 1 ? "=filtered" : "=disabled";
    }
    if (unwanted.has_filtered != has_filtered || unwanted.has_disabled != has_disabled) return "told otherwise";
    order += "|";
    for (const auto& [id, verdict] : verdicts) order += " " + id + verdict;
    return order;
}

// The same from what match() says.
std::string counted_from(Subscriptions& subscriptions, const EventRecord& record) {
    using Verdict = SubscriptionMatcher::Verdict;
    std::vector<SubscriptionMatcher::Match> matches;
    subscriptions.match(record, matches);
    std::string text;
    std::map<std::string, std::string> verdicts;
    for (const auto& match : matches) {
        if (match.verdict == Verdict::kWanted) text += match.webhook_id + (match.ordered ? "!" : "") + "=wanted ";
        if (match.verdict == Verdict::kFiltered) verdicts[match.webhook_id] = "=filtered";
        if (match.verdict == Verdict::kDisabled) verdicts[match.webhook_id] = "=disabled";
    }
    text += "|";
    for (const auto& [id, verdict] : verdicts) text += " " + id + verdict;
    return text;
}

void describe(std::uint64_t seed, const std::vector<Subject>& subjects, const Happening& event) {
    print_error("HEADGATE_MATCH_SEED=%llu\nevent %s%s %s\n", static_cast<unsigned long long>(seed), event.type.c_str(),
                event.is_operational ? " (system)" : "", event.payload.c_str());
    for (const Subject& each : subjects) {
        std::string patterns;
        for (const std::string& pattern : each.webhook.events) patterns += " " + pattern;
        print_error("  %s:%s %s\n", each.webhook.id.c_str(), patterns.c_str(), each.webhook.filters.c_str());
    }
}

// One organization with a few webhooks, asked about a few events; one change, and the same events again. False: told.
class Case {
 public:
    Case(std::uint64_t seed, Subscriptions& subscriptions, Seen& seen)
        : seed_(seed), dice_(seed), subscriptions_(subscriptions), seen_(seen) {}

    bool run() {
        for (std::size_t i = 1 + dice_.below(4); i > 0; --i)
            subjects_.push_back(subject(dice_, "w" + std::to_string(i)));
        for (std::size_t i = 0; i < 3; ++i) events_.push_back(happening(dice_));
        if (!load(1) || !agrees()) return false;
        // Another organization's webhooks change nothing here.
        subscriptions_.load("other", 1, {subject(dice_, "stranger").webhook});
        std::vector<Subject> changed = subjects_;
        change(changed);
        if (subscriptions_.is_current("org", 2) || !subscriptions_.is_current("org", 1)) return tell("is_current");
        if (!agrees()) return false;  // as before, until the change is loaded
        subjects_ = std::move(changed);
        return load(2) && agrees() && replay_agrees();
    }

 private:
    bool load(std::int64_t generation) {
        std::vector<Webhook> webhooks;
        std::size_t broken = 0;
        for (const Subject& each : subjects_) {
            webhooks.push_back(each.webhook);
            broken += each.is_broken ? 1 : 0;
        }
        const auto told = subscriptions_.counters().invalid_filters;
        subscriptions_.load("org", generation, std::move(webhooks));
        const bool is_told = subscriptions_.counters().invalid_filters - told == broken;
        if (is_told && subscriptions_.is_current("org", generation)) return true;
        describe(seed_, subjects_, events_.front());
        return tell("not exactly those filters are refused that are broken");
    }

    void change(std::vector<Subject>& subjects) {
        const std::size_t place = dice_.below(subjects.size());
        Subject& changed = subjects[place];
        switch (dice_.below(5)) {
            case 0:
                choose_filter(dice_, changed);
                break;
            case 1:
                choose_events(dice_, changed.webhook);
                break;
            case 2:
                changed.webhook.is_active = !changed.webhook.is_active;
                break;
            case 3:
                subjects.push_back(subject(dice_, "new"));
                break;
            default:
                subjects.erase(subjects.begin() + static_cast<std::ptrdiff_t>(place));
        }
    }

    bool agrees() {
        for (const Happening& event : events_) {
            const std::string wanted = expected(subjects_, event, seen_);
            const std::string got = answered(subscriptions_, event.record("org"));
            const std::string counts = counted(subscriptions_, event.record("org"));
            const std::string named = counted_from(subscriptions_, event.record("org"));
            if (got == wanted && counts == named) continue;
            describe(seed_, subjects_, event);
            print_error("naive:    %s\ncompiled: %s\n", wanted.c_str(), got.c_str());
            print_error("persist:  %s\nnot:      %s\n", named.c_str(), counts.c_str());
            return false;
        }
        return true;
    }

    // What a replay asks of one webhook, active or not.
    bool replay_agrees() {
        for (const Subject& each : subjects_) {
            const Store::Wants wants = wants_of(each.webhook);
            for (const Happening& event : events_) {
                if (wants(event.record("org")) == is_wanted(each, event)) continue;
                describe(seed_, {each}, event);
                return tell("wants_of");
            }
        }
        return true;
    }

    bool tell(const char* what) {
        print_error("HEADGATE_MATCH_SEED=%llu: %s\n", static_cast<unsigned long long>(seed_), what);
        return false;
    }

    std::uint64_t seed_;
    Dice dice_;
    Subscriptions& subscriptions_;
    Seen& seen_;
    std::vector<Subject> subjects_;
    std::vector<Happening> events_;
};

std::uint64_t setting(const char* name, std::uint64_t otherwise) {
    const char* text = std::getenv(name);
    return text == nullptr || *text == '\0' ? otherwise : std::strtoull(text, nullptr, 10);
}

void test_random_subscriptions_answer_as_the_naive_evaluator(void**) {
    const std::uint64_t first = setting("HEADGATE_MATCH_SEED", 1);
    const std::uint64_t cases = setting("HEADGATE_MATCH_CASES", 20'000);
    std::size_t failed = 0;
    Seen seen;
    for (std::uint64_t seed = first; seed < first + cases && failed < 3; ++seed) {
        Subscriptions subscriptions;
        failed += Case(seed, subscriptions, seen).run() ? 0 : 1;
    }
    print_message("seeds %llu to %llu: %zu wanted, %zu filtered, %zu disabled, %zu not named\n",
                  static_cast<unsigned long long>(first), static_cast<unsigned long long>(first + cases - 1),
                  seen.wanted, seen.filtered, seen.disabled, seen.silent);
    assert_int_equal(failed, 0);
    // Every verdict often enough to mean something.
    if (cases >= 1000) {
        assert_true(std::min({seen.wanted, seen.filtered, seen.disabled, seen.silent}) > cases / 2);
    }
}

}  // namespace

int main() {
    spdlog::set_level(spdlog::level::off);  // broken filters are wanted here
    const CMUnitTest tests[] = {
        cmocka_unit_test(test_random_subscriptions_answer_as_the_naive_evaluator),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
