// headgate webhook create | list. Next file: webhook_changes.cpp.
#include <boost/json.hpp>

#include "common/webhook_signature.h"
#include "sidecar/api/webhook_input.h"
#include "sidecar/api/webhook_json.h"
#include "sidecar/base/wall_clock.h"
#include "sidecar/cli/ask_redis.h"
#include "sidecar/cli/command.h"
#include "sidecar/cli/output.h"
#include "sidecar/cli/webhook_options.h"

namespace headgate {
namespace json = boost::json;
namespace {

Result<void> create(const Invocation& invocation, const WebhookOptions& options) {
    auto members = webhook_members(options);
    if (!members) return tl::unexpected(members.error());
    auto opened = open_store_for(invocation);
    if (!opened) return tl::unexpected(opened.error());
    auto org = find_org(*opened->store, options.org);
    if (!org) return tl::unexpected(org.error());
    const TargetGuard guard = guard_of_now(opened->config);
    WebhookInput input = read_webhook(*members, org->id, org->allow_networks, guard, wall_clock_ms());
    if (!input.errors.empty()) return tl::unexpected(as_error(input.errors));
    auto created = opened->store->create_webhook(input.webhook);
    if (!created) return created;
    json::object record;
    record.emplace("id", input.webhook.id);
    record.emplace("secret", input.secret_text);
    if (auto key_pair = Ed25519Key::from_seed(input.webhook.ed25519_seed))
        record.emplace("public_key", webhook_public_key_text(*key_pair));
    print_record(invocation.json, record);
    return {};
}

Result<void> list(const Invocation& invocation, const WebhookOptions& options) {
    auto opened = open_store_for(invocation);
    if (!opened) return tl::unexpected(opened.error());
    auto org = find_org(*opened->store, options.org);
    if (!org) return tl::unexpected(org.error());
    json::array rows;
    Store::WebhookFilter filter;
    filter.page.limit = 200;
    while (true) {
        auto page = opened->store->list_webhooks(org->id, filter);
        if (!page) return tl::unexpected(page.error());
        for (const auto& webhook : page->webhooks) rows.push_back(webhook_summary_json(webhook));
        filter.page.offset += static_cast<int>(page->webhooks.size());
        if (page->webhooks.empty() || filter.page.offset >= page->total) break;
    }
    print_table(invocation.json, {"id", "name", "url", "events", "is_active", "success_count", "failure_count"}, rows);
    return {};
}

}  // namespace

void add_webhook(CLI::App& root, Invocation& invocation) {
    auto* webhook = root.add_subcommand("webhook", "webhooks")->require_subcommand(1);
    auto options = std::make_shared<WebhookOptions>();

    auto* create_command = webhook->add_subcommand("create", "make a webhook; its secret is shown once");
    create_command->add_option("--org", options->org, "the organization's id or name")->required();
    create_command->add_option("--url", options->url, "where events are sent")->required();
    create_command->add_option("--events", options->events, "such as \"order.*,user.created\"")->required();
    add_webhook_choices(*create_command, *options);
    create_command->add_option("--secret", options->secret, "its secret (default: a new one)");
    create_command->callback([&invocation, options] {
        invocation.action = [&invocation, options] { return create(invocation, *options); };
    });

    auto* list_command = webhook->add_subcommand("list", "list an organization's webhooks");
    list_command->add_option("--org", options->org, "the organization's id or name")->required();
    list_command->callback(
        [&invocation, options] { invocation.action = [&invocation, options] { return list(invocation, *options); }; });
    add_webhook_changes(*webhook, invocation);
}

}  // namespace headgate
