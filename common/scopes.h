// Scopes: a list separated by single spaces.
//
// `admin` satisfies every scope; `x:*` satisfies every `x:…`; `*:read` satisfies every `…:read`.
#pragma once

#include <string>
#include <string_view>

namespace headgate {

// Does one granted scope satisfy the required one?
[[nodiscard]] bool scope_satisfies(std::string_view granted, std::string_view required) noexcept;
// Does the granted list satisfy `required`?
[[nodiscard]] bool scopes_allow(std::string_view granted_list, std::string_view required) noexcept;
// Does the granted list satisfy every scope of the required list? An empty list is satisfied.
[[nodiscard]] bool scopes_allow_all(std::string_view granted_list, std::string_view required_list) noexcept;
// What is left of `granted_list` under a ceiling: the granted scopes that the ceiling satisfies,
// plus the ceiling's scopes that the grant satisfies (so `admin` under `events:*` is `events:*`),
// plus what `x:*` and `*:read` have in common, `x:read`. Without repetitions.
[[nodiscard]] std::string scopes_under_ceiling(std::string_view granted_list, std::string_view ceiling_list);
// `admin` or `[a-z_]+:[a-z_*]+` or `*:[a-z_]+`.
[[nodiscard]] bool scope_is_valid(std::string_view scope) noexcept;

}  // namespace headgate
