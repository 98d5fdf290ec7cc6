// See token_keys.h.
#include "ngx_module/token_keys.h"

#include <algorithm>

#include "ngx_module/worker.h"
#include "ngx_module/zone.h"

namespace headgate::edge {

KeyStore::KeyStore(const MainConf& conf, ZoneShared* shared, ngx_log_t* log) : shared_(shared), log_(log) {
    for (const auto& remote : conf.remote_keys) {
        sets_.push_back({remote.get(), {}, 0, 0, {}});
    }
}

void KeyStore::parse(RemoteSet& set, const std::string& text) {
    auto keys = key_set_from_jwks(text, SymmetricKeys::kRefuse);
    if (!keys) {
        // Whoever fetched it could read it.
        ngx_log_error(NGX_LOG_ALERT, log_, 0, "headgate: keys of %s: %s", set.remote->shown.c_str(),
                      keys.error().message.c_str());
        return;
    }
    set.keys = std::move(*keys);
    ++version_;
}

void KeyStore::refresh() {
    const auto now = static_cast<std::int64_t>(ngx_current_msec);
    const ngx_atomic_uint_t revision = shared_->jwks.revision;
    if (!seen_ || revision != seen_revision_) {
        for (RemoteSet& set : sets_) {
            std::string text;
            text.reserve(limits::kKeySetBytesMax);  // nothing may throw under the lock
            bool is_new = false;
            {
                ZoneLock lock(shared_->pool);
                if (const JwksSlot* slot = shared_->jwks.find(set.remote->identity); slot != nullptr) {
                    set.schedule = slot->schedule;
                    set.settled = slot->settled;
                    is_new = slot->generation != set.generation;
                    set.generation = slot->generation;
                    if (is_new) {
                        text.assign(reinterpret_cast<const char*>(slot->text), slot->text_bytes);
                    }
                }
            }
            if (is_new) {
                parse(set, text);
            }
        }
        seen_ = true;  // not before: what throws is tried again
        seen_revision_ = revision;
    }
    for (RemoteSet& set : sets_) {
        if (!set.keys.keys.empty() && !set.schedule.usable(now)) {
            set.keys = {};
            set.generation = 0;  // the same text counts again once it has been fetched again
            ++version_;
        }
    }
}

void KeyStore::assemble(const JwtConf& conf, Assembled& assembled) {
    if (assembled.keys.sources.empty()) {
        for (std::size_t i = 0; i < conf.remotes.size(); ++i) {
            const JwtSource* source = conf.keys.sources[i];
            if (conf.remotes[i] != nullptr) {
                assembled.remote_sources.push_back(std::make_unique<JwtSource>(*source));
                source = assembled.remote_sources.back().get();
            }
            assembled.keys.sources.push_back(source);
        }
    }
    std::size_t next = 0;
    for (std::size_t i = 0; i < conf.remotes.size(); ++i) {
        if (conf.remotes[i] == nullptr) {
            continue;
        }
        KeySet keys = sets_[conf.remotes[i]->index].keys;
        if (const JwtKeySource& source = *(*conf.sources)[i]; source.has_algorithm) {
            std::erase_if(keys.keys,
                          [&source](const VerificationKey& key) { return !key.algorithms.contains(source.algorithm); });
            for (VerificationKey& key : keys.keys) {
                key.algorithms = {source.algorithm};
            }
        }
        assembled.remote_sources[next++]->keys = std::move(keys);
    }
    assembled.keys.digest = token_keys_digest(assembled.keys.sources, conf.policy);
    assembled.version = version_;
}

const TokenKeys& KeyStore::keys_of(const JwtConf& conf) {
    if (conf.remotes.empty()) {
        return conf.keys;
    }
    refresh();
    Assembled& assembled = assembled_[&conf];
    if (assembled.version != version_) {
        assemble(conf, assembled);
    }
    return assembled.keys;
}

const TokenKeys& token_keys(ngx_http_request_t* r, const AuthConf& conf) {
    return conf.jwt.remotes.empty() ? conf.jwt.keys : current_worker(r).key_store().keys_of(conf.jwt);
}

}  // namespace headgate::edge
