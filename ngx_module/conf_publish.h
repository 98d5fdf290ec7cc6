// Publishing as it is configured for a location.
#pragma once

#include "ngx_module/conf_tools.h"

namespace headgate::edge {

struct MainConf;
struct LocConf;

enum class PublishKind : ngx_uint_t { kNone, kEvent };

struct PublishConf {
    PublishKind kind = PublishKind::kNone;
    DirectivePlace place;
    std::size_t event_max_bytes = NGX_CONF_UNSET_SIZE;
    std::size_t inflight_bytes = NGX_CONF_UNSET_SIZE;
    ngx_int_t ack_replicas = NGX_CONF_UNSET;  // that must have an event besides Redis itself; 0: none

    [[nodiscard]] bool on() const noexcept { return kind != PublishKind::kNone; }
};

char* parse_publish(ngx_conf_t* cf, LocConf* conf);
char* parse_publish_ack(ngx_conf_t* cf, LocConf* conf);
char* parse_status(ngx_conf_t* cf, LocConf* conf);

// After the location's authentication has been merged.
char* merge_publish(ngx_conf_t* cf, const PublishConf& prev, LocConf& conf);

}  // namespace headgate::edge
