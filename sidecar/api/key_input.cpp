// Checking and making API keys; see key_input.h.
#include "sidecar/api/key_input.h"

#include "common/event_id.h"
#include "common/event_record.h"
#include "common/ip_network.h"
#include "common/limits.h"
#include "common/rfc3339.h"
#include "common/scopes.h"
#include "sidecar/base/text.h"

namespace headgate {
namespace {

constexpr std::size_t kNameBytesMax = 128;
constexpr std::size_t kPlanBytesMax = 64;

bool plan_is_valid(std::string_view plan) {
    if (plan.empty() || plan.size() > kPlanBytesMax) return false;
    return plan.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.") ==
           std::string_view::npos;
}

void check_scopes(const std::vector<std::string>& scopes, std::vector<FieldError>& errors) {
    if (scopes.empty() || scopes.size() > limits::kScopesMax)
        errors.push_back(
            {{"body", "scopes"}, "scopes must have 1 to " + std::to_string(limits::kScopesMax) + " of them"});
    for (const auto& scope : scopes)
        if (scope.size() > limits::kScopeBytesMax || !scope_is_valid(scope))
            errors.push_back(
                {{"body", "scopes"}, "\"" + scope + "\" is no scope; write admin, or such as events:write"});
}

void check_networks(const std::vector<std::string>& networks, std::vector<FieldError>& errors) {
    if (networks.size() > limits::kAllowedIpsMax)
        errors.push_back({{"body", "allowed_ips"},
                          "allowed_ips has more than " + std::to_string(limits::kAllowedIpsMax) + " of them"});
    for (const auto& network : networks)
        if (!parse_network(network))
            errors.push_back({{"body", "allowed_ips"}, "\"" + network + "\" is neither an address nor address/prefix"});
}

void read_expiry(std::string_view text, TimeMs now, KeyInput& input) {
    if (text.empty()) return;
    std::optional<TimeMs> expires = rfc3339_parse(text);
    if (!expires)
        if (auto duration = parse_duration_ms(text)) expires = now + *duration;
    if (!expires || *expires <= now) {
        input.errors.push_back({{"body", "expires_at"},
                                "expires_at must be a time to come, such as "
                                "2030-01-01T00:00:00Z, or a duration such as 90d"});
        return;
    }
    input.key.expires_at = expires;
}

}  // namespace

KeyInput read_key(const KeyDescription& description, std::string_view org, const HmacSha256Key& pepper, TimeMs now) {
    KeyInput input;
    ApiKey& key = input.key;
    if (description.name.empty() || description.name.size() > kNameBytesMax || has_control_characters(description.name))
        input.errors.push_back(
            {{"body", "name"},
             "name must have 1 to " + std::to_string(kNameBytesMax) + " bytes and no control characters"});
    auto scopes = split_list(description.scopes);
    check_scopes(scopes, input.errors);
    auto networks = split_list(description.allowed_ips);
    check_networks(networks, input.errors);
    if (!plan_is_valid(description.plan))
        input.errors.push_back({{"body", "plan"}, "plan must be a name, such as free"});
    read_expiry(description.expires, now, input);
    if (!input.errors.empty()) return input;
    NewApiKey made = make_api_key();
    key.id = uuid7(now);
    key.key_hash = api_key_hash(pepper, made.text);
    key.key_prefix = made.prefix;
    key.org = org;
    key.name = description.name;
    key.scopes = join(scopes, " ");
    key.allowed_ips = join(networks, " ");
    key.plan = description.plan;
    key.created_at = key.updated_at = now;
    input.api_key = std::move(made.text);
    return input;
}

}  // namespace headgate
