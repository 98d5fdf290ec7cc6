// What must hold for any subscription and any event; the fuzzer and the test that replays its corpus share it. An input
// is lines: a pattern, an event's type, a filter, and the rest is the payload.
#pragma once

#include <boost/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "lua-free-tests/match_oracle.h"
#include "sidecar/base/json_read.h"
#include "sidecar/match/event_pattern.h"
#include "sidecar/match/filter.h"
#include "sidecar/match/subscriptions.h"

namespace headgate::test {

struct MatchInput {
    std::string_view pattern, type, filter, payload;
};

inline MatchInput match_input(std::string_view bytes) {
    MatchInput input;
    for (std::string_view* line : {&input.pattern, &input.type, &input.filter}) {
        const std::size_t end = bytes.find('\n');
        *line = bytes.substr(0, end);
        bytes.remove_prefix(end == std::string_view::npos ? bytes.size() : end + 1);
    }
    input.payload = bytes;
    return input;
}

// "id=verdict " of each webhook.
inline std::string match_answer(std::string_view filter, const MatchInput& input) {
    using Verdict = SubscriptionMatcher::Verdict;
    Subscriptions subscriptions;
    std::vector<Webhook> webhooks(2);
    webhooks[0].id = "fuzzed";
    webhooks[0].filters = filter;
    webhooks[1].id = "plain";
    for (Webhook& webhook : webhooks) webhook.events = {std::string(input.pattern)};
    subscriptions.load("org", 1, std::move(webhooks));
    EventRecord event;
    event.org = "org";
    event.type = input.type;
    event.payload = input.payload;
    event.via = "api";
    std::vector<SubscriptionMatcher::Match> matches;
    subscriptions.match(event, matches);
    std::string text;
    for (const auto& match : matches)
        text += match.webhook_id + (match.verdict == Verdict::kWanted ? "=wanted " : "=filtered ");
    return text;
}

inline bool filter_takes(const std::string& text, const boost::json::value& payload, bool& is_valid) {
    const auto filter = Filter::compile(text);
    is_valid = filter.has_value();
    return is_valid && filter->matches(payload);
}

// The naive evaluator's verdict; the filter around itself, which changes nothing; its opposite, which is never true
// with it; and what becomes of the webhook beside it.
inline bool match_is_right(std::string_view bytes) {
    const MatchInput input = match_input(bytes);
    const std::string filter(input.filter);
    const auto compiled = Filter::compile(filter);
    if (!compiled && (compiled.error().code != ErrorCode::kUnprocessable || compiled.error().message.empty()))
        return false;
    const auto pattern = parse_event_pattern(input.pattern);
    if (pattern.has_value() != oracle_pattern_is_valid(input.pattern)) return false;
    const bool is_named = pattern && oracle_names(input.pattern, input.type, false);

    boost::system::error_code error;
    const boost::json::value payload = read_json(input.payload, 64, error);
    const bool takes = compiled && (compiled->matches_everything() || (!error && compiled->matches(payload)));
    // What cannot be read is taken by no condition; the naive reader does not look at UTF-8.
    if (compiled && takes != (oracle_takes(filter, error ? "" : input.payload))) return false;
    if (compiled && !error && payload.is_object() && !compiled->matches_everything()) {
        bool is_valid = false;
        for (const std::string& same : {R"({"$and":[)" + filter + "]}", R"({"$or":[)" + filter + "," + filter + "]}",
                                        R"({"$not":{"$not":)" + filter + "}}"}) {
            if (filter_takes(same, payload, is_valid) != takes && is_valid) return false;
        }
        if (filter_takes(R"({"$not":)" + filter + "}", payload, is_valid) && takes) return false;
    }

    std::string wanted;
    if (is_named && compiled) wanted = takes ? "fuzzed=wanted " : "fuzzed=filtered ";
    if (is_named) wanted += "plain=wanted ";
    return match_answer(filter, input) == wanted;
}

}  // namespace headgate::test
