// Input: the scopes that a credential grants. Output: whether they suffice, and what is left of
// them under a ceiling. Next: auth at the edge, the sidecar's API.
#include "common/scopes.h"

#include <cstddef>

namespace headgate {

namespace {

// Takes the next scope off the front of a list; empty at its end.
std::string_view next_scope(std::string_view& list) noexcept {
    const std::size_t begin = list.find_first_not_of(' ');
    if (begin == std::string_view::npos) {
        list = {};
        return {};
    }
    const std::size_t end = list.find(' ', begin);
    const std::string_view scope =
        list.substr(begin, end == std::string_view::npos ? std::string_view::npos : end - begin);
    list.remove_prefix(begin + scope.size());
    return scope;
}

bool list_has(std::string_view list, std::string_view wanted) noexcept {
    for (auto scope = next_scope(list); !scope.empty(); scope = next_scope(list)) {
        if (scope == wanted) {
            return true;
        }
    }
    return false;
}

void add_once(std::string& list, std::string_view scope) {
    if (list_has(list, scope)) {
        return;
    }
    if (!list.empty()) {
        list += ' ';
    }
    list += scope;
}

bool covers_every_action(std::string_view scope) noexcept { return scope.size() > 2 && scope.ends_with(":*"); }
bool covers_every_resource(std::string_view scope) noexcept { return scope.size() > 2 && scope.starts_with("*:"); }

bool is_name(std::string_view text, bool star_allowed) noexcept {
    for (const char c : text) {
        if (!((c >= 'a' && c <= 'z') || c == '_' || (star_allowed && c == '*'))) {
            return false;
        }
    }
    return !text.empty();
}

}  // namespace

bool scope_satisfies(std::string_view granted, std::string_view required) noexcept {
    if (granted.empty() || required.empty()) {
        return false;
    }
    if (granted == "admin" || granted == required) {
        return true;
    }
    if (covers_every_action(granted)) {
        const std::string_view resource = granted.substr(0, granted.size() - 1);  // with its colon
        return required.size() > resource.size() && required.starts_with(resource);
    }
    if (covers_every_resource(granted)) {
        const std::string_view action = granted.substr(1);  // with its colon
        return required.size() > action.size() && required.ends_with(action);
    }
    return false;
}

bool scopes_allow(std::string_view granted_list, std::string_view required) noexcept {
    for (auto granted = next_scope(granted_list); !granted.empty(); granted = next_scope(granted_list)) {
        if (scope_satisfies(granted, required)) {
            return true;
        }
    }
    return false;
}

bool scopes_allow_all(std::string_view granted_list, std::string_view required_list) noexcept {
    for (auto required = next_scope(required_list); !required.empty(); required = next_scope(required_list)) {
        if (!scopes_allow(granted_list, required)) {
            return false;
        }
    }
    return true;
}

std::string scopes_under_ceiling(std::string_view granted_list, std::string_view ceiling_list) {
    std::string result;
    for (auto granted = next_scope(granted_list); !granted.empty(); granted = next_scope(granted_list)) {
        auto ceilings = ceiling_list;
        for (auto ceiling = next_scope(ceilings); !ceiling.empty(); ceiling = next_scope(ceilings)) {
            if (scope_satisfies(ceiling, granted)) {
                add_once(result, granted);
            } else if (scope_satisfies(granted, ceiling)) {
                add_once(result, ceiling);
            } else if (covers_every_action(granted) && covers_every_resource(ceiling)) {
                add_once(result, std::string(granted.substr(0, granted.size() - 1)).append(ceiling.substr(2)));
            } else if (covers_every_resource(granted) && covers_every_action(ceiling)) {
                add_once(result, std::string(ceiling.substr(0, ceiling.size() - 1)).append(granted.substr(2)));
            }
        }
    }
    return result;
}

bool scope_is_valid(std::string_view scope) noexcept {
    if (scope == "admin") {
        return true;
    }
    const std::size_t colon = scope.find(':');
    if (colon == std::string_view::npos) {
        return false;
    }
    const std::string_view resource = scope.substr(0, colon);
    const std::string_view action = scope.substr(colon + 1);
    return resource == "*" ? is_name(action, false) : is_name(resource, false) && is_name(action, true);
}

}  // namespace headgate
