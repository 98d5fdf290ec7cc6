// Directives of tokens: parse, merge, check.
#include "ngx_module/conf_jwt.h"

#include <algorithm>
#include <set>

#include "common/limits.h"
#include "common/scopes.h"
#include "ngx_module/claims.h"
#include "ngx_module/conf.h"
#include "ngx_module/jwks_schedule.h"
#include "ngx_module/revocations.h"

namespace headgate::edge {

namespace {

constexpr std::size_t kSourcesMax = 8;  // of one location
constexpr std::string_view kOwnIssuer = "headgate";
constexpr time_t kLeewaySecondsMax = 24 * 3600;
static_assert(kLeewaySecondsMax * 1000 <= RevocationTable::kKeptMs);

bool is_symmetric(JwtAlgorithm algorithm) noexcept {
    return algorithm == JwtAlgorithm::kHs256 || algorithm == JwtAlgorithm::kHs384 || algorithm == JwtAlgorithm::kHs512;
}

bool is_secret(const KeySet& keys) noexcept {
    return std::any_of(keys.keys.begin(), keys.keys.end(), [](const VerificationKey& key) {
        return key.algorithms.contains(JwtAlgorithm::kHs256) || key.algorithms.contains(JwtAlgorithm::kHs384) ||
               key.algorithms.contains(JwtAlgorithm::kHs512);
    });
}

// The ceiling: scopes separated by spaces.
bool scopes_are_valid(std::string_view list) noexcept {
    while (!list.empty()) {
        const std::size_t end = std::min(list.find(' '), list.size());
        if (!scope_is_valid(list.substr(0, end))) {
            return false;
        }
        list.remove_prefix(std::min(end + 1, list.size()));
    }
    return true;
}

// What key files and key requests have in common: everything after the path or URI.
char* parse_source_parameters(ngx_conf_t* cf, JwtKeySource& key_source) {
    JwtSource& source = key_source.source;
    bool has_org = false;
    bool has_scopes = false;
    for (ngx_str_t& argument : arguments(cf).subspan(1)) {
        if (const auto alg = parameter(argument, "alg")) {
            key_source.has_algorithm = parse_jwt_algorithm(*alg, key_source.algorithm);
            if (!key_source.has_algorithm) {
                return conf_fail(cf, "unknown algorithm in \"%V\"", &argument);
            }
        } else if (const auto issuer = parameter(argument, "issuer"); issuer && !issuer->empty()) {
            source.issuer = *issuer;
        } else if (const auto org = parameter(argument, "org"); org && !org->empty() && *org != "claim:") {
            has_org = true;
            if (org->starts_with("claim:")) {
                source.org_claim = org->substr(6);
            } else if (org->size() > limits::kOrgIdBytesMax) {
                return conf_fail(cf, "an organization's id has at most %uz bytes", limits::kOrgIdBytesMax);
            } else {
                source.org_fixed = *org;
            }
        } else if (const auto scopes = parameter(argument, "scopes"); scopes && !scopes->empty()) {
            has_scopes = true;
            source.scope_ceiling = *scopes;
            if (!scopes_are_valid(*scopes)) {
                return conf_fail(cf, "invalid scopes in \"%V\"", &argument);
            }
        } else {
            return conf_fail(cf, "invalid parameter \"%V\"", &argument);
        }
    }
    if (source.issuer != kOwnIssuer && (!has_org || !has_scopes)) {
        return conf_fail(cf,
                         "issuer \"%s\" is not our own: say \"org=\" (whose its tokens are) and \"scopes=\" (the most "
                         "that they may do)",
                         source.issuer.c_str());
    }
    return kConfOk;
}

char* add_source(ngx_conf_t* cf, JwtConf& conf, std::unique_ptr<JwtKeySource> source) {
    auto* sources = list_in_pool(cf, conf.sources);
    if (sources->size() == kSourcesMax) {
        return conf_fail(cf, "more than %uz key sources", kSourcesMax);
    }
    sources->push_back(std::move(source));
    return kConfOk;
}

bool some_key_serves(const JwtConf& conf, JwtAlgorithm algorithm) noexcept {
    return std::any_of(conf.sources->begin(), conf.sources->end(), [algorithm](const auto& source) {
        if (!source->uri.empty()) {
            return source->has_algorithm ? source->algorithm == algorithm : !is_symmetric(algorithm);
        }
        const auto& keys = source->source.keys.keys;
        return std::any_of(keys.begin(), keys.end(),
                           [algorithm](const VerificationKey& key) { return key.algorithms.contains(algorithm); });
    });
}

void append_part(std::string& text, std::string_view part) {
    text.append(std::to_string(part.size())).append(":").append(part);
}

bool listens(const ngx_http_conf_addr_t& address, const ngx_http_core_srv_conf_t* server) noexcept {
    auto* const* servers = static_cast<ngx_http_core_srv_conf_t**>(address.servers.elts);
    return std::find(servers, servers + address.servers.nelts, server) != servers + address.servers.nelts;
}

// What a server is known by from outside, in whatever order it is written: addresses and names. Not its place in a
// file, which any edit above it changes.
std::string server_identity(const ngx_http_core_main_conf_t& core, const ngx_http_core_srv_conf_t* server) {
    std::set<std::string_view> addresses, names;
    const auto* ports = core.ports == nullptr ? nullptr : static_cast<ngx_http_conf_port_t*>(core.ports->elts);
    for (ngx_uint_t i = 0; ports != nullptr && i < core.ports->nelts; ++i) {
        const auto* on_port = static_cast<ngx_http_conf_addr_t*>(ports[i].addrs.elts);
        for (ngx_uint_t k = 0; k < ports[i].addrs.nelts; ++k) {
            if (listens(on_port[k], server)) {
                addresses.insert(view(on_port[k].opt.addr_text));
            }
        }
    }
    const auto* server_names = static_cast<ngx_http_server_name_t*>(server->server_names.elts);
    for (ngx_uint_t i = 0; i < server->server_names.nelts; ++i) {
        names.insert(view(server_names[i].name));
    }
    std::string text;
    for (const auto* list : {&addresses, &names}) {
        for (const std::string_view part : *list) {
            append_part(text, part);
        }
        text += ';';
    }
    return text;
}

// The server that is being merged decides what the URI leads to. Of servers that are known by the same addresses and
// names nginx uses the first, but for requests of a default server: they are told apart by their order.
const RemoteKeys* remote_keys(ngx_conf_t* cf, const JwtKeySource& source) {
    const auto* core =
        static_cast<ngx_http_core_main_conf_t*>(ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module));
    const auto* server =
        static_cast<ngx_http_core_srv_conf_t*>(ngx_http_conf_get_module_srv_conf(cf, ngx_http_core_module));
    auto& all = main_conf_of(cf)->remote_keys;
    for (const auto& known : all) {
        if (known->server == server && known->named == source.uri) {
            return known.get();
        }
    }
    std::string identity_text = server_identity(*core, server);
    std::size_t before = 0;
    auto* const* servers = static_cast<ngx_http_core_srv_conf_t**>(core->servers.elts);
    for (ngx_uint_t i = 0; i < core->servers.nelts && servers[i] != server; ++i) {
        before += server_identity(*core, servers[i]) == identity_text ? 1 : 0;
    }
    append_part(identity_text, std::to_string(before));
    append_part(identity_text, source.uri);
    auto made = std::make_unique<RemoteKeys>();
    const std::size_t question_mark = std::min(source.uri.find('?'), source.uri.size());
    made->index = all.size();
    made->server = server;
    made->named = source.uri;
    made->uri = source.uri.substr(0, question_mark);
    made->args = source.uri.substr(std::min(question_mark + 1, source.uri.size()));
    made->shown = source.uri;
    if (server->file_name != nullptr) {
        made->shown.append(" of the server at ").append(reinterpret_cast<const char*>(server->file_name));
        made->shown.append(":").append(std::to_string(server->line));
    }
    made->identity = sha256(identity_text);
    all.push_back(std::move(made));
    return all.back().get();
}

}  // namespace

char* parse_jwt_key_file(ngx_conf_t* cf, LocConf* conf) {
    ngx_str_t& name = arguments(cf)[0];
    auto source = std::make_unique<JwtKeySource>();
    if (char* rv = parse_source_parameters(cf, *source); rv != kConfOk) {
        return rv;
    }
    bool is_private = false;
    const auto text = read_key_file(cf, name, is_private);
    if (!text) {
        return kConfError;
    }
    auto keys =
        key_set_from_file(*text, source->has_algorithm ? std::optional<JwtAlgorithm>(source->algorithm) : std::nullopt);
    if (!keys) {
        const std::string wanted =
            source->has_algorithm ? " (alg=" + std::string(jwt_algorithm_name(source->algorithm)) + ")" : std::string();
        return conf_fail(cf, "key file \"%V\": %s%s", &name, keys.error().message.c_str(), wanted.c_str());
    }
    if (is_secret(*keys) && !is_private) {
        return conf_fail(cf, "key file \"%V\" holds a secret and is open to others than its owner: chmod 600 it",
                         &name);
    }
    for (const std::string& line : keys->skipped) {
        ngx_conf_log_error(NGX_LOG_WARN, cf, 0, "key file \"%V\": %s", &name, line.c_str());
    }
    source->source.keys = std::move(*keys);
    return add_source(cf, conf->auth.jwt, std::move(source));
}

char* parse_jwt_key_request(ngx_conf_t* cf, LocConf* conf) {
    ngx_str_t& uri = arguments(cf)[0];
    if (uri.len == 0 || uri.data[0] != '/' || view(uri).find('$') != std::string_view::npos) {
        return conf_fail(cf, "invalid URI \"%V\": the path of a location, without variables", &uri);
    }
    auto source = std::make_unique<JwtKeySource>();
    source->uri = view(uri);
    if (char* rv = parse_source_parameters(cf, *source); rv != kConfOk) {
        return rv;
    }
    if (source->has_algorithm && is_symmetric(source->algorithm)) {
        return conf_fail(cf, "a secret that comes over the network is none: use \"headgate_jwt_key_file\"");
    }
    return add_source(cf, conf->auth.jwt, std::move(source));
}

char* parse_jwt_algorithms(ngx_conf_t* cf, LocConf* conf) {
    if (conf->auth.jwt.algorithms != nullptr) {
        return conf_fail(cf, "is duplicate");
    }
    auto* algorithms = list_in_pool(cf, conf->auth.jwt.algorithms);
    conf->auth.jwt.algorithms_place = place_of(cf);
    for (ngx_str_t& argument : arguments(cf)) {
        JwtAlgorithm algorithm{};
        if (!parse_jwt_algorithm(view(argument), algorithm)) {
            return conf_fail(cf, "unknown algorithm \"%V\"", &argument);
        }
        algorithms->push_back(algorithm);
    }
    return kConfOk;
}

char* parse_jwt_audience(ngx_conf_t* cf, LocConf* conf) {
    if (conf->auth.jwt.audiences != nullptr) {
        return conf_fail(cf, "is duplicate");
    }
    auto* audiences = list_in_pool(cf, conf->auth.jwt.audiences);
    for (ngx_str_t& argument : arguments(cf)) {
        if (argument.len == 0) {
            return conf_fail(cf, "an audience is not empty");
        }
        audiences->emplace_back(view(argument));
    }
    return kConfOk;
}

namespace {

char* parse_seconds(ngx_conf_t* cf, time_t& out, time_t min, time_t max) {
    if (out != NGX_CONF_UNSET) {
        return conf_fail(cf, "is duplicate");
    }
    ngx_str_t& argument = arguments(cf)[0];
    out = static_cast<time_t>(ngx_parse_time(&argument, 1));
    if (out == static_cast<time_t>(NGX_ERROR) || out < min || out > max) {
        return conf_fail(cf, "invalid time \"%V\": %T to %T seconds", &argument, min, max);
    }
    return kConfOk;
}

}  // namespace

char* parse_jwt_leeway(ngx_conf_t* cf, LocConf* conf) {
    return parse_seconds(cf, conf->auth.jwt.leeway_seconds, 0, kLeewaySecondsMax);
}

char* parse_jwt_key_cache(ngx_conf_t* cf, LocConf* conf) {
    return parse_seconds(cf, conf->auth.jwt.key_cache_seconds, 1, kKeysStaleMsMax / 1000);
}

char* parse_jwt_require(ngx_conf_t* cf, LocConf* conf) {
    JwtRequirement requirement{{}, NGX_HTTP_UNAUTHORIZED};
    for (ngx_str_t& argument : arguments(cf)) {
        if (const auto error = parameter(argument, "error")) {
            if (*error != "401" && *error != "403") {
                return conf_fail(cf, "invalid \"%V\": 401 or 403", &argument);
            }
            requirement.status = *error == "401" ? NGX_HTTP_UNAUTHORIZED : NGX_HTTP_FORBIDDEN;
        } else if (argument.len < 2 || argument.data[0] != '$') {
            return conf_fail(cf, "\"%V\" is no variable", &argument);
        } else {
            requirement.values.push_back(compile_value(cf, view(argument)));
            if (requirement.values.back() == nullptr) {
                return kConfError;
            }
        }
    }
    if (requirement.values.empty()) {
        return conf_fail(cf, "\"headgate_jwt_require\" names no variable");
    }
    list_in_pool(cf, conf->auth.jwt.requirements)->push_back(std::move(requirement));
    return kConfOk;
}

char* parse_jwt_claim_set(ngx_conf_t* cf, MainConf*) {
    const auto values = arguments(cf);
    if (values[0].len < 2 || values[0].data[0] != '$') {
        return conf_fail(cf, "\"%V\" is no variable", &values[0]);
    }
    ngx_str_t name{values[0].len - 1, values[0].data + 1};
    return add_claim_variable(cf, name, values.subspan(1)) ? kConfOk : kConfError;
}

KeyDigest token_keys_digest(const std::vector<const JwtSource*>& sources, const JwtPolicy& policy) {
    std::string text;
    for (const JwtSource* source : sources) {
        const KeyDigest keys = key_set_digest(source->keys);
        append_part(text, {reinterpret_cast<const char*>(keys.data()), keys.size()});
        for (const std::string* part :
             {&source->issuer, &source->org_fixed, &source->org_claim, &source->scope_ceiling}) {
            append_part(text, *part);
        }
    }
    append_part(text, "algorithms");
    for (const JwtAlgorithm algorithm : policy.algorithms) {
        append_part(text, jwt_algorithm_name(algorithm));
    }
    append_part(text, "audiences");
    for (const std::string& audience : policy.audiences) {
        append_part(text, audience);
    }
    append_part(text, std::to_string(policy.leeway_seconds));
    return sha256(text);
}

char* merge_jwt(ngx_conf_t* cf, const JwtConf& prev, JwtConf& conf, bool tokens, const DirectivePlace& auth_place) {
    conf.sources = conf.sources != nullptr ? conf.sources : prev.sources;
    if (conf.algorithms == nullptr) {
        conf.algorithms = prev.algorithms;
        conf.algorithms_place = prev.algorithms_place;
    }
    conf.audiences = conf.audiences != nullptr ? conf.audiences : prev.audiences;
    conf.requirements = conf.requirements != nullptr ? conf.requirements : prev.requirements;
    ngx_conf_merge_sec_value(conf.leeway_seconds, prev.leeway_seconds, 0);
    ngx_conf_merge_sec_value(conf.key_cache_seconds, prev.key_cache_seconds, 600);
    if (!tokens) {
        return kConfOk;
    }
    if (conf.sources == nullptr) {
        return conf_fail_at(cf, auth_place,
                            "\"headgate_auth jwt\" needs a \"headgate_jwt_key_file\" or \"headgate_jwt_key_request\"");
    }
    if (conf.algorithms != nullptr) {
        for (const JwtAlgorithm algorithm : *conf.algorithms) {
            if (!some_key_serves(conf, algorithm)) {
                const std::string name(jwt_algorithm_name(algorithm));
                return conf_fail_at(cf, conf.algorithms_place,
                                    "no key of this location can serve algorithm \"%s\" of \"headgate_jwt_algorithms\"",
                                    name.c_str());
            }
        }
        conf.policy.algorithms = *conf.algorithms;
    }
    if (conf.audiences != nullptr) {
        conf.policy.audiences = *conf.audiences;
    }
    conf.policy.leeway_seconds = conf.leeway_seconds;
    bool has_remote = false;
    for (const auto& source : *conf.sources) {
        conf.keys.sources.push_back(&source->source);
        conf.remotes.push_back(source->uri.empty() ? nullptr : remote_keys(cf, *source));
        has_remote = has_remote || conf.remotes.back() != nullptr;
    }
    conf.keys.digest = token_keys_digest(conf.keys.sources, conf.policy);
    if (!has_remote) {
        conf.remotes.clear();
    }
    if (main_conf_of(cf)->remote_keys.size() > kRemoteKeysMax) {
        return conf_fail_at(cf, auth_place, "more than %uz different \"headgate_jwt_key_request\"", kRemoteKeysMax);
    }
    return kConfOk;
}

}  // namespace headgate::edge
