// headgate key create | list | revoke
#include <boost/json.hpp>

#include "common/rfc3339.h"
#include "sidecar/api/key_input.h"
#include "sidecar/base/text.h"
#include "sidecar/base/wall_clock.h"
#include "sidecar/cli/command.h"
#include "sidecar/cli/output.h"

namespace headgate {
namespace {

struct KeyOptions {
    std::string org, id;
    KeyDescription description;
};

boost::json::value time_or_null(std::optional<TimeMs> time) {
    if (!time) return nullptr;
    return boost::json::value(rfc3339_format(*time));
}

Result<void> create(const Invocation& invocation, const KeyOptions& options) {
    auto opened = open_store_for(invocation);
    if (!opened) return tl::unexpected(opened.error());
    auto pepper = load_pepper(opened->config);
    if (!pepper) return tl::unexpected(pepper.error());
    auto org = find_org(*opened->store, options.org);
    if (!org) return tl::unexpected(org.error());
    KeyDescription description = options.description;
    if (description.plan.empty()) description.plan = org->plan;
    KeyInput input = read_key(description, org->id, *pepper, wall_clock_ms());
    if (!input.errors.empty()) return tl::unexpected(as_error(input.errors));
    auto created = opened->store->create_key(input.key);
    if (!created) return created;
    boost::json::object record;
    record.emplace("id", input.key.id);
    record.emplace("api_key", input.api_key);
    print_record(invocation.json, record);
    return {};
}

Result<void> list(const Invocation& invocation, const KeyOptions& options) {
    auto opened = open_store_for(invocation);
    if (!opened) return tl::unexpected(opened.error());
    auto org = find_org(*opened->store, options.org);
    if (!org) return tl::unexpected(org.error());
    auto keys = opened->store->list_keys(org->id);
    if (!keys) return tl::unexpected(keys.error());
    boost::json::array rows;
    for (const auto& key : *keys) {
        boost::json::object row;
        row.emplace("id", key.id);
        row.emplace("key_prefix", key.key_prefix);
        row.emplace("name", key.name);
        row.emplace("scopes", key.scopes);
        row.emplace("plan", key.plan);
        row.emplace("allowed_ips", key.allowed_ips);
        row.emplace("is_active", key.is_active);
        row.emplace("expires_at", time_or_null(key.expires_at));
        row.emplace("usage_count", key.usage_count);
        row.emplace("last_used_at", time_or_null(key.last_used_at));
        row.emplace("created_at", rfc3339_format(key.created_at));
        rows.push_back(std::move(row));
    }
    print_table(invocation.json,
                {"id", "key_prefix", "name", "scopes", "plan", "allowed_ips", "is_active", "expires_at", "usage_count",
                 "last_used_at", "created_at"},
                rows);
    return {};
}

Result<void> revoke(const Invocation& invocation, const KeyOptions& options) {
    auto opened = open_store_for(invocation);
    if (!opened) return tl::unexpected(opened.error());
    auto key = opened->store->get_key_any_org(options.id);
    if (!key) return tl::unexpected(key.error());
    auto revoked = opened->store->revoke_key(key->org, key->id, wall_clock_ms());
    if (!revoked) return revoked;
    boost::json::object record;
    record.emplace("id", key->id);
    record.emplace("is_active", false);
    print_record(invocation.json, record);
    return {};
}

}  // namespace

void add_key(CLI::App& root, Invocation& invocation) {
    auto* key = root.add_subcommand("key", "API keys")->require_subcommand(1);
    auto options = std::make_shared<KeyOptions>();
    auto& description = options->description;

    auto* create_command = key->add_subcommand("create", "make an API key; it is shown once");
    create_command->add_option("--org", options->org, "the organization's id or name")->required();
    create_command->add_option("--name", description.name, "what it is for")->required();
    create_command->add_option("--scopes", description.scopes, "such as \"events:write inbox:read\"")->required();
    create_command->add_option("--plan", description.plan, "its rate plan (default: the organization's)");
    create_command->add_option("--allowed-ips", description.allowed_ips, "addresses and networks it may be used from");
    create_command->add_option("--expires", description.expires, "a time (RFC 3339) or a duration such as 90d");
    create_command->callback([&invocation, options] {
        invocation.action = [&invocation, options] { return create(invocation, *options); };
    });

    auto* list_command = key->add_subcommand("list", "list an organization's API keys");
    list_command->add_option("--org", options->org, "the organization's id or name")->required();
    list_command->callback(
        [&invocation, options] { invocation.action = [&invocation, options] { return list(invocation, *options); }; });

    auto* revoke_command = key->add_subcommand("revoke", "end an API key and every token made from it");
    revoke_command->add_option("id,--id", options->id, "the key's id")->required();
    revoke_command->callback([&invocation, options] {
        invocation.action = [&invocation, options] { return revoke(invocation, *options); };
    });
}

}  // namespace headgate
