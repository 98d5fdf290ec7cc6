// Directives of authentication: parse, merge, check.
#include "ngx_module/conf_auth.h"

#include <algorithm>

#include "common/api_key.h"
#include "common/limits.h"
#include "common/scopes.h"
#include "ngx_module/conf.h"

namespace headgate::edge {

namespace {

// A healthy Redis is heard once a second; a shorter time would lock everybody out between two of its replies.
constexpr ngx_msec_t kStaleMsMin = 2000;
constexpr ngx_msec_t kStaleMsDefault = 30'000;

// nullptr: the error has been logged.
std::unique_ptr<HmacSha256Key> read_pepper(ngx_conf_t* cf, ngx_str_t file) {
    const auto text = read_secret(cf, file);
    if (!text) {
        return nullptr;
    }
    const std::string_view secret = secret_file_value(*text);
    if (secret.size() < limits::kSecretBytesMin) {
        conf_fail(cf, "the pepper in \"%V\" is shorter than %uz bytes", &file, limits::kSecretBytesMin);
        return nullptr;
    }
    return std::make_unique<HmacSha256Key>(secret);
}

// Appends with its length, so that no two lists of texts look alike.
void append_text(std::string& out, std::string_view text) {
    const std::uint64_t bytes = text.size();
    out.append(reinterpret_cast<const char*>(&bytes), sizeof bytes).append(text);
}

}  // namespace

char* parse_pepper(ngx_conf_t* cf, MainConf* conf) {
    if (conf->pepper != nullptr) {
        return conf_fail(cf, "is duplicate");
    }
    if (conf->pepper = read_pepper(cf, arguments(cf)[0]); conf->pepper == nullptr) {
        return kConfError;
    }
    conf->pepper_fingerprint = pepper_fingerprint(*conf->pepper);
    for (ngx_str_t& argument : arguments(cf).subspan(1)) {
        const auto file = parameter(argument, "previous");
        if (!file || file->empty() || conf->previous_pepper != nullptr) {
            return conf_fail(cf, "invalid parameter \"%V\"", &argument);
        }
        ngx_str_t name{};
        if (conf->previous_pepper = read_pepper(cf, *as_ngx_str(name, *file)); conf->previous_pepper == nullptr) {
            return kConfError;
        }
        conf->previous_pepper_fingerprint = pepper_fingerprint(*conf->previous_pepper);
    }
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

char* parse_auth_stale(ngx_conf_t* cf, LocConf* conf) {
    if (conf->auth.stale_ms != NGX_CONF_UNSET_MSEC) {
        return conf_fail(cf, "is duplicate");
    }
    if (!parse_msec(view(arguments(cf)[0]), conf->auth.stale_ms) || conf->auth.stale_ms < kStaleMsMin) {
        return conf_fail(cf, "invalid time \"%V\": at least 2s", &arguments(cf)[0]);
    }
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

Sha256Digest verification_digest(const std::vector<const JwtSource*>& sources, const JwtPolicy& policy) {
    std::string text;
    for (const JwtSource* source : sources) {
        append_text(text, "source");
        append_text(text, source->issuer);
        append_text(text, source->org_fixed);
        append_text(text, source->org_claim);
        append_text(text, source->scope_ceiling);
        append_text(text, hex_encode(key_set_digest(source->keys)));
    }
    append_text(text, "policy");
    for (const JwtAlgorithm algorithm : policy.algorithms) {
        append_text(text, jwt_algorithm_name(algorithm));
    }
    append_text(text, "audiences");
    for (const std::string& audience : policy.audiences) {
        append_text(text, audience);
    }
    append_text(text, "leeway");
    append_text(text, std::to_string(policy.leeway_seconds));
    return sha256(text);
}

char* merge_auth(ngx_conf_t* cf, const AuthConf& prev, AuthConf& conf) {
    if (conf.kinds == NGX_CONF_UNSET_UINT) {
        conf.kinds = prev.kinds;
        conf.place = prev.place;
    }
    ngx_conf_merge_uint_value(conf.kinds, prev.kinds, kAuthOff);
    ngx_conf_merge_str_value(conf.realm, prev.realm, "headgate");
    ngx_conf_merge_msec_value(conf.stale_ms, prev.stale_ms, kStaleMsDefault);
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
    conf.digest = verification_digest(conf.jwt_source_views, conf.jwt_policy);
    if ((conf.kinds & kAuthApiKey) != 0 && main_conf_of(cf)->pepper == nullptr) {
        return conf_fail_at(cf, conf.place, "\"headgate_auth api_key\" needs \"headgate_api_key_pepper_file\"");
    }
    return kConfOk;
}

}  // namespace headgate::edge
