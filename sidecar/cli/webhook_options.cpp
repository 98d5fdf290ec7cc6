// Reading and describing webhooks; see webhook_options.h.
#include "sidecar/cli/webhook_options.h"

#include <boost/json.hpp>
#include <fstream>

#include "common/limits.h"
#include "sidecar/base/json_read.h"
#include "sidecar/base/text.h"

namespace headgate {
namespace json = boost::json;
namespace {

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

}  // namespace

Result<json::object> webhook_members(const WebhookOptions& options) {
    json::object members;
    if (!options.events.empty()) {
        json::array events;
        for (const auto& event : split_list(options.events)) events.emplace_back(event);
        members.emplace("events", std::move(events));
    }
    for (const auto& [name, value] : {std::pair<const char*, const std::string&>{"url", options.url},
                                      {"name", options.name},
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
        auto filters = read_json(options.filters, limits::kJsonDepthMax, ec);
        if (ec) return fail(ErrorCode::kInvalidArgument, "--filters is not valid JSON: " + ec.message());
        members.emplace("filters", std::move(filters));
    }
    return members;
}

void add_webhook_choices(CLI::App& command, WebhookOptions& options) {
    command.add_option("--name", options.name, "its name (default: the URL's host)");
    command.add_option("--ordering", options.ordering, "key: in order within each ordering key");
    command.add_option("--on-failure", options.on_failure,
                       "of ordered ones: the rest waits until the failed one is dead (dead, the default), "
                       "until its first failure (skip), until somebody acts (block)");
    command.add_option("--format", options.format, "envelope (default), standard, raw or template");
    command.add_option("--template", options.body_template, "the body as a template, or @FILE");
    command.add_option("--content-type", options.content_type,
                       "application/json (default) or application/x-www-form-urlencoded");
    command.add_option("--rate", options.rate, "at most so many requests, such as 600r/m");
    command.add_option("--timeout", options.timeout_seconds, "seconds for a request (default: 30)");
    command.add_option("--max-in-flight", options.max_in_flight, "requests at once (default: 16)");
    command.add_option("--signature-style", options.style, "stripe, github or shopify, besides our own");
    command.add_flag("--sign-ed25519", options.sign_ed25519, "sign with a key pair as well (v1a)");
    command.add_option("--filters", options.filters, "conditions on the payload, as JSON");
}

}  // namespace headgate
