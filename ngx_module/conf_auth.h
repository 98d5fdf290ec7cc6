// Authentication as it is configured for a location.
#pragma once

#include <memory>

#include "ngx_module/conf_jwt.h"
#include "ngx_module/conf_tools.h"

namespace headgate::edge {

struct MainConf;
struct LocConf;

enum AuthKind : ngx_uint_t { kAuthOff = 1, kAuthJwt = 2, kAuthApiKey = 4 };

// A place where a credential may be.
struct CredentialPlace {
    enum Kind : std::uint8_t {
        kHeader,  // the bare value, or `Bearer` and the value
        kBearer,  // Authorization: Bearer; another scheme is meant for somebody else
        kCookie,
        kArgument,
    };
    Kind kind;
    std::string name;  // of a header: lowercase, `_` for `-`
    ngx_uint_t kinds;  // AuthKind bits: what is looked for there
    bool operator==(const CredentialPlace& other) const noexcept { return kind == other.kind && name == other.name; }
};

struct AuthConf {
    ngx_uint_t kinds = NGX_CONF_UNSET_UINT;  // AuthKind bits
    DirectivePlace place;
    ngx_str_t realm{};
    std::vector<std::string>* require_scopes = nullptr;      // nullptr: not set at this level
    std::vector<CredentialPlace>* token_places = nullptr;    // nullptr: Authorization
    std::vector<CredentialPlace>* api_key_places = nullptr;  // nullptr: X-API-Key, and Authorization
    std::vector<CredentialPlace> places;                     // of the kinds accepted; each place once
    JwtConf jwt;
    ngx_msec_t stale_ms = NGX_CONF_UNSET_MSEC;  // how long known credentials are good while Redis is away

    [[nodiscard]] bool required() const noexcept { return (kinds & (kAuthJwt | kAuthApiKey)) != 0; }
};

char* parse_pepper(ngx_conf_t* cf, MainConf* conf);
char* parse_auth(ngx_conf_t* cf, LocConf* conf);
char* parse_auth_stale(ngx_conf_t* cf, LocConf* conf);
char* parse_realm(ngx_conf_t* cf, LocConf* conf);
char* parse_require_scope(ngx_conf_t* cf, LocConf* conf);
char* parse_token_from(ngx_conf_t* cf, LocConf* conf);
char* parse_api_key_from(ngx_conf_t* cf, LocConf* conf);

char* merge_auth(ngx_conf_t* cf, const AuthConf& prev, AuthConf& conf);

}  // namespace headgate::edge
