// The keys that tokens are verified with, as one worker has them: those of files from the configuration, those of
// remote sets as parsed from the zone. Filled by: jwks_fetch. Used by: auth_token.
#pragma once

#include <map>
#include <memory>

#include "ngx_module/conf.h"
#include "ngx_module/jwks_schedule.h"

namespace headgate::edge {

struct ZoneShared;

class KeyStore {
 public:
    KeyStore(const MainConf& conf, ZoneShared* shared, ngx_log_t* log);

    // Good until the next call. Without remote sets nothing is looked up.
    [[nodiscard]] const TokenKeys& keys_of(const JwtConf& conf);

    // Takes over what other workers have fetched, and lets go of what has become too old.
    void refresh();
    // A remote set's schedule, and how many of its fetches have ended, as of the last refresh().
    [[nodiscard]] const KeySchedule& schedule(const RemoteKeys& remote) const { return sets_[remote.index].schedule; }
    [[nodiscard]] std::uint64_t settled(const RemoteKeys& remote) const { return sets_[remote.index].settled; }

 private:
    struct RemoteSet {
        const RemoteKeys* remote;
        KeySchedule schedule;
        std::uint64_t generation = 0;  // that `keys` was parsed from
        std::uint64_t settled = 0;
        KeySet keys;  // empty: none, or too old
    };
    // A location's sources with the remote keys of `version`.
    struct Assembled {
        std::vector<std::unique_ptr<JwtSource>> remote_sources;
        TokenKeys keys;
        std::uint64_t version = 0;
    };
    void parse(RemoteSet& set, const std::string& text);
    void assemble(const JwtConf& conf, Assembled& assembled);

    ZoneShared* shared_;
    ngx_log_t* log_;
    std::vector<RemoteSet> sets_;
    std::map<const JwtConf*, Assembled> assembled_;
    std::uint64_t version_ = 1;  // raised whenever `keys` of some set change
    ngx_atomic_uint_t seen_revision_ = 0;
    bool seen_ = false;
};

// Of the location that r is in.
[[nodiscard]] const TokenKeys& token_keys(ngx_http_request_t* r, const AuthConf& conf);

}  // namespace headgate::edge
