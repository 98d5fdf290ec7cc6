// headgate org create | list | plan | suspend | resume | allow-network
#include <algorithm>
#include <boost/json.hpp>
#include <functional>

#include "common/rfc3339.h"
#include "sidecar/api/org_input.h"
#include "sidecar/base/wall_clock.h"
#include "sidecar/cli/command.h"
#include "sidecar/cli/output.h"

namespace headgate {
namespace {

constexpr std::size_t kNetworksMax = 64;
constexpr std::size_t kPlanNameBytesMax = 64;

bool is_plan_name(std::string_view name) {
    constexpr std::string_view kTaken = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-";
    return !name.empty() && name.size() <= kPlanNameBytesMax &&
           name.find_first_not_of(kTaken) == std::string_view::npos;
}

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

struct OrgChangeOptions {
    std::string org, plan;
    bool resumes = false;
};

// Takes effect at the edge, and for what is delivered, beside a running `serve`: the store leaves word in its outbox.
Result<void> change(const Invocation& invocation, const std::string& id_or_name,
                    const std::function<void(Organization&)>& edit) {
    auto opened = open_store_for(invocation);
    if (!opened) return tl::unexpected(opened.error());
    auto org = find_org(*opened->store, id_or_name);
    if (!org) return tl::unexpected(org.error());
    edit(*org);
    org->updated_at = wall_clock_ms();
    auto updated = opened->store->update_org(*org);
    if (!updated) return updated;
    print_record(invocation.json, org_record(*org));
    return {};
}

Result<void> set_suspended(const Invocation& invocation, const std::string& org, bool is_suspended) {
    return change(invocation, org, [is_suspended](Organization& found) { found.is_suspended = is_suspended; });
}

Result<void> set_plan(const Invocation& invocation, const OrgChangeOptions& options) {
    const std::string& plan = options.plan;
    if (!is_plan_name(plan))
        return fail(ErrorCode::kInvalidArgument,
                    "--plan must be the name of a headgate_plan: 1 to 64 of A-Z a-z 0-9 _ -");
    return change(invocation, options.org, [&plan](Organization& found) { found.plan = plan; });
}

struct NetworkOptions {
    std::string org, network;
    bool removes = false, lists = false;
};

void print_networks(const Invocation& invocation, const Organization& org, const Config& config) {
    boost::json::array rows;
    for (const auto& text : org.allow_networks) {
        const auto network = parse_network(text);
        // Beyond the ceiling nothing is allowed, whatever the organization's list says.
        const auto& ceiling = config.security_allow_networks;
        const bool is_within =
            text == "*" || (network && std::any_of(ceiling.begin(), ceiling.end(), [&](const IpNetwork& allowed) {
                                return allowed.prefix_bits <= network->prefix_bits && allowed.contains(network->base);
                            }));
        boost::json::object row;
        row.emplace("network", text);
        row.emplace("within_ceiling", is_within);
        rows.push_back(std::move(row));
    }
    print_table(invocation.json, {"network", "within_ceiling"}, rows);
}

// What deliveries may reach changes with the next target that is read: at once, as the generation is raised.
Result<void> allow_network(const Invocation& invocation, const NetworkOptions& options) {
    if (options.lists != options.network.empty())
        return fail(ErrorCode::kInvalidArgument,
                    "give either --network CIDR (with --remove to take it back) or --list");
    if (!options.network.empty() && options.network != "*" && !parse_network(options.network))
        return fail(ErrorCode::kInvalidArgument,
                    "--network " + options.network +
                        " is no network: write an address, address/prefix with no bits set beyond the prefix, or *");
    auto opened = open_store_for(invocation);
    if (!opened) return tl::unexpected(opened.error());
    auto org = find_org(*opened->store, options.org);
    if (!org) return tl::unexpected(org.error());
    auto& networks = org->allow_networks;
    const auto found = std::find(networks.begin(), networks.end(), options.network);
    if (options.removes && found == networks.end())
        return fail(ErrorCode::kNotFound, "the organization has no network " + options.network);
    if (options.removes) {
        networks.erase(found);
    } else if (!options.lists && found == networks.end()) {
        if (networks.size() >= kNetworksMax)
            return fail(ErrorCode::kConflict,
                        "an organization has at most " + std::to_string(kNetworksMax) + " networks");
        networks.push_back(options.network);
    }
    if (!options.lists) {
        org->updated_at = wall_clock_ms();
        auto updated = opened->store->update_org(*org);
        if (!updated) return updated;
    }
    print_networks(invocation, *org, opened->config);
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
    auto changes = std::make_shared<OrgChangeOptions>();
    auto* plan = org->add_subcommand("plan", "give an organization, and the keys that have its plan, another plan");
    plan->add_option("org,--org", changes->org, "the organization's id or name")->required();
    plan->add_option("--plan", changes->plan, "a plan that nginx knows (headgate_plan)")->required();
    plan->callback([&invocation, changes] {
        invocation.action = [&invocation, changes] { return set_plan(invocation, *changes); };
    });
    auto* suspend = org->add_subcommand("suspend", "refuse an organization's keys and tokens, and hold its deliveries");
    suspend->add_option("org,--org", changes->org, "the organization's id or name")->required();
    suspend->add_flag("--undo", changes->resumes, "the same as `org resume`");
    suspend->callback([&invocation, changes] {
        invocation.action = [&invocation, changes] {
            return set_suspended(invocation, changes->org, !changes->resumes);
        };
    });
    auto* resume = org->add_subcommand("resume", "end a suspension: keys and tokens are good again, deliveries go on");
    resume->add_option("org,--org", changes->org, "the organization's id or name")->required();
    resume->callback([&invocation, changes] {
        invocation.action = [&invocation, changes] { return set_suspended(invocation, changes->org, false); };
    });
    auto network = std::make_shared<NetworkOptions>();
    auto* allow =
        org->add_subcommand("allow-network", "what an organization's webhooks may reach besides public addresses");
    allow->add_option("--org", network->org, "the organization's id or name")->required();
    allow->add_option("--network", network->network, "CIDR, within security.allow_networks; * is all of that");
    allow->add_flag("--remove", network->removes, "take the network back");
    allow->add_flag("--list", network->lists, "only show them");
    allow->callback([&invocation, network] {
        invocation.action = [&invocation, network] { return allow_network(invocation, *network); };
    });
    org->add_subcommand("list", "list the organizations")->callback([&invocation] {
        invocation.action = [&invocation] { return list(invocation); };
    });
}

}  // namespace headgate
