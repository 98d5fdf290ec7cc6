// An organization as an operator describes it; shared by the command line and `init`.
#pragma once

#include <string_view>

#include "common/result.h"
#include "sidecar/store/store.h"

namespace headgate {

// Checks the name and that no other organization has it, and stores it.
[[nodiscard]] Result<Organization> create_named_org(Store& store, std::string_view name, std::string_view plan,
                                                    std::vector<std::string> allow_networks, TimeMs now);

}  // namespace headgate
