// Publishing as it is configured for a location.
#pragma once

#include "ngx_module/conf_tools.h"

namespace headgate::edge {

struct MainConf;
struct LocConf;

enum class PublishKind : ngx_uint_t { kNone, kEvent, kBatch };

struct PublishConf {
    PublishKind kind = PublishKind::kNone;
    DirectivePlace place;
    std::size_t event_max_bytes = NGX_CONF_UNSET_SIZE;
    std::size_t inflight_bytes = NGX_CONF_UNSET_SIZE;
    ngx_int_t ack_replicas = NGX_CONF_UNSET;  // that must have an event besides Redis itself; 0: none
    ngx_int_t batch_events_max = NGX_CONF_UNSET;
    ngx_int_t backlog_max = NGX_CONF_UNSET;  // entries of a shard
    ngx_msec_t idempotency_ttl_ms = NGX_CONF_UNSET_MSEC;

    [[nodiscard]] bool on() const noexcept { return kind != PublishKind::kNone; }
};

char* parse_publish(ngx_conf_t* cf, LocConf* conf);
char* parse_publish_ack(ngx_conf_t* cf, LocConf* conf);
// Post handlers of nginx's own number and time slots.
char* check_positive(ngx_conf_t* cf, void* post, void* value) noexcept;
char* check_not_zero_time(ngx_conf_t* cf, void* post, void* value) noexcept;
char* parse_status(ngx_conf_t* cf, LocConf* conf);

// After the location's authentication has been merged.
char* merge_publish(ngx_conf_t* cf, const PublishConf& prev, LocConf& conf);

}  // namespace headgate::edge
