// headgate version
#include "common/version.h"

#include <boost/json.hpp>

#include "common/limits.h"
#include "sidecar/cli/command.h"
#include "sidecar/cli/output.h"

namespace headgate {

void add_version(CLI::App& root, Invocation& invocation) {
    auto* command = root.add_subcommand("version", "print the version and that of the contract in Redis");
    command->callback([&invocation] {
        invocation.action = [&invocation]() -> Result<void> {
            boost::json::object record;
            record.emplace("version", HEADGATE_VERSION);
            record.emplace("contract", limits::kContractVersion);
            print_record(invocation.json, record);
            return {};
        };
    });
}

}  // namespace headgate
