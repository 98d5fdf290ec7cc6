// A webhook as the command line describes it: what `webhook create` and `webhook update` have in common.
#pragma once

#include <boost/json/fwd.hpp>
#include <cstdint>
#include <string>

#include "sidecar/cli/command.h"

namespace headgate {

struct WebhookOptions {
    std::string org, url, events, name, ordering, on_failure, format, content_type, body_template, rate, style, secret,
        filters;
    std::int64_t timeout_seconds = 0, max_in_flight = 0;
    bool sign_ed25519 = false;
};

// Everything but the organization, the URL, the events and the secret.
void add_webhook_choices(CLI::App& command, WebhookOptions& options);
// What was given, as the API would get it: what is refused there is refused here.
[[nodiscard]] Result<boost::json::object> webhook_members(const WebhookOptions& options);

// Below `webhook`.
void add_webhook_changes(CLI::App& webhook, Invocation& invocation);

}  // namespace headgate
