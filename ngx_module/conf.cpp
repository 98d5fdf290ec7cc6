// The directives: create, merge, validate. What cannot work fails `nginx -t` with the file and line
// of the directive at fault. The parsers of single directives are in directives.cpp.
#include "ngx_module/conf.h"

#include <algorithm>

#include "common/limits.h"
#include "ngx_module/worker.h"

namespace headgate::edge {

const RatePlan* MainConf::find_plan(std::string_view name) const noexcept {
    const auto found =
        std::find_if(plans.begin(), plans.end(), [name](const auto& plan) { return plan->name == name; });
    return found == plans.end() ? nullptr : found->get();
}

namespace {

char* const kOk = NGX_CONF_OK;
char* const kError = static_cast<char*>(NGX_CONF_ERROR);

template <typename... Args>
char* fail_at(ngx_conf_t* cf, const DirectivePlace& place, const char* format, Args... args) noexcept {
    u_char text[NGX_MAX_CONF_ERRSTR];
    u_char* end = ngx_snprintf(text, sizeof text, format, args...);
    ngx_log_error(NGX_LOG_EMERG, cf->log, 0, "%*s in %V:%ui", static_cast<std::size_t>(end - text), text, &place.file,
                  place.line);
    return kError;
}

MainConf* main_conf_of(ngx_conf_t* cf) noexcept {
    return static_cast<MainConf*>(ngx_http_conf_get_module_main_conf(cf, ngx_http_headgate_module));
}

char* check_auth(ngx_conf_t* cf, LocConf& conf) noexcept {
    const MainConf& main = *main_conf_of(cf);
    if ((conf.auth & kAuthJwt) != 0 && (conf.jwt_sources == nullptr || conf.jwt_sources->empty())) {
        return fail_at(cf, conf.auth_place, "\"headgate_auth jwt\" needs a \"headgate_jwt_key_file\"");
    }
    if ((conf.auth & kAuthApiKey) != 0 && main.pepper == nullptr) {
        return fail_at(cf, conf.auth_place, "\"headgate_auth api_key\" needs \"headgate_api_key_pepper_file\"");
    }
    return kOk;
}

char* check_limits(ngx_conf_t* cf, LocConf& conf) noexcept {
    if (conf.limits == nullptr) {
        return kOk;
    }
    for (const auto& limit : *conf.limits) {
        if (limit->key == nullptr && !conf.authenticates()) {
            return fail_at(cf, limit->place,
                           "\"headgate_limit\" without \"key=\" limits the caller, but authentication is off here");
        }
        if (!limit->default_plan_name.empty()) {
            limit->default_plan = main_conf_of(cf)->find_plan(limit->default_plan_name);
            if (limit->default_plan == nullptr) {
                return fail_at(cf, limit->place, "headgate_plan \"%s\" is not defined",
                               limit->default_plan_name.c_str());
            }
        }
    }
    return kOk;
}

char* check_publish(ngx_conf_t* cf, LocConf& conf) noexcept {
    if (conf.publish == PublishKind::kNone) {
        return kOk;
    }
    if (!conf.authenticates()) {
        return fail_at(cf, conf.publish_place,
                       "\"headgate_publish\" needs \"headgate_auth\": an event belongs to an organization");
    }
    const auto* core =
        static_cast<ngx_http_core_loc_conf_t*>(ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module));
    if (core->client_max_body_size != 0 && core->client_max_body_size < static_cast<off_t>(conf.event_max_bytes)) {
        return fail_at(cf, conf.publish_place,
                       "\"client_max_body_size\" %O is less than \"headgate_event_max_size\" %uz",
                       core->client_max_body_size, conf.event_max_bytes);
    }
    if (conf.publish_inflight_bytes < conf.event_max_bytes) {
        return fail_at(cf, conf.publish_place,
                       "\"headgate_publish_inflight\" %uz is less than \"headgate_event_max_size\" %uz",
                       conf.publish_inflight_bytes, conf.event_max_bytes);
    }
    return kOk;
}

}  // namespace

void* create_main_conf(ngx_conf_t* cf) noexcept {
    try {
        return make_in_pool<MainConf>(cf->pool);
    } catch (const std::exception&) {
        return nullptr;
    }
}

char* init_main_conf(ngx_conf_t* cf, void* data) noexcept {
    auto* conf = static_cast<MainConf*>(data);
    if (conf->shards == NGX_CONF_UNSET) {
        conf->shards = limits::kShardsDefault;
    }
    if (!conf->in_use) {
        return kOk;
    }
    if (conf->zone == nullptr) {
        return fail_at(cf, conf->in_use_place, "\"headgate_zone\" is missing: it is needed by the directive");
    }
    if (conf->redis.empty()) {
        return fail_at(cf, conf->in_use_place, "\"headgate_redis\" is missing: it is needed by the directive");
    }
    return kOk;
}

void* create_loc_conf(ngx_conf_t* cf) noexcept {
    try {
        return make_in_pool<LocConf>(cf->pool);
    } catch (const std::exception&) {
        return nullptr;
    }
}

char* merge_loc_conf(ngx_conf_t* cf, void* parent, void* child) noexcept {
    const auto* prev = static_cast<LocConf*>(parent);
    auto* conf = static_cast<LocConf*>(child);
    if (conf->auth == NGX_CONF_UNSET_UINT) {
        conf->auth = prev->auth;
        conf->auth_place = prev->auth_place;
    }
    ngx_conf_merge_uint_value(conf->auth, prev->auth, kAuthOff);
    ngx_conf_merge_str_value(conf->realm, prev->realm, "headgate");
    ngx_conf_merge_uint_value(conf->limit_mode, prev->limit_mode, 1);
    ngx_conf_merge_size_value(conf->event_max_bytes, prev->event_max_bytes, limits::kEventBytesMax);
    ngx_conf_merge_size_value(conf->publish_inflight_bytes, prev->publish_inflight_bytes, 64 * 1024 * 1024);
    const auto* core =
        static_cast<ngx_http_core_loc_conf_t*>(ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module));
    if (core->noname && conf->publish == PublishKind::kNone) {
        // `if` and `limit_except` swap r->loc_conf and keep the content handler: it must find its location's rules.
        conf->publish = prev->publish;
        conf->publish_place = prev->publish_place;
    }
    // Child lists replace the parent's.
    conf->require_scopes = conf->require_scopes != nullptr ? conf->require_scopes : prev->require_scopes;
    conf->jwt_sources = conf->jwt_sources != nullptr ? conf->jwt_sources : prev->jwt_sources;
    conf->limits = conf->limits != nullptr ? conf->limits : prev->limits;
    try {
        if (conf->jwt_sources != nullptr) {
            for (const auto& source : *conf->jwt_sources) {
                conf->jwt_source_views.push_back(source.get());
            }
        }
    } catch (const std::exception&) {
        return kError;
    }
    for (auto* check : {check_auth, check_limits, check_publish}) {
        if (char* rv = check(cf, *conf); rv != kOk) {
            return rv;
        }
    }
    return kOk;
}

}  // namespace headgate::edge
