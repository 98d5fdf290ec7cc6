// Directives of publishing and of the status page: parse, merge, check.
#include "ngx_module/conf_publish.h"

#include "common/limits.h"
#include "ngx_module/conf.h"
#include "ngx_module/publish.h"
#include "ngx_module/status.h"

namespace headgate::edge {

namespace {

void set_handler(ngx_conf_t* cf, ngx_http_handler_pt handler) noexcept {
    static_cast<ngx_http_core_loc_conf_t*>(ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module))->handler =
        handler;
}

}  // namespace

char* parse_publish(ngx_conf_t* cf, LocConf* conf) {
    if (conf->publish.kind != PublishKind::kNone) {
        return conf_fail(cf, "is duplicate");
    }
    const std::string_view kind = view(arguments(cf)[0]);
    if (kind != "event" && kind != "batch") {
        return conf_fail(cf, "invalid value \"%V\": event or batch", &arguments(cf)[0]);
    }
    conf->publish.kind = kind == "batch" ? PublishKind::kBatch : PublishKind::kEvent;
    conf->publish.place = place_of(cf);
    set_handler(cf, publish_handler);
    return kConfOk;
}

char* check_positive(ngx_conf_t*, void*, void* value) noexcept {
    static char message[] = "must be at least 1";
    return *static_cast<ngx_int_t*>(value) < 1 ? message : kConfOk;
}

char* check_not_zero_time(ngx_conf_t*, void*, void* value) noexcept {
    static char message[] = "must be longer than 0";
    return *static_cast<ngx_msec_t*>(value) == 0 ? message : kConfOk;
}

char* parse_status(ngx_conf_t* cf, LocConf*) {
    set_handler(cf, status_handler);
    return kConfOk;
}

char* merge_publish(ngx_conf_t* cf, const PublishConf& prev, LocConf& loc) {
    PublishConf& conf = loc.publish;
    ngx_conf_merge_size_value(conf.event_max_bytes, prev.event_max_bytes, limits::kEventBytesMax);
    ngx_conf_merge_size_value(conf.inflight_bytes, prev.inflight_bytes, 64 * 1024 * 1024);
    ngx_conf_merge_value(conf.batch_events_max, prev.batch_events_max, limits::kBatchEventsMax);
    ngx_conf_merge_value(conf.backlog_max, prev.backlog_max, limits::kBacklogMax);
    ngx_conf_merge_msec_value(conf.idempotency_ttl_ms, prev.idempotency_ttl_ms, limits::kIdempotencyMs);
    const auto* core =
        static_cast<ngx_http_core_loc_conf_t*>(ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module));
    if (core->noname && !conf.on()) {
        // `if` and `limit_except` swap r->loc_conf and keep the content handler: it must find its location's rules.
        conf.kind = prev.kind;
        conf.place = prev.place;
    }
    if (!conf.on()) {
        return kConfOk;
    }
    if (!loc.auth.required()) {
        return conf_fail_at(cf, conf.place,
                            "\"headgate_publish\" needs \"headgate_auth\": an event belongs to an organization");
    }
    if (core->client_max_body_size != 0 && core->client_max_body_size < static_cast<off_t>(conf.event_max_bytes)) {
        return conf_fail_at(cf, conf.place, "\"client_max_body_size\" %O is less than \"headgate_event_max_size\" %uz",
                            core->client_max_body_size, conf.event_max_bytes);
    }
    // A batch is as large as nginx lets a body be.
    if (conf.kind == PublishKind::kBatch &&
        (core->client_max_body_size == 0 || core->client_max_body_size > static_cast<off_t>(conf.inflight_bytes))) {
        return conf_fail_at(
            cf, conf.place,
            "\"client_max_body_size\" bounds a batch: it must be from 1 to \"headgate_publish_inflight\" %uz",
            conf.inflight_bytes);
    }
    if (conf.inflight_bytes < conf.event_max_bytes) {
        return conf_fail_at(cf, conf.place,
                            "\"headgate_publish_inflight\" %uz is less than \"headgate_event_max_size\" %uz",
                            conf.inflight_bytes, conf.event_max_bytes);
    }
    return kConfOk;
}

}  // namespace headgate::edge
