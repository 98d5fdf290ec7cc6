// What every command gets, and where each is declared: one file for each.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <memory>
#include <string>

#include "common/result.h"
#include "sidecar/config.h"
#include "sidecar/settings.h"
#include "sidecar/store/store.h"

namespace headgate {

// The options that every command takes, and the command that was chosen.
struct Invocation {
    std::string config_option;
    bool json = false;
    std::function<Result<void>()> action;

    [[nodiscard]] Result<Config> load() const { return load_config(config_path(config_option)); }
};

// The configuration with its store open beside a running `serve`, at the current schema.
struct OpenedStore {
    Config config;
    std::unique_ptr<Store> store;
};
[[nodiscard]] Result<OpenedStore> open_store_for(const Invocation& invocation);
// By id, or by name.
[[nodiscard]] Result<Organization> find_org(Store& store, const std::string& id_or_name);

// Each declares a command: its options, its help, and what it does as `invocation.action`.
void add_serve(CLI::App& root, Invocation& invocation);
void add_init(CLI::App& root, Invocation& invocation);
void add_check_config(CLI::App& root, Invocation& invocation);
void add_org(CLI::App& root, Invocation& invocation);
void add_key(CLI::App& root, Invocation& invocation);
void add_webhook(CLI::App& root, Invocation& invocation);
void add_shards(CLI::App& root, Invocation& invocation);
void add_event(CLI::App& root, Invocation& invocation);
void add_event_list(CLI::App& event, Invocation& invocation);  // below `event`, as the next two
void add_event_replay(CLI::App& event, Invocation& invocation);
void add_event_explain(CLI::App& event, Invocation& invocation);
void add_delivery(CLI::App& root, Invocation& invocation);
void add_explain_url(CLI::App& root, Invocation& invocation);
void add_receive(CLI::App& root, Invocation& invocation);
void add_migrate(CLI::App& root, Invocation& invocation);
void add_migrate_reseal(CLI::App& migrate, Invocation& invocation);
void add_version(CLI::App& root, Invocation& invocation);

}  // namespace headgate
