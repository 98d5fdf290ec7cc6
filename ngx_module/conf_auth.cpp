// Directives of authentication: parse, merge, check.
#include "ngx_module/conf_auth.h"

#include <algorithm>

#include "common/api_key.h"
#include "common/limits.h"
#include "common/scopes.h"
#include "ngx_module/conf.h"

namespace headgate::edge {

char* parse_pepper(ngx_conf_t* cf, MainConf* conf) {
    if (conf->pepper != nullptr) {
        return conf_fail(cf, "is duplicate");
    }
    const auto text = read_secret(cf, arguments(cf)[0]);
    if (!text) {
        return kConfError;
    }
    const std::string_view secret = secret_file_value(*text);
    if (secret.size() < limits::kSecretBytesMin) {
        return conf_fail(cf, "the pepper in \"%V\" is shorter than %uz bytes", &arguments(cf)[0],
                         limits::kSecretBytesMin);
    }
    conf->pepper = std::make_unique<HmacSha256Key>(secret);
    conf->pepper_fingerprint = pepper_fingerprint(*conf->pepper);
    return kConfOk;
}

char* parse_auth(ngx_conf_t* cf, LocConf* conf) {
    if (conf->auth.kinds != NGX_CONF_UNSET_UINT) {
        return conf_fail(cf, "is duplicate");
    }
    ngx_uint_t kinds = 0;
    for (ngx_str_t& argument : arguments(cf)) {
        const std::string_view word = view(argument);
        ngx_uint_t kind = 0;
        kind = word == "off" ? kAuthOff : kind;
        kind = word == "jwt" ? kAuthJwt : kind;
        kind = word == "api_key" ? kAuthApiKey : kind;
        if (kind == 0 || (kinds & kind) != 0) {
            return conf_fail(cf, "invalid value \"%V\": off, jwt, api_key or \"jwt api_key\"", &argument);
        }
        kinds |= kind;
    }
    if ((kinds & kAuthOff) != 0 && kinds != kAuthOff) {
        return conf_fail(cf, "\"off\" stands alone");
    }
    conf->auth.kinds = kinds;
    conf->auth.place = place_of(cf);
    return kConfOk;
}

char* parse_realm(ngx_conf_t* cf, LocConf* conf) {
    if (conf->auth.realm.data != nullptr) {
        return conf_fail(cf, "is duplicate");
    }
    conf->auth.realm = arguments(cf)[0];
    const std::string_view realm = view(conf->auth.realm);
    if (realm.find_first_of("\"\\") != std::string_view::npos ||
        std::any_of(realm.begin(), realm.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; })) {
        return conf_fail(cf, "a realm has no quotes, backslashes or control characters");
    }
    return kConfOk;
}

char* parse_require_scope(ngx_conf_t* cf, LocConf* conf) {
    if (conf->auth.require_scopes != nullptr) {
        return conf_fail(cf, "is duplicate");
    }
    auto* scopes = list_in_pool(cf, conf->auth.require_scopes);
    for (ngx_str_t& argument : arguments(cf)) {
        if (!scope_is_valid(view(argument))) {
            return conf_fail(cf, "invalid scope \"%V\"", &argument);
        }
        scopes->emplace_back(view(argument));
    }
    return kConfOk;
}

char* parse_jwt_key_file(ngx_conf_t* cf, LocConf* conf) {
    auto source = std::make_unique<JwtSource>();
    std::optional<JwtAlgorithm> algorithm;
    for (ngx_str_t& argument : arguments(cf).subspan(1)) {
        if (const auto value = parameter(argument, "alg")) {
            if (!parse_jwt_algorithm(*value, algorithm.emplace())) {
                return conf_fail(cf, "unknown algorithm in \"%V\"", &argument);
            }
        } else if (const auto value = parameter(argument, "issuer"); value && !value->empty()) {
            source->issuer = *value;
        } else if (const auto value = parameter(argument, "org"); value && !value->empty()) {
            if (value->starts_with("claim:")) {
                source->org_claim = value->substr(6);
            } else {
                source->org_fixed = *value;
            }
        } else if (const auto value = parameter(argument, "scopes"); value && !value->empty()) {
            source->scope_ceiling = *value;
        } else {
            return conf_fail(cf, "invalid parameter \"%V\"", &argument);
        }
    }
    const auto text = read_secret(cf, arguments(cf)[0]);
    if (!text) {
        return kConfError;
    }
    auto keys = key_set_from_file(*text, algorithm);
    if (!keys) {
        return conf_fail(cf, "key file \"%V\": %s", &arguments(cf)[0], keys.error().message.c_str());
    }
    for (const std::string& reason : keys->skipped) {
        ngx_conf_log_error(NGX_LOG_WARN, cf, 0, "key file \"%V\": left out: %s", &arguments(cf)[0], reason.c_str());
    }
    source->keys = std::move(*keys);
    list_in_pool(cf, conf->auth.jwt_sources)->push_back(std::move(source));
    return kConfOk;
}

char* merge_auth(ngx_conf_t* cf, const AuthConf& prev, AuthConf& conf) {
    if (conf.kinds == NGX_CONF_UNSET_UINT) {
        conf.kinds = prev.kinds;
        conf.place = prev.place;
    }
    ngx_conf_merge_uint_value(conf.kinds, prev.kinds, kAuthOff);
    ngx_conf_merge_str_value(conf.realm, prev.realm, "headgate");
    conf.require_scopes = conf.require_scopes != nullptr ? conf.require_scopes : prev.require_scopes;
    conf.jwt_sources = conf.jwt_sources != nullptr ? conf.jwt_sources : prev.jwt_sources;
    if (conf.jwt_sources != nullptr) {
        for (const auto& source : *conf.jwt_sources) {
            conf.jwt_source_views.push_back(source.get());
        }
    }
    if ((conf.kinds & kAuthJwt) != 0 && conf.jwt_source_views.empty()) {
        return conf_fail_at(cf, conf.place, "\"headgate_auth jwt\" needs a \"headgate_jwt_key_file\"");
    }
    if ((conf.kinds & kAuthApiKey) != 0 && main_conf_of(cf)->pepper == nullptr) {
        return conf_fail_at(cf, conf.place, "\"headgate_auth api_key\" needs \"headgate_api_key_pepper_file\"");
    }
    return kConfOk;
}

}  // namespace headgate::edge
