// From argv to an exit code; see cli.h. Each command is in its own file.
#include "sidecar/cli/cli.h"

#include <iostream>

#include "sidecar/cli/command.h"

namespace headgate {
namespace {

// Options of the root are taken after a command's name as well.
void let_options_fall_through(CLI::App& app) {
    for (CLI::App* command : app.get_subcommands([](CLI::App*) { return true; })) {
        command->fallthrough();
        let_options_fall_through(*command);
    }
}

}  // namespace

Result<OpenedStore> open_store_for(const Invocation& invocation) {
    auto config = invocation.load();
    if (!config) return tl::unexpected(config.error());
    auto master_keys = load_master_keys(*config);
    if (!master_keys) return tl::unexpected(master_keys.error());
    auto store = open_configured_store(*config, *master_keys, StoreUse::kBeside);
    if (!store) return tl::unexpected(store.error());
    auto migrated = (*store)->migrate();
    if (!migrated) return tl::unexpected(migrated.error());
    return OpenedStore{std::move(*config), std::move(*store)};
}

Result<Organization> find_org(Store& store, const std::string& id_or_name) {
    auto orgs = store.list_orgs();
    if (!orgs) return tl::unexpected(orgs.error());
    for (auto& org : *orgs)
        if (org.id == id_or_name || org.name == id_or_name) return std::move(org);
    return fail(ErrorCode::kNotFound,
                "there is no organization \"" + id_or_name + "\"; `headgate org list` shows those there are");
}

int run_command_line(int argc, char** argv) {
    CLI::App root("Headgate: events from nginx through Redis to signed webhooks", "headgate");
    Invocation invocation;
    root.add_option("--config", invocation.config_option,
                    "the configuration (default: HEADGATE_CONFIG, else /etc/headgate/headgate.toml)")
        ->type_name("FILE");
    root.add_flag("--json", invocation.json, "print results as JSON");
    root.require_subcommand(1);
    add_serve(root, invocation);
    add_init(root, invocation);
    add_check_config(root, invocation);
    add_org(root, invocation);
    add_key(root, invocation);
    add_webhook(root, invocation);
    add_shards(root, invocation);
    add_event(root, invocation);
    add_delivery(root, invocation);
    add_explain_url(root, invocation);
    add_receive(root, invocation);
    add_migrate(root, invocation);
    add_version(root, invocation);
    let_options_fall_through(root);
    try {
        root.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        return root.exit(error) == 0 ? 0 : 2;
    }
    Result<void> done;
    try {
        done = invocation.action();
    } catch (const std::exception& error) {
        done = fail(ErrorCode::kInternal, error.what());
    }
    std::cout.flush();
    if (done && std::cout) return 0;
    std::cerr << "headgate: " << (done ? "standard output cannot be written" : done.error().message) << "\n";
    return 1;
}

}  // namespace headgate
