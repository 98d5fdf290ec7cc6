// What the commands about deliveries, events and replays share.
#pragma once

#include <algorithm>
#include <boost/json/array.hpp>
#include <string>
#include <vector>

#include "sidecar/base/wall_clock.h"
#include "sidecar/cli/command.h"
#include "sidecar/cli/output.h"

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

// What every `list` asks for.
struct ListOptions {
    std::string org, since, until;
    int limit = 50;
};

// --until and --limit; which of the others there are, and what they say, is each command's own.
void add_page_options(CLI::App& command, ListOptions& options);

// Prints a list, read page after page: `add_page(store, org id, query, rows)` adds the rows of one page, at most
// query.limit of them, and says whether there may be more, which it has then set `query` to go on with.
template <typename Query, typename AddPage>
Result<void> print_pages(const Invocation& invocation, const ListOptions& options,
                         const std::vector<std::string>& columns, Query query, AddPage add_page) {
    constexpr int kPage = 200;
    if (auto since = time_option_into("--since", options.since, query.since); !since) return since;
    if (auto until = time_option_into("--until", options.until, query.until); !until) return until;
    auto opened = open_store_for(invocation);
    if (!opened) return tl::unexpected(opened.error());
    auto org = find_org(*opened->store, options.org);
    if (!org) return tl::unexpected(org.error());
    boost::json::array rows;
    for (bool is_more = true; is_more && static_cast<int>(rows.size()) < options.limit;) {
        query.limit = std::min(kPage, options.limit - static_cast<int>(rows.size()));
        Result<bool> added = add_page(*opened->store, org->id, query, rows);
        if (!added) return tl::unexpected(added.error());
        is_more = *added;
    }
    print_table(invocation.json, columns, rows);
    return {};
}

}  // namespace headgate
