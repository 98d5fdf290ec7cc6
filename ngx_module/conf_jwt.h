// Tokens as they are configured for a location: key sources, policy, what is asked of claims.
#pragma once

#include <array>
#include <memory>

#include "common/jwt.h"
#include "ngx_module/conf_tools.h"

namespace headgate::edge {

struct MainConf;
struct LocConf;
struct AuthConf;

using KeyDigest = std::array<unsigned char, 32>;

inline constexpr std::size_t kRemoteKeysMax = 16;  // of one nginx

// A JWKS that is fetched by a subrequest. One for each pair of server and URI, whoever names it.
struct RemoteKeys {
    std::size_t index = 0;  // among MainConf::remote_keys
    const ngx_http_core_srv_conf_t* server = nullptr;
    std::string named;  // as the directive has it
    std::string uri, args;
    std::string shown;     // for logs: the URI and the server's place
    KeyDigest identity{};  // of its slot in the zone: of the URI and the server's addresses and names
};

// One headgate_jwt_key_file or headgate_jwt_key_request.
struct JwtKeySource {
    JwtSource source;  // of a remote one: everything but the keys
    std::string uri;   // empty: a file
    bool has_algorithm = false;
    JwtAlgorithm algorithm{};  // restricts remote keys
};

// What verify_jwt() takes, and a digest of all of it: the same token under the same digest has the same outcome, but
// for time. What caches verdicts puts the digest into its key.
struct TokenKeys {
    std::vector<const JwtSource*> sources;
    KeyDigest digest{};
};

struct JwtRequirement {
    std::vector<ngx_http_complex_value_t*> values;  // every one of them non-empty and not "0"
    ngx_uint_t status;
};

struct JwtConf {
    std::vector<std::unique_ptr<JwtKeySource>>* sources = nullptr;  // nullptr: not set at this level
    std::vector<JwtAlgorithm>* algorithms = nullptr;
    DirectivePlace algorithms_place;
    std::vector<std::string>* audiences = nullptr;
    std::vector<JwtRequirement>* requirements = nullptr;
    time_t leeway_seconds = NGX_CONF_UNSET;
    time_t key_cache_seconds = NGX_CONF_UNSET;

    // Made when levels are merged.
    JwtPolicy policy;
    TokenKeys keys;                          // when all are files
    std::vector<const RemoteKeys*> remotes;  // one for each of `sources`, nullptr for a file; empty when all are files
};

char* parse_jwt_key_file(ngx_conf_t* cf, LocConf* conf);
char* parse_jwt_key_request(ngx_conf_t* cf, LocConf* conf);
char* parse_jwt_algorithms(ngx_conf_t* cf, LocConf* conf);
char* parse_jwt_audience(ngx_conf_t* cf, LocConf* conf);
char* parse_jwt_leeway(ngx_conf_t* cf, LocConf* conf);
char* parse_jwt_key_cache(ngx_conf_t* cf, LocConf* conf);
char* parse_jwt_require(ngx_conf_t* cf, LocConf* conf);
char* parse_jwt_claim_set(ngx_conf_t* cf, MainConf* conf);

// `tokens`: the location accepts tokens, so what is configured must work.
char* merge_jwt(ngx_conf_t* cf, const JwtConf& prev, JwtConf& conf, bool tokens, const DirectivePlace& auth_place);

// The digest of TokenKeys::sources under a policy.
[[nodiscard]] KeyDigest token_keys_digest(const std::vector<const JwtSource*>& sources, const JwtPolicy& policy);

}  // namespace headgate::edge
