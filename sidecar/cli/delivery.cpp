// headgate delivery list | show | retry | cancel
#include <boost/json.hpp>
#include <iostream>

#include "sidecar/api/recovery_json.h"
#include "sidecar/cli/command.h"
#include "sidecar/cli/output.h"
#include "sidecar/cli/recovery_options.h"

namespace headgate {
namespace json = boost::json;
namespace {

const std::vector<std::string> kColumns = {"id",    "webhook_id", "event_id", "kind",
                                           "state", "attempts",   "due_at",   "created_at"};

struct DeliveryOptions : ListOptions {
    std::string id, webhook, event, state;
};

Result<void> list(const Invocation& invocation, const DeliveryOptions& options) {
    DeliveryQuery query;
    query.webhook_id = options.webhook;
    query.event_id = options.event;
    query.state = options.state;
    return print_pages(
        invocation, options, kColumns, std::move(query),
        [](Store& store, const std::string& org, DeliveryQuery& next, json::array& rows) -> Result<bool> {
            auto page = store.list_deliveries(org, next);
            if (!page) return tl::unexpected(page.error());
            for (const auto& delivery : *page) rows.push_back(delivery_json(delivery));
            if (static_cast<int>(page->size()) < next.limit) return false;
            next.after = page->back().id;
            return true;
        });
}

Result<void> show(const Invocation& invocation, const DeliveryOptions& options) {
    auto opened = open_store_for(invocation);
    if (!opened) return tl::unexpected(opened.error());
    Store& store = *opened->store;
    std::string of_org;
    auto delivery = in_org_or_any(store, options.org, [&](const std::string& org) {
        of_org = org;
        return store.get_delivery(org, options.id);
    });
    if (!delivery) return tl::unexpected(delivery.error());
    auto attempts = store.attempts_of_delivery(of_org, options.id);
    if (!attempts) return tl::unexpected(attempts.error());
    json::object record = delivery_json(*delivery);
    json::array rows = attempts_json(*attempts);
    if (invocation.json) {
        json::object both;
        both.emplace("delivery", std::move(record));
        both.emplace("attempts", std::move(rows));
        print_record(true, both);
        return {};
    }
    print_record(false, record);
    if (rows.empty()) return {};
    std::cout << "\n";
    print_table(false, {"number", "outcome", "status_code", "error_type", "duration_ms", "started_at", "error_message"},
                rows);
    const std::string& body = attempts->back().response_body;
    if (!body.empty()) std::cout << "\nthe last response:\n" << body << "\n";
    return {};
}

template <typename Act>
Result<void> by_hand(const Invocation& invocation, const DeliveryOptions& options, Act act) {
    auto opened = open_store_for(invocation);
    if (!opened) return tl::unexpected(opened.error());
    auto delivery = in_org_or_any(*opened->store, options.org,
                                  [&](const std::string& org) { return act(*opened->store, org, options.id); });
    if (!delivery) return tl::unexpected(delivery.error());
    print_record(invocation.json, delivery_json(*delivery));
    return {};
}

Result<void> retry(const Invocation& invocation, const DeliveryOptions& options) {
    return by_hand(invocation, options, [](Store& store, const std::string& org, const std::string& id) {
        return store.retry_delivery(org, id, wall_clock_ms());
    });
}

Result<void> cancel(const Invocation& invocation, const DeliveryOptions& options) {
    return by_hand(invocation, options, [](Store& store, const std::string& org, const std::string& id) {
        return store.cancel_delivery(org, id, wall_clock_ms());
    });
}

}  // namespace

void add_delivery(CLI::App& root, Invocation& invocation) {
    auto* delivery = root.add_subcommand("delivery", "what became of events, and what to do about it");
    delivery->require_subcommand(1);
    auto options = std::make_shared<DeliveryOptions>();

    auto* list_command = delivery->add_subcommand("list", "list an organization's deliveries, newest first");
    list_command->add_option("--org", options->org, "the organization's id or name")->required();
    list_command->add_option("--webhook", options->webhook, "only of this webhook");
    list_command->add_option("--event", options->event, "only of this event");
    list_command
        ->add_option("--state", options->state, "queued, in_flight, retrying, blocked, dead, success, cancelled")
        ->check(CLI::IsMember({"queued", "in_flight", "retrying", "blocked", "dead", "success", "cancelled"}));
    list_command->add_option("--since", options->since, "a time (RFC 3339), or how long ago, such as 24h");
    add_page_options(*list_command, *options);
    list_command->callback(
        [&invocation, options] { invocation.action = [&invocation, options] { return list(invocation, *options); }; });

    struct Command {
        const char *name, *help;
        Result<void> (*run)(const Invocation&, const DeliveryOptions&);
    };
    for (const Command& each :
         {Command{"show", "show a delivery with its attempts", show},
          Command{"retry", "send a delivery again, now", retry}, Command{"cancel", "give a delivery up", cancel}}) {
        auto* command = delivery->add_subcommand(each.name, each.help);
        command->add_option("id,--id", options->id, "the delivery's id")->required();
        command->add_option("--org", options->org, "the organization (default: the one that has it)");
        command->callback([&invocation, options, run = each.run] {
            invocation.action = [&invocation, options, run] { return run(invocation, *options); };
        });
    }
}

}  // namespace headgate
