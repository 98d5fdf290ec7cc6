// Authentication as it is configured for a location.
#pragma once

#include <memory>

#include "common/jwt.h"
#include "ngx_module/conf_tools.h"

namespace headgate::edge {

struct MainConf;
struct LocConf;

enum AuthKind : ngx_uint_t { kAuthOff = 1, kAuthJwt = 2, kAuthApiKey = 4 };

struct AuthConf {
    ngx_uint_t kinds = NGX_CONF_UNSET_UINT;  // AuthKind bits
    DirectivePlace place;
    ngx_str_t realm{};
    std::vector<std::string>* require_scopes = nullptr;  // nullptr: not set at this level
    std::vector<std::unique_ptr<JwtSource>>* jwt_sources = nullptr;
    std::vector<const JwtSource*> jwt_source_views;  // of jwt_sources, as verify_jwt() takes them
    JwtPolicy jwt_policy;
    ngx_msec_t stale_ms = NGX_CONF_UNSET_MSEC;  // how long known credentials are good while Redis is away
    // SHA-256 over all that decides how a token is verified: keys, issuers, ceilings, policy. Verified tokens are
    // remembered under it. A source whose keys change while nginx runs must make it anew with each change.
    Sha256Digest digest{};

    [[nodiscard]] bool required() const noexcept { return (kinds & (kAuthJwt | kAuthApiKey)) != 0; }
};

char* parse_pepper(ngx_conf_t* cf, MainConf* conf);
char* parse_auth(ngx_conf_t* cf, LocConf* conf);
char* parse_auth_stale(ngx_conf_t* cf, LocConf* conf);
char* parse_realm(ngx_conf_t* cf, LocConf* conf);
char* parse_require_scope(ngx_conf_t* cf, LocConf* conf);
char* parse_jwt_key_file(ngx_conf_t* cf, LocConf* conf);

// The digest of the sources and the policy as they are now; equal in every process that has read the same.
[[nodiscard]] Sha256Digest verification_digest(const std::vector<const JwtSource*>& sources, const JwtPolicy& policy);

char* merge_auth(ngx_conf_t* cf, const AuthConf& prev, AuthConf& conf);

}  // namespace headgate::edge
