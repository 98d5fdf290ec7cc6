// Reading and checking what is asked for; see recovery_input.h. Next file: recovery.cpp.
#include "sidecar/api/recovery_input.h"

#include <algorithm>
#include <array>
#include <boost/json.hpp>

#include "common/event_id.h"
#include "common/limits.h"
#include "common/rfc3339.h"
#include "sidecar/base/text.h"

namespace headgate {
namespace json = boost::json;
namespace {

constexpr std::array<std::string_view, 7> kStates = {"queued", "in_flight", "retrying", "blocked",
                                                     "dead",   "success",   "cancelled"};
constexpr std::array<std::string_view, 3> kWhich = {"missing", "failed", "all"};
constexpr std::string_view kTimeNeeded = " must be a time (RFC 3339), such as 2026-01-31T08:00:00Z";

template <std::size_t N>
bool is_one_of(const std::array<std::string_view, N>& names, std::string_view name) {
    return std::find(names.begin(), names.end(), name) != names.end();
}

// What the lists have in common.
class ListReader {
 public:
    ListReader(const Form& form, std::vector<FieldError>& errors) : form_(form), errors_(errors) {}

    void error(std::string_view name, std::string msg) {
        errors_.push_back({{"query", std::string(name)}, std::string(name) + std::move(msg)});
    }

    void read_times(std::optional<TimeMs>& since, std::optional<TimeMs>& until) {
        read_time("since", since);
        read_time("until", until);
        if (since && until && *since >= *until) error("since", " must be before until");
    }

    void read_limit(int& limit) {
        auto number = form_.integer("limit", limits::kListLimitDefault, 1, limits::kListLimitMax);
        if (number) {
            limit = static_cast<int>(*number);
        } else {
            error("limit", " " + number.error().message);
        }
    }

 private:
    void read_time(std::string_view name, std::optional<TimeMs>& out) {
        const std::string* text = form_.find(name);
        if (text == nullptr || text->empty()) return;
        out = rfc3339_parse(*text);
        if (!out) error(name, std::string(kTimeNeeded));
    }

    const Form& form_;
    std::vector<FieldError>& errors_;
};

// A member that must be a time; nullopt with an error, or where it is absent.
std::optional<TimeMs> time_member(const json::object& members, const char* name, std::vector<FieldError>& errors) {
    const auto* value = members.if_contains(name);
    if (value == nullptr || value->is_null()) return std::nullopt;
    std::optional<TimeMs> time;
    if (value->is_string()) time = rfc3339_parse({value->get_string().data(), value->get_string().size()});
    if (!time) errors.push_back({{"body", name}, name + std::string(kTimeNeeded)});
    return time;
}

}  // namespace

DeliveryListInput read_delivery_list(const Form& form) {
    DeliveryListInput input;
    ListReader reader(form, input.errors);
    reader.read_times(input.query.since, input.query.until);
    reader.read_limit(input.query.limit);
    input.query.webhook_id = form.value("webhook_id");
    input.query.event_id = form.value("event_id");
    input.query.state = form.value("state");
    input.query.after = form.value("cursor");
    if (!input.query.state.empty() && !is_one_of(kStates, input.query.state)) {
        reader.error("state", " must be queued, in_flight, retrying, blocked, dead, success or cancelled");
    }
    if (!input.query.after.empty() && !uuid_is_valid(input.query.after)) {
        reader.error("cursor", " is not one that a page of deliveries has given");
    }
    return input;
}

EventListInput read_event_list(const Form& form) {
    EventListInput input;
    ListReader reader(form, input.errors);
    reader.read_times(input.query.since, input.query.until);
    reader.read_limit(input.query.limit);
    input.query.type = form.value("type");
    input.query.source = form.value("source");
    input.query.after = form.value("cursor");
    return input;
}

ReplayInput read_replay(const json::object& members, std::string_view org, std::string_view webhook_id, TimeMs now) {
    ReplayInput input;
    auto& replay = input.replay;
    auto error = [&input](std::string name, std::string_view msg) {
        std::string text = name + std::string(msg);
        input.errors.push_back({{"body", std::move(name)}, std::move(text)});
    };
    replay.id = uuid7(now);
    replay.org = org;
    replay.webhook_id = webhook_id;
    replay.created_at = replay.updated_at = now;
    const std::size_t errors_before = input.errors.size();
    const auto since = time_member(members, "since", input.errors);
    if (!since && input.errors.size() == errors_before) error("since", " is required");
    replay.since = since.value_or(0);
    replay.until = time_member(members, "until", input.errors).value_or(now + 1);
    if (since && input.errors.empty() && replay.since >= replay.until) error("since", " must be before until");
    const auto* which = members.if_contains("which");
    if (which != nullptr && which->is_string()) replay.which = which->get_string();
    if (!is_one_of(kWhich, replay.which)) error("which", " must be missing, failed or all");
    if (const auto* dry_run = members.if_contains("dry_run"); dry_run != nullptr && !dry_run->is_null()) {
        if (dry_run->is_bool()) {
            input.is_dry_run = dry_run->get_bool();
        } else {
            error("dry_run", " must be true or false");
        }
    }
    const std::vector<std::string_view> known = {"since", "until", "which", "dry_run"};
    for (const auto& member : members) {
        std::string name(member.key().data(), member.key().size());
        if (std::find(known.begin(), known.end(), name) == known.end()) {
            error(name, " is no member of a replay; the nearest one is " +
                            std::string(nearest(std::string_view(name).substr(0, 64), known)));
        }
    }
    return input;
}

}  // namespace headgate
