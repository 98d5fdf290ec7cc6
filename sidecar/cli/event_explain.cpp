// headgate event explain: why each webhook did or did not get an event.
#include <boost/json.hpp>
#include <iostream>

#include "sidecar/api/recovery.h"
#include "sidecar/cli/command.h"
#include "sidecar/cli/output.h"
#include "sidecar/cli/recovery_options.h"

namespace headgate {
namespace json = boost::json;
namespace {

struct EventExplainOptions {
    std::string org, id;
};

Result<void> run(const Invocation& invocation, const EventExplainOptions& options) {
    auto opened = open_store_for(invocation);
    if (!opened) return tl::unexpected(opened.error());
    auto explanation = in_org_or_any(*opened->store, options.org,
                                     [&](const std::string& org) { return explain(*opened->store, org, options.id); });
    if (!explanation) return tl::unexpected(explanation.error());
    json::object record = explanation_json(*explanation);
    if (invocation.json) {
        print_record(true, record);
        return {};
    }
    print_record(false, record.at("event").get_object());
    for (const auto& entry : explanation->ledger) std::cout << "ledger: " << entry.reason << "\n";
    std::cout << "\n";
    print_table(false, {"webhook_id", "webhook_name", "verdict", "detail"}, record.at("webhooks").get_array());
    return {};
}

}  // namespace

void add_event_explain(CLI::App& event, Invocation& invocation) {
    auto options = std::make_shared<EventExplainOptions>();
    auto* command = event.add_subcommand("explain", "why each webhook did or did not get an event");
    command->add_option("id,--id", options->id, "the event's id")->required();
    command->add_option("--org", options->org, "the organization (default: the one that has it)");
    command->callback(
        [&invocation, options] { invocation.action = [&invocation, options] { return run(invocation, *options); }; });
}

}  // namespace headgate
