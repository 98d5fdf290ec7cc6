// headgate serve: the sidecar, until SIGTERM or SIGINT.
#include <csignal>

#include "sidecar/app.h"
#include "sidecar/base/log.h"
#include "sidecar/cli/command.h"

namespace headgate {

void add_serve(CLI::App& root, Invocation& invocation) {
    auto* command = root.add_subcommand("serve", "drain the streams, deliver webhooks, serve the management API");
    command->callback([&invocation] {
        invocation.action = [&invocation]() -> Result<void> {
            auto config = invocation.load();
            if (!config) return tl::unexpected(config.error());
            auto secrets = load_secrets(*config);
            if (!secrets) return tl::unexpected(secrets.error());
            std::signal(SIGPIPE, SIG_IGN);
            std::signal(SIGXFSZ, SIG_IGN);  // a file that may not grow is an error of the store's, not our end
            start_logging(config->log_level, config->log_format);
            App app(std::move(*config), std::move(*secrets));
            return app.run();
        };
    });
}

}  // namespace headgate
