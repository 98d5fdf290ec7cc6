// headgate event list | tail
#include <boost/json.hpp>
#include <chrono>
#include <csignal>
#include <deque>
#include <iostream>
#include <thread>
#include <unordered_set>

#include "sidecar/api/recovery_json.h"
#include "sidecar/base/json_text.h"
#include "sidecar/cli/command.h"
#include "sidecar/cli/output.h"
#include "sidecar/cli/recovery_options.h"

namespace headgate {
namespace json = boost::json;
namespace {

constexpr int kTailPage = 200;
constexpr std::chrono::milliseconds kTailInterval{500};
// Events of several shards are not persisted in the order of their times.
constexpr TimeMs kTailOverlapMs = 60'000;
const std::vector<std::string> kColumns = {"id", "type", "source", "ordering_key", "created_at"};

struct EventListOptions : ListOptions {
    std::string type, source;
    int count = 0;
};

Result<void> list(const Invocation& invocation, const EventListOptions& options) {
    EventQuery query;
    query.type = options.type;
    query.source = options.source;
    return print_pages(invocation, options, kColumns, std::move(query),
                       [](Store& store, const std::string& org, EventQuery& next, json::array& rows) -> Result<bool> {
                           auto page = store.list_events(org, next);
                           if (!page) return tl::unexpected(page.error());
                           for (const auto& event : page->events) rows.push_back(event_json(event));
                           next.after = page->next;
                           return !page->next.empty();
                       });
}

// What was shown, for as long as it may be seen again.
class Shown {
 public:
    bool add(const Event& event) {
        if (!ids_.insert(event.id).second) return false;
        order_.emplace_back(event.created_at, event.id);
        return true;
    }
    void forget_before(TimeMs time) {
        while (!order_.empty() && order_.front().first < time) {
            ids_.erase(order_.front().second);
            order_.pop_front();
        }
    }

 private:
    std::unordered_set<std::string> ids_;
    std::deque<std::pair<TimeMs, std::string>> order_;
};

void print_event(bool as_json, const Event& event) {
    json::object row = event_json(event);
    if (as_json) {
        std::cout << json_text(row) << "\n";
        return;
    }
    std::string line;
    for (const auto& column : {"created_at", "id", "type", "source"}) {
        if (!line.empty()) line += "  ";
        line += std::string(row.at(column).get_string());
    }
    std::cout << line << "\n";
}

// Until it is interrupted, or has shown so many.
Result<void> tail(const Invocation& invocation, const EventListOptions& options) {
    auto opened = open_store_for(invocation);
    if (!opened) return tl::unexpected(opened.error());
    auto org = find_org(*opened->store, options.org);
    if (!org) return tl::unexpected(org.error());
    std::optional<TimeMs> since;
    if (auto read = time_option_into("--since", options.since, since); !read) return read;
    const TimeMs began = since.value_or(wall_clock_ms());
    TimeMs newest = began;
    Shown shown;
    int count = 0;
    while (std::cout) {
        const TimeMs from = std::max(began, newest - kTailOverlapMs);
        std::vector<Event> fresh;
        EventQuery query{.type = options.type, .source = options.source, .since = from, .until = {}, .after = {}};
        query.limit = kTailPage;
        do {
            auto page = opened->store->list_events(org->id, query);
            if (!page) return tl::unexpected(page.error());
            for (auto& event : page->events) {
                newest = std::max(newest, event.created_at);
                if (shown.add(event)) fresh.push_back(std::move(event));
            }
            query.after = page->next;
        } while (!query.after.empty());
        for (auto event = fresh.rbegin(); event != fresh.rend(); ++event) {
            print_event(invocation.json, *event);
            if (++count == options.count) return {};
        }
        std::cout.flush();
        shown.forget_before(newest - 2 * kTailOverlapMs);
        std::this_thread::sleep_for(kTailInterval);
    }
    return {};
}

void add_filters(CLI::App& command, EventListOptions& options) {
    command.add_option("--org", options.org, "the organization's id or name")->required();
    command.add_option("--type", options.type, "only of this type, such as order.created or order.*");
    command.add_option("--source", options.source, "only from this source");
    command.add_option("--since", options.since, "a time (RFC 3339), or how long ago, such as 24h");
}

}  // namespace

void add_event_list(CLI::App& event, Invocation& invocation) {
    auto options = std::make_shared<EventListOptions>();
    auto* list_command = event.add_subcommand("list", "list an organization's events, newest first");
    add_filters(*list_command, *options);
    add_page_options(*list_command, *options);
    list_command->callback(
        [&invocation, options] { invocation.action = [&invocation, options] { return list(invocation, *options); }; });

    auto* tail_command = event.add_subcommand("tail", "show events as they are persisted, until interrupted");
    add_filters(*tail_command, *options);
    tail_command->add_option("--count", options->count, "end after so many");
    tail_command->callback(
        [&invocation, options] { invocation.action = [&invocation, options] { return tail(invocation, *options); }; });
}

}  // namespace headgate
