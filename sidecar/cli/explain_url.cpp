// headgate explain-url
#include "sidecar/api/explain_url.h"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/json.hpp>
#include <iostream>

#include "sidecar/cli/ask_redis.h"
#include "sidecar/cli/command.h"
#include "sidecar/cli/output.h"
#include "sidecar/deliver/target_report.h"

namespace headgate {
namespace {

struct ExplainOptions {
    std::string url, org;
};

// Looked up as `serve` does it: by the same client.
HttpResponse look_up(const TargetGuard& guard, const HttpClientOptions& options, HttpRequest request) {
    boost::asio::io_context io(1);
    HttpClient client(io.get_executor(), guard, options);
    HttpResponse response;
    boost::asio::co_spawn(io, client.send(std::move(request)),
                          [&](const std::exception_ptr&, HttpResponse answer) { response = std::move(answer); });
    io.run();
    return response;
}

// Without an organization: what any may reach. Then neither the store nor its keys are needed.
Result<void> explain(const Invocation& invocation, const ExplainOptions& options) {
    auto config = invocation.load();
    if (!config) return tl::unexpected(config.error());
    auto http = http_client_options(*config);
    if (!http) return tl::unexpected(http.error());
    std::vector<std::string> networks;
    if (!options.org.empty()) {
        auto opened = open_store_for(invocation);
        if (!opened) return tl::unexpected(opened.error());
        auto org = find_org(*opened->store, options.org);
        if (!org) return tl::unexpected(org.error());
        networks = org->allow_networks;
    }
    const TargetGuard guard = guard_of_now(*config);
    HttpResponse lookup;
    if (parse_target_url(options.url)) lookup = look_up(guard, *http, lookup_request(options.url, networks));
    const TargetReport report = explain_target({guard, options.url, networks, !http->proxy.url.empty(), &lookup});
    if (invocation.json) {
        print_record(true, target_report_json(options.url, report));
    } else {
        for (const TargetStep& step : report.steps)
            std::cout << (!step.is_allowed   ? "     "
                          : *step.is_allowed ? "ok   "
                                             : "NO   ")
                      << step.name << ": " << step.detail << "\n";
    }
    if (report.is_allowed) return {};
    return fail(ErrorCode::kForbidden, "nothing would be sent to this URL");
}

}  // namespace

void add_explain_url(CLI::App& root, Invocation& invocation) {
    auto options = std::make_shared<ExplainOptions>();
    auto* command =
        root.add_subcommand("explain-url", "say why a webhook may or may not be sent to a URL; exit code 1: not");
    command->add_option("url", options->url, "the URL")->required();
    command->add_option("--org", options->org, "for this organization, by id or name (default: one without networks)");
    command->callback([&invocation, options] {
        invocation.action = [&invocation, options] { return explain(invocation, *options); };
    });
}

}  // namespace headgate
