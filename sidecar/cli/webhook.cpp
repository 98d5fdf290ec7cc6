// headgate webhook create | list
#include <boost/json.hpp>
#include <fstream>

#include "common/limits.h"
#include "common/webhook_signature.h"
#include "sidecar/api/webhook_input.h"
#include "sidecar/api/webhook_json.h"
#include "sidecar/base/text.h"
#include "sidecar/cli/command.h"
#include "sidecar/cli/output.h"
#include "sidecar/io/wall_clock.h"

namespace headgate {
namespace json = boost::json;
namespace {

struct WebhookOptions {
    std::string org, url, events, name, ordering, on_failure, format, content_type, body_template, rate, style, secret,
        filters;
    std::int64_t timeout_seconds = 0, max_in_flight = 0;
    bool sign_ed25519 = false;
};

// The text itself, or @ and the file that has it; an editor's last line break is no part of it.
Result<std::string> template_text(const std::string& given) {
    if (!given.starts_with('@')) return given;
    std::ifstream file(given.substr(1), std::ios::binary);
    std::string text(limits::kBodyTemplateBytesMax + 2, '\0');
    if (!file) return fail(ErrorCode::kInvalidArgument, "--template: " + given.substr(1) + " cannot be read");
    file.read(text.data(), static_cast<std::streamsize>(text.size()));
    text.resize(static_cast<std::size_t>(file.gcount()));
    if (text.ends_with('\n')) text.pop_back();
    if (text.ends_with('\r')) text.pop_back();
    return text;
}

// As the API would get it: what is refused there is refused here.
Result<json::object> describe(const WebhookOptions& options) {
    json::object members;
    json::array events;
    for (const auto& event : split_list(options.events)) events.emplace_back(event);
    members.emplace("url", options.url);
    members.emplace("events", std::move(events));
    for (const auto& [name, value] : {std::pair<const char*, const std::string&>{"name", options.name},
                                      {"ordering", options.ordering},
                                      {"ordering_policy", options.on_failure},
                                      {"payload_format", options.format},
                                      {"content_type", options.content_type},
                                      {"rate", options.rate},
                                      {"signature_style", options.style},
                                      {"secret", options.secret}})
        if (!value.empty()) members.emplace(name, value);
    if (options.sign_ed25519) members.emplace("sign_ed25519", true);
    if (options.timeout_seconds != 0) members.emplace("timeout_seconds", options.timeout_seconds);
    if (options.max_in_flight != 0) members.emplace("max_in_flight", options.max_in_flight);
    if (!options.body_template.empty()) {
        auto text = template_text(options.body_template);
        if (!text) return tl::unexpected(text.error());
        members.emplace("body_template", *text);
        if (options.format.empty()) members.emplace("payload_format", "template");
    }
    if (!options.filters.empty()) {
        boost::system::error_code ec;
        auto filters = json::parse(options.filters, ec);
        if (ec) return fail(ErrorCode::kInvalidArgument, "--filters is not valid JSON: " + ec.message());
        members.emplace("filters", std::move(filters));
    }
    return members;
}

Result<void> create(const Invocation& invocation, const WebhookOptions& options) {
    auto members = describe(options);
    if (!members) return tl::unexpected(members.error());
    auto opened = open_store_for(invocation);
    if (!opened) return tl::unexpected(opened.error());
    auto org = find_org(*opened->store, options.org);
    if (!org) return tl::unexpected(org.error());
    TargetGuard guard(guard_options(opened->config));
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
    create_command->add_option("--name", options->name, "its name (default: the URL's host)");
    create_command->add_option("--ordering", options->ordering, "key: in order within each ordering key");
    create_command->add_option("--on-failure", options->on_failure,
                               "of ordered ones: the rest waits until the failed one is dead (dead, the default), "
                               "until its first failure (skip), until somebody acts (block)");
    create_command->add_option("--format", options->format, "envelope (default), standard, raw or template");
    create_command->add_option("--template", options->body_template, "the body as a template, or @FILE");
    create_command->add_option("--content-type", options->content_type,
                               "application/json (default) or application/x-www-form-urlencoded");
    create_command->add_option("--rate", options->rate, "at most so many requests, such as 600r/m");
    create_command->add_option("--timeout", options->timeout_seconds, "seconds for a request (default: 30)");
    create_command->add_option("--max-in-flight", options->max_in_flight, "requests at once (default: 16)");
    create_command->add_option("--signature-style", options->style, "stripe, github or shopify, besides our own");
    create_command->add_flag("--sign-ed25519", options->sign_ed25519, "sign with a key pair as well (v1a)");
    create_command->add_option("--secret", options->secret, "its secret (default: a new one)");
    create_command->add_option("--filters", options->filters, "conditions on the payload, as JSON");
    create_command->callback([&invocation, options] {
        invocation.action = [&invocation, options] { return create(invocation, *options); };
    });

    auto* list_command = webhook->add_subcommand("list", "list an organization's webhooks");
    list_command->add_option("--org", options->org, "the organization's id or name")->required();
    list_command->callback(
        [&invocation, options] { invocation.action = [&invocation, options] { return list(invocation, *options); }; });
}

}  // namespace headgate
