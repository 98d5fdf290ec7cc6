// What the commands about deliveries, events and replays share.
#pragma once

#include <string>

#include "sidecar/cli/command.h"
#include "sidecar/io/wall_clock.h"

namespace headgate {

// A time (RFC 3339), or how long ago: "24h". `option` is for the message.
[[nodiscard]] Result<TimeMs> time_option(const char* option, const std::string& text, TimeMs now);
// The same into an optional; empty text leaves it alone.
[[nodiscard]] Result<void> time_option_into(const char* option, const std::string& text, std::optional<TimeMs>& out);

// Runs `act(org id)` for the organization that is named or, where none is, for each until one has what is looked for.
template <typename Act>
auto in_org_or_any(Store& store, const std::string& named, Act act) -> decltype(act(named)) {
    if (!named.empty()) {
        auto org = find_org(store, named);
        if (!org) return tl::unexpected(org.error());
        return act(org->id);
    }
    auto orgs = store.list_orgs();
    if (!orgs) return tl::unexpected(orgs.error());
    decltype(act(named)) last = fail(ErrorCode::kNotFound, "there is no organization");
    for (const auto& org : *orgs) {
        last = act(org.id);
        if (last || last.error().code != ErrorCode::kNotFound) return last;
    }
    return last;
}

}  // namespace headgate
