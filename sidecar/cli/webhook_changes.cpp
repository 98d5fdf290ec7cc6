// headgate webhook show | update | rotate-secret
#include <boost/json.hpp>

#include "common/rfc3339.h"
#include "common/webhook_signature.h"
#include "sidecar/api/webhook_input.h"
#include "sidecar/api/webhook_json.h"
#include "sidecar/base/text.h"
#include "sidecar/cli/ask_redis.h"
#include "sidecar/cli/output.h"
#include "sidecar/cli/recovery_options.h"
#include "sidecar/cli/webhook_options.h"

namespace headgate {
namespace json = boost::json;
namespace {

constexpr int kTries = 3;  // of a change, when others change the webhook meanwhile

struct ChangeOptions {
    WebhookOptions webhook;
    std::string id, resets, grace;
    bool enables = false, disables = false, stops_ed25519 = false;
};

Result<Webhook> find_webhook(Store& store, const ChangeOptions& options) {
    return in_org_or_any(store, options.webhook.org,
                         [&](const std::string& org) { return store.get_webhook(org, options.id); });
}

Result<void> show(const Invocation& invocation, const ChangeOptions& options) {
    auto opened = open_store_for(invocation);
    if (!opened) return tl::unexpected(opened.error());
    auto webhook = find_webhook(*opened->store, options);
    if (!webhook) return tl::unexpected(webhook.error());
    auto stats = opened->store->webhook_stats(webhook->org, webhook->id);
    if (!stats) return tl::unexpected(stats.error());
    print_record(invocation.json, webhook_detail_json(*webhook, *stats));
    return {};
}

// What is given replaces what there is, as PATCH has it; null for what gets its default back.
Result<json::object> members_of(const ChangeOptions& options) {
    auto members = webhook_members(options.webhook);
    if (!members) return members;
    if (options.enables || options.disables) members->insert_or_assign("is_active", options.enables);
    if (options.stops_ed25519) members->insert_or_assign("sign_ed25519", false);
    for (const auto& name : split_list(options.resets)) {
        if (members->contains(name))
            return fail(ErrorCode::kInvalidArgument, "--reset " + name + " and a value for it contradict each other");
        members->emplace(name, nullptr);
    }
    if (members->empty()) return fail(ErrorCode::kInvalidArgument, "nothing to change was given; --help names it");
    return members;
}

Result<void> update(const Invocation& invocation, const ChangeOptions& options) {
    auto members = members_of(options);
    if (!members) return tl::unexpected(members.error());
    auto opened = open_store_for(invocation);
    if (!opened) return tl::unexpected(opened.error());
    const TargetGuard guard =
        members->contains("url") ? guard_of_now(opened->config) : TargetGuard(guard_options(opened->config));
    for (int tries = 1;; ++tries) {
        auto before = find_webhook(*opened->store, options);
        if (!before) return tl::unexpected(before.error());
        auto org = opened->store->get_org(before->org);
        if (!org) return tl::unexpected(org.error());
        WebhookInput input = read_webhook_change(*members, *before, org->allow_networks, guard, wall_clock_ms());
        if (!input.errors.empty()) return tl::unexpected(as_error(input.errors));
        auto changed = opened->store->update_webhook(input.webhook, before->version);
        if (changed) {
            print_record(invocation.json, webhook_json(*changed));
            return {};
        }
        if (changed.error().code != ErrorCode::kConflict || tries == kTries) return tl::unexpected(changed.error());
    }
}

Result<void> rotate(const Invocation& invocation, const ChangeOptions& options) {
    json::object members;
    if (!options.webhook.secret.empty()) members.emplace("secret", options.webhook.secret);
    if (!options.grace.empty()) {
        auto grace_ms = parse_duration_ms(options.grace);
        if (!grace_ms) return fail(ErrorCode::kInvalidArgument, "--grace must be a duration such as 24h, or 0s");
        members.emplace("grace_seconds", *grace_ms / 1000);
    }
    SecretInput input = read_new_secret(members, wall_clock_ms());
    if (!input.errors.empty()) return tl::unexpected(as_error(input.errors));
    auto opened = open_store_for(invocation);
    if (!opened) return tl::unexpected(opened.error());
    auto webhook = find_webhook(*opened->store, options);
    if (!webhook) return tl::unexpected(webhook.error());
    auto rotated = rotate_webhook_secret(*opened->store, webhook->org, webhook->id, input);
    if (!rotated) return rotated;
    json::object record;
    record.emplace("id", webhook->id);
    record.emplace("secret", webhook_secret_text(input.secret.key_bytes));
    record.emplace("others_valid_until", rfc3339_format(input.others_expire_at));
    print_record(invocation.json, record);
    return {};
}

}  // namespace

void add_webhook_changes(CLI::App& webhook, Invocation& invocation) {
    auto options = std::make_shared<ChangeOptions>();
    const auto add = [&](const char* name, const char* help,
                         Result<void> (*run)(const Invocation&, const ChangeOptions&)) {
        auto* command = webhook.add_subcommand(name, help);
        command->add_option("id,--id", options->id, "the webhook's id")->required();
        command->add_option("--org", options->webhook.org, "the organization (default: the one that has it)");
        command->callback([&invocation, options, run] {
            invocation.action = [&invocation, options, run] { return run(invocation, *options); };
        });
        return command;
    };
    add("show", "show a webhook and what became of its deliveries", show);
    auto* change = add("update", "change a webhook; what is not given stays", update);
    change->add_option("--url", options->webhook.url, "where events are sent");
    change->add_option("--events", options->webhook.events, "such as \"order.*,user.created\"");
    add_webhook_choices(*change, options->webhook);
    change->add_flag("--no-sign-ed25519", options->stops_ed25519, "drop its key pair");
    auto* enable = change->add_flag("--enable", options->enables, "send again; what waited is sent first");
    change->add_flag("--disable", options->disables, "send nothing; what is due waits")->excludes(enable);
    change->add_option("--reset", options->resets, "members that get their default back, such as \"filters,rate\"");
    auto* rotation = add("rotate-secret", "give a webhook a new secret, which is shown once", rotate);
    rotation->add_option("--secret", options->webhook.secret, "the new one (default: made at random)");
    rotation->add_option("--grace", options->grace, "how long the others sign besides (default: 24h, at most 7d)");
}

}  // namespace headgate
