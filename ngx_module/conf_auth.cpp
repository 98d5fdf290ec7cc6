// Directives of authentication: parse, merge, check.
#include "ngx_module/conf_auth.h"

#include <algorithm>

#include "common/api_key.h"
#include "common/limits.h"
#include "common/scopes.h"
#include "ngx_module/conf.h"
#include "ngx_module/credentials.h"

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

namespace {

// What names of headers, cookies and arguments are usually made of; needs no decoding anywhere.
bool is_plain_name(std::string_view name) noexcept {
    return !name.empty() && std::all_of(name.begin(), name.end(), [](unsigned char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' ||
               c == '.';
    });
}

char* parse_places(ngx_conf_t* cf, std::vector<CredentialPlace>*& list, ngx_uint_t kind) {
    if (list != nullptr) {
        return conf_fail(cf, "is duplicate");
    }
    const bool of_keys = kind == kAuthApiKey;
    list_in_pool(cf, list);
    for (ngx_str_t& argument : arguments(cf)) {
        std::string_view text = view(argument);
        CredentialPlace place{CredentialPlace::kBearer, {}, kind};
        if (text.starts_with("header:")) {
            place.kind = CredentialPlace::kHeader;
            place.name = header_place_name(text.substr(7));
            if (place.name == "authorization" && of_keys) {
                return conf_fail(cf, "\"%V\" is written \"bearer\"", &argument);
            }
            if (place.name == "authorization") {
                place = {CredentialPlace::kBearer, {}, kind};
            }
        } else if (text.starts_with("cookie:") && !of_keys) {
            place.kind = CredentialPlace::kCookie;
            place.name = text.substr(7);
        } else if (text.starts_with("arg:") && of_keys) {
            place.kind = CredentialPlace::kArgument;
            place.name = text.substr(4);
        } else if (text != "bearer" || !of_keys) {
            return conf_fail(cf, "invalid place \"%V\": %s", &argument,
                             of_keys ? "header:name, bearer or arg:name" : "header:name or cookie:name");
        }
        if (place.kind != CredentialPlace::kBearer && !is_plain_name(place.name)) {
            return conf_fail(cf, "invalid name in \"%V\"", &argument);
        }
        if (std::find(list->begin(), list->end(), place) != list->end()) {
            return conf_fail(cf, "\"%V\" is there twice", &argument);
        }
        list->push_back(std::move(place));
    }
    return kConfOk;
}

// One list of the places of all accepted kinds.
void merge_places(AuthConf& conf) {
    static const std::vector<CredentialPlace> kTokens = {{CredentialPlace::kBearer, {}, kAuthJwt}};
    static const std::vector<CredentialPlace> kKeys = {{CredentialPlace::kHeader, "x_api_key", kAuthApiKey},
                                                       {CredentialPlace::kBearer, {}, kAuthApiKey}};
    if ((conf.kinds & kAuthJwt) != 0) {
        conf.places = conf.token_places != nullptr ? *conf.token_places : kTokens;
    }
    if ((conf.kinds & kAuthApiKey) == 0) {
        return;
    }
    for (const CredentialPlace& place : conf.api_key_places != nullptr ? *conf.api_key_places : kKeys) {
        const auto same = std::find(conf.places.begin(), conf.places.end(), place);
        if (same != conf.places.end()) {
            same->kinds |= kAuthApiKey;
        } else {
            conf.places.push_back(place);
        }
    }
}

}  // namespace

char* parse_token_from(ngx_conf_t* cf, LocConf* conf) { return parse_places(cf, conf->auth.token_places, kAuthJwt); }

char* parse_api_key_from(ngx_conf_t* cf, LocConf* conf) {
    return parse_places(cf, conf->auth.api_key_places, kAuthApiKey);
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
    conf.token_places = conf.token_places != nullptr ? conf.token_places : prev.token_places;
    conf.api_key_places = conf.api_key_places != nullptr ? conf.api_key_places : prev.api_key_places;
    merge_places(conf);
    if ((conf.kinds & kAuthApiKey) != 0 && main_conf_of(cf)->pepper == nullptr) {
        return conf_fail_at(cf, conf.place, "\"headgate_auth api_key\" needs \"headgate_api_key_pepper_file\"");
    }
    return merge_jwt(cf, prev.jwt, conf.jwt, (conf.kinds & kAuthJwt) != 0, conf.place);
}

}  // namespace headgate::edge
