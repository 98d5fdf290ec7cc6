// The command table. What a directive means to the stages is in conf_<area>.h, its parser in conf_<area>.cpp.
#include "ngx_module/conf.h"

namespace headgate::edge {

namespace {

// No exception crosses into nginx, whatever a parser meets.
template <auto Parse>
char* main_directive(ngx_conf_t* cf, ngx_command_t*, void* conf) noexcept {
    try {
        return Parse(cf, static_cast<MainConf*>(conf));
    } catch (const std::exception& e) {
        return conf_fail(cf, "%s", e.what());
    }
}

template <auto Parse>
char* loc_directive(ngx_conf_t* cf, ngx_command_t*, void* conf) noexcept {
    try {
        auto* main = static_cast<MainConf*>(ngx_http_conf_get_module_main_conf(cf, ngx_http_headgate_module));
        if (!std::exchange(main->in_use, true)) {
            main->in_use_place = place_of(cf);
        }
        return Parse(cf, static_cast<LocConf*>(conf));
    } catch (const std::exception& e) {
        return conf_fail(cf, "%s", e.what());
    }
}

ngx_conf_post_t positive = {check_positive};
ngx_conf_post_t not_zero_time = {check_not_zero_time};

constexpr ngx_uint_t kAnyLevel = NGX_HTTP_MAIN_CONF | NGX_HTTP_SRV_CONF | NGX_HTTP_LOC_CONF;

}  // namespace

// clang-format off
ngx_command_t commands[] = {
    {ngx_string("headgate_zone"), NGX_HTTP_MAIN_CONF | NGX_CONF_TAKE1,
     main_directive<parse_zone>, NGX_HTTP_MAIN_CONF_OFFSET, 0, nullptr},
    {ngx_string("headgate_redis"), NGX_HTTP_MAIN_CONF | NGX_CONF_1MORE,
     main_directive<parse_redis>, NGX_HTTP_MAIN_CONF_OFFSET, 0, nullptr},
    {ngx_string("headgate_redis_use"), NGX_HTTP_MAIN_CONF | NGX_CONF_TAKE2,
     main_directive<parse_redis_use>, NGX_HTTP_MAIN_CONF_OFFSET, 0, nullptr},
    {ngx_string("headgate_shards"), NGX_HTTP_MAIN_CONF | NGX_CONF_TAKE1,
     main_directive<parse_shards>, NGX_HTTP_MAIN_CONF_OFFSET, 0, nullptr},
    {ngx_string("headgate_plan"), NGX_HTTP_MAIN_CONF | NGX_CONF_2MORE,
     main_directive<parse_plan>, NGX_HTTP_MAIN_CONF_OFFSET, 0, nullptr},
    {ngx_string("headgate_api_key_pepper_file"), NGX_HTTP_MAIN_CONF | NGX_CONF_TAKE12,
     main_directive<parse_pepper>, NGX_HTTP_MAIN_CONF_OFFSET, 0, nullptr},

    {ngx_string("headgate_auth"), kAnyLevel | NGX_CONF_TAKE12,
     loc_directive<parse_auth>, NGX_HTTP_LOC_CONF_OFFSET, 0, nullptr},
    {ngx_string("headgate_auth_stale"), kAnyLevel | NGX_CONF_TAKE1,
     loc_directive<parse_auth_stale>, NGX_HTTP_LOC_CONF_OFFSET, 0, nullptr},
    {ngx_string("headgate_realm"), kAnyLevel | NGX_CONF_TAKE1,
     loc_directive<parse_realm>, NGX_HTTP_LOC_CONF_OFFSET, 0, nullptr},
    {ngx_string("headgate_require_scope"), kAnyLevel | NGX_CONF_1MORE,
     loc_directive<parse_require_scope>, NGX_HTTP_LOC_CONF_OFFSET, 0, nullptr},
    {ngx_string("headgate_token_from"), kAnyLevel | NGX_CONF_1MORE,
     loc_directive<parse_token_from>, NGX_HTTP_LOC_CONF_OFFSET, 0, nullptr},
    {ngx_string("headgate_api_key_from"), kAnyLevel | NGX_CONF_1MORE,
     loc_directive<parse_api_key_from>, NGX_HTTP_LOC_CONF_OFFSET, 0, nullptr},
    {ngx_string("headgate_jwt_key_file"), kAnyLevel | NGX_CONF_1MORE,
     loc_directive<parse_jwt_key_file>, NGX_HTTP_LOC_CONF_OFFSET, 0, nullptr},
    {ngx_string("headgate_jwt_key_request"), kAnyLevel | NGX_CONF_1MORE,
     loc_directive<parse_jwt_key_request>, NGX_HTTP_LOC_CONF_OFFSET, 0, nullptr},
    {ngx_string("headgate_jwt_key_cache"), kAnyLevel | NGX_CONF_TAKE1,
     loc_directive<parse_jwt_key_cache>, NGX_HTTP_LOC_CONF_OFFSET, 0, nullptr},
    {ngx_string("headgate_jwt_algorithms"), kAnyLevel | NGX_CONF_1MORE,
     loc_directive<parse_jwt_algorithms>, NGX_HTTP_LOC_CONF_OFFSET, 0, nullptr},
    {ngx_string("headgate_jwt_audience"), kAnyLevel | NGX_CONF_1MORE,
     loc_directive<parse_jwt_audience>, NGX_HTTP_LOC_CONF_OFFSET, 0, nullptr},
    {ngx_string("headgate_jwt_leeway"), kAnyLevel | NGX_CONF_TAKE1,
     loc_directive<parse_jwt_leeway>, NGX_HTTP_LOC_CONF_OFFSET, 0, nullptr},
    {ngx_string("headgate_jwt_require"), kAnyLevel | NGX_CONF_1MORE,
     loc_directive<parse_jwt_require>, NGX_HTTP_LOC_CONF_OFFSET, 0, nullptr},
    {ngx_string("headgate_jwt_claim_set"), NGX_HTTP_MAIN_CONF | NGX_CONF_2MORE,
     main_directive<parse_jwt_claim_set>, NGX_HTTP_MAIN_CONF_OFFSET, 0, nullptr},

    {ngx_string("headgate_limit"), kAnyLevel | NGX_CONF_1MORE,
     loc_directive<parse_limit>, NGX_HTTP_LOC_CONF_OFFSET, 0, nullptr},
    {ngx_string("headgate_limit_mode"), kAnyLevel | NGX_CONF_TAKE1,
     loc_directive<parse_limit_mode>, NGX_HTTP_LOC_CONF_OFFSET, 0, nullptr},
    {ngx_string("headgate_limit_on_error"), kAnyLevel | NGX_CONF_TAKE1,
     loc_directive<parse_limit_on_error>, NGX_HTTP_LOC_CONF_OFFSET, 0, nullptr},
    {ngx_string("headgate_limit_status"), kAnyLevel | NGX_CONF_TAKE1,
     loc_directive<parse_limit_status>, NGX_HTTP_LOC_CONF_OFFSET, 0, nullptr},
    {ngx_string("headgate_limit_dry_run"), kAnyLevel | NGX_CONF_FLAG,
     ngx_conf_set_flag_slot, NGX_HTTP_LOC_CONF_OFFSET, offsetof(LocConf, limits.dry_run), nullptr},
    {ngx_string("headgate_limit_headers"), kAnyLevel | NGX_CONF_FLAG,
     ngx_conf_set_flag_slot, NGX_HTTP_LOC_CONF_OFFSET, offsetof(LocConf, limits.headers), nullptr},

    {ngx_string("headgate_publish"), NGX_HTTP_LOC_CONF | NGX_CONF_TAKE1,
     loc_directive<parse_publish>, NGX_HTTP_LOC_CONF_OFFSET, 0, nullptr},
    {ngx_string("headgate_publish_ack"), kAnyLevel | NGX_CONF_TAKE1,
     loc_directive<parse_publish_ack>, NGX_HTTP_LOC_CONF_OFFSET, 0, nullptr},
    {ngx_string("headgate_event_max_size"), kAnyLevel | NGX_CONF_TAKE1,
     ngx_conf_set_size_slot, NGX_HTTP_LOC_CONF_OFFSET, offsetof(LocConf, publish.event_max_bytes), nullptr},
    {ngx_string("headgate_publish_inflight"), kAnyLevel | NGX_CONF_TAKE1,
     ngx_conf_set_size_slot, NGX_HTTP_LOC_CONF_OFFSET, offsetof(LocConf, publish.inflight_bytes), nullptr},
    {ngx_string("headgate_publish_backlog"), kAnyLevel | NGX_CONF_TAKE1,
     ngx_conf_set_num_slot, NGX_HTTP_LOC_CONF_OFFSET, offsetof(LocConf, publish.backlog_max), &positive},
    {ngx_string("headgate_batch_max_events"), kAnyLevel | NGX_CONF_TAKE1,
     ngx_conf_set_num_slot, NGX_HTTP_LOC_CONF_OFFSET, offsetof(LocConf, publish.batch_events_max), &positive},
    {ngx_string("headgate_idempotency_ttl"), kAnyLevel | NGX_CONF_TAKE1,
     ngx_conf_set_msec_slot, NGX_HTTP_LOC_CONF_OFFSET, offsetof(LocConf, publish.idempotency_ttl_ms), &not_zero_time},

    {ngx_string("headgate_status"), NGX_HTTP_LOC_CONF | NGX_CONF_NOARGS,
     loc_directive<parse_status>, NGX_HTTP_LOC_CONF_OFFSET, 0, nullptr},
    ngx_null_command,
};
// clang-format on

}  // namespace headgate::edge
