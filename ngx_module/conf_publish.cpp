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

char* parse_publish_ack(ngx_conf_t* cf, LocConf* conf) {
    constexpr ngx_int_t kReplicasMax = 16;
    ngx_str_t& text = arguments(cf)[0];
    if (conf->publish.ack_replicas != NGX_CONF_UNSET) {
        return conf_fail(cf, "is duplicate");
    }
    if (view(text) == "stored") {
        conf->publish.ack_replicas = 0;
    } else if (view(text) == "replica") {
        conf->publish.ack_replicas = 1;
    } else if (const auto count = parameter(text, "replica")) {
        ngx_str_t holder;
        as_ngx_str(holder, *count);
        conf->publish.ack_replicas = ngx_atoi(holder.data, holder.len);
        if (conf->publish.ack_replicas < 1 || conf->publish.ack_replicas > kReplicasMax) {
            return conf_fail(cf, "invalid number of replicas \"%V\": 1 to %i", &text, kReplicasMax);
        }
    } else {
        return conf_fail(cf, "invalid value \"%V\": stored, replica or replica=n", &text);
    }
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
    ngx_conf_merge_value(conf.ack_replicas, prev.ack_replicas, 0);
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
