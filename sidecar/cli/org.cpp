// headgate org create | list
#include <boost/json.hpp>

#include "common/rfc3339.h"
#include "sidecar/api/org_input.h"
#include "sidecar/cli/command.h"
#include "sidecar/cli/output.h"
#include "sidecar/io/wall_clock.h"

namespace headgate {
namespace {

boost::json::object org_record(const Organization& org) {
    boost::json::object record;
    record.emplace("id", org.id);
    record.emplace("name", org.name);
    record.emplace("plan", org.plan);
    record.emplace("suspended", org.is_suspended);
    record.emplace("created_at", rfc3339_format(org.created_at));
    return record;
}

struct CreateOptions {
    std::string name, plan = "free";
};

Result<void> create(const Invocation& invocation, const CreateOptions& options) {
    auto opened = open_store_for(invocation);
    if (!opened) return tl::unexpected(opened.error());
    auto org = create_named_org(*opened->store, options.name, options.plan, {}, wall_clock_ms());
    if (!org) return tl::unexpected(org.error());
    print_record(invocation.json, org_record(*org));
    return {};
}

Result<void> list(const Invocation& invocation) {
    auto opened = open_store_for(invocation);
    if (!opened) return tl::unexpected(opened.error());
    auto orgs = opened->store->list_orgs();
    if (!orgs) return tl::unexpected(orgs.error());
    boost::json::array rows;
    for (const auto& org : *orgs) rows.push_back(org_record(org));
    print_table(invocation.json, {"id", "name", "plan", "suspended", "created_at"}, rows);
    return {};
}

}  // namespace

void add_org(CLI::App& root, Invocation& invocation) {
    auto* org = root.add_subcommand("org", "organizations")->require_subcommand(1);
    auto options = std::make_shared<CreateOptions>();
    auto* create_command = org->add_subcommand("create", "make an organization");
    create_command->add_option("--name", options->name, "its name, which no other has")->required();
    create_command->add_option("--plan", options->plan, "its rate plan")->capture_default_str();
    create_command->callback([&invocation, options] {
        invocation.action = [&invocation, options] { return create(invocation, *options); };
    });
    org->add_subcommand("list", "list the organizations")->callback([&invocation] {
        invocation.action = [&invocation] { return list(invocation); };
    });
}

}  // namespace headgate
