// START HERE: the module table, the phase handlers, and the order of the stages.
//
//   access phase       auth     credentials -> principal
//   precontent phase   limit    principal -> allowed or not (after what a publish location checks first)
//   content handler    publish  body buffers -> XADD chain
//   header filter      limit    what is left of the limits
//   body filter        auth     takes the keys that a subrequest of ours has fetched
//   log phase          usage    how often a key was used
//
// Stages never call each other; a stage that waits for Redis suspends the request and is run again.
#include "ngx_module/auth.h"
#include "ngx_module/conf.h"
#include "ngx_module/jwks_fetch.h"
#include "ngx_module/limit.h"
#include "ngx_module/limit_headers.h"
#include "ngx_module/publish_check.h"
#include "ngx_module/request_ctx.h"
#include "ngx_module/respond.h"
#include "ngx_module/variables.h"
#include "ngx_module/worker.h"

namespace headgate::edge {

namespace {

ngx_http_output_header_filter_pt next_header_filter;
ngx_http_output_body_filter_pt next_body_filter;

// Runs a stage on the request's context, which the first stage makes. No worker state: nginx runs in
// a single process and was reloaded (ngx_single_process_cycle() does not call init_process again).
template <typename Stage>
ngx_int_t run_stage(ngx_http_request_t* r, Stage&& stage) noexcept {
    return guarded(r, [&]() -> ngx_int_t {
        if (main_conf(r)->worker == nullptr) {
            return NGX_HTTP_SERVICE_UNAVAILABLE;
        }
        RequestCtx* ctx = request_ctx(r);
        if (ctx == nullptr) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }
        if (!std::exchange(ctx->counted, true)) {
            count(current_worker(r).counters().requests);
        }
        return stage(ctx);
    });
}

// Access handlers are not run for subrequests by nginx itself.
ngx_int_t access_handler(ngx_http_request_t* r) noexcept {
    const LocConf* conf = loc_conf(r);
    if (!conf->auth.required()) {
        return NGX_DECLINED;
    }
    return run_stage(r, [&](RequestCtx* ctx) { return authenticate(r, ctx, conf); });
}

ngx_int_t precontent_handler(ngx_http_request_t* r) noexcept {
    const LocConf* conf = loc_conf(r);
    const bool publishes = conf->publish.on();
    const bool limits = conf->limits.any();
    if (r != r->main || (!publishes && !limits && !conf->auth.required())) {
        return NGX_DECLINED;  // subrequests are never charged
    }
    return run_stage(r, [&](RequestCtx* ctx) {
        settle_refusal(r, ctx, true);
        ngx_int_t rc = NGX_DECLINED;
        if (publishes) {
            rc = check_publish_request(r, conf);
        }
        if (rc == NGX_DECLINED && limits) {
            const bool may_fuse = conf->publish.kind == PublishKind::kEvent && current_worker(r).limits_join_events() &&
                                  body_has_arrived(r);
            rc = limit(r, ctx, conf, may_fuse);
        }
        if (rc == NGX_DECLINED && !std::exchange(ctx->accepted, true)) {
            count(current_worker(r).counters().accepted);
        }
        return rc;
    });
}

// Is it the key's own request, though perhaps not one that it may make?
bool is_of_key(const RequestCtx* ctx) noexcept {
    return ctx->principal.key_id.len != 0 &&
           (ctx->authenticated || ctx->auth_status == AuthStatus::kInsufficientScope ||
            ctx->auth_status == AuthStatus::kIpDenied);
}

ngx_int_t log_handler(ngx_http_request_t* r) noexcept {
    const RequestCtx* ctx = r == r->main ? find_request_ctx(r) : nullptr;
    if (ctx != nullptr && is_of_key(ctx)) {
        const bool limited = ctx->limit_status == LimitStatus::kRejected;
        current_worker(r).usage().count(view(ctx->principal.key_id), ctx->accepted && !limited, limited);
    }
    return NGX_OK;
}

ngx_int_t header_filter(ngx_http_request_t* r) noexcept {
    if (r != r->main && is_jwks_fetch(r)) {
        return capture_jwks_header(r);
    }
    if (r == r->main) {
        if (RequestCtx* ctx = find_request_ctx(r); ctx != nullptr) {
            settle_refusal(r, ctx, false);
            if (ctx->reports != nullptr) {
                add_limit_headers(r, ctx);
            }
        }
    }
    return next_header_filter(r);
}

ngx_int_t body_filter(ngx_http_request_t* r, ngx_chain_t* in) noexcept {
    return r != r->main && is_jwks_fetch(r) ? capture_jwks_body(r, in) : next_body_filter(r, in);
}

ngx_int_t add_phase_handler(ngx_conf_t* cf, ngx_http_phases phase, ngx_http_handler_pt handler) noexcept {
    auto* core = static_cast<ngx_http_core_main_conf_t*>(ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module));
    auto* slot = static_cast<ngx_http_handler_pt*>(ngx_array_push(&core->phases[phase].handlers));
    if (slot == nullptr) {
        return NGX_ERROR;
    }
    *slot = handler;
    return NGX_OK;
}

ngx_int_t postconfiguration(ngx_conf_t* cf) noexcept {
    const auto* conf = static_cast<MainConf*>(ngx_http_conf_get_module_main_conf(cf, ngx_http_headgate_module));
    if (!conf->in_use) {
        return NGX_OK;  // loaded and not used: nginx is as it was
    }
    if (add_phase_handler(cf, NGX_HTTP_ACCESS_PHASE, access_handler) != NGX_OK ||
        add_phase_handler(cf, NGX_HTTP_PRECONTENT_PHASE, precontent_handler) != NGX_OK ||
        add_phase_handler(cf, NGX_HTTP_LOG_PHASE, log_handler) != NGX_OK) {
        return NGX_ERROR;
    }
    next_header_filter = ngx_http_top_header_filter;
    ngx_http_top_header_filter = header_filter;
    if (!conf->remote_keys.empty()) {
        next_body_filter = ngx_http_top_body_filter;
        ngx_http_top_body_filter = body_filter;
    }
    return NGX_OK;
}

ngx_http_module_t module_context = {
    add_variables,      // preconfiguration
    postconfiguration,  // postconfiguration
    create_main_conf,   // create main configuration
    init_main_conf,     // init main configuration
    nullptr,            // create server configuration
    nullptr,            // merge server configuration
    create_loc_conf,    // create location configuration
    merge_loc_conf,     // merge location configuration
};

}  // namespace

}  // namespace headgate::edge

ngx_module_t ngx_http_headgate_module = {
    NGX_MODULE_V1,
    &headgate::edge::module_context,
    headgate::edge::commands,
    NGX_HTTP_MODULE,
    nullptr,                       // init master
    nullptr,                       // init module
    headgate::edge::start_worker,  // init process
    nullptr,                       // init thread
    nullptr,                       // exit thread
    headgate::edge::stop_worker,   // exit process
    nullptr,                       // exit master
    NGX_MODULE_V1_PADDING,
};
