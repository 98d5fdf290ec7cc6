// See variables.h.
#include "ngx_module/variables.h"

#include <charconv>

#include "ngx_module/claims.h"
#include "ngx_module/limit_headers.h"
#include "ngx_module/request_ctx.h"
#include "ngx_module/worker.h"

namespace headgate::edge {

namespace {

enum class Variable : uintptr_t {
    kOrg,
    kKeyId,
    kKeyPrefix,
    kSub,
    kIss,
    kScope,
    kPlan,
    kAuthStatus,
    kLimitStatus,
    kLimitRemaining,
    kLimitReset,
    kEventId,
    kShard,
    kRedisTime,
};

struct VariableName {
    std::string_view name;
    Variable variable;
};
constexpr VariableName kVariables[] = {
    {"headgate_org", Variable::kOrg},
    {"headgate_key_id", Variable::kKeyId},
    {"headgate_key_prefix", Variable::kKeyPrefix},
    {"headgate_sub", Variable::kSub},
    {"headgate_iss", Variable::kIss},
    {"headgate_scope", Variable::kScope},
    {"headgate_plan", Variable::kPlan},
    {"headgate_auth_status", Variable::kAuthStatus},
    {"headgate_limit_status", Variable::kLimitStatus},
    {"headgate_limit_remaining", Variable::kLimitRemaining},
    {"headgate_limit_reset", Variable::kLimitReset},
    {"headgate_event_id", Variable::kEventId},
    {"headgate_shard", Variable::kShard},
    {"headgate_redis_time", Variable::kRedisTime},
};

std::string_view limit_status_name(LimitStatus status) noexcept {
    switch (status) {
        case LimitStatus::kNone:
            return "";
        case LimitStatus::kPassed:
            return "passed";
        case LimitStatus::kRejected:
            return "rejected";
        case LimitStatus::kDryRun:
            return "dry_run";
        case LimitStatus::kBypassed:
            break;
    }
    return "bypassed";
}

std::string_view number(ngx_http_request_t* r, std::int64_t value) noexcept {
    char digits[24];
    const auto end = std::to_chars(digits, digits + sizeof digits, value).ptr;
    return view(copy_to_pool(r->pool, {digits, static_cast<std::size_t>(end - digits)}));
}

// As nginx writes $upstream_response_time.
std::string_view seconds(ngx_http_request_t* r, ngx_msec_t ms) noexcept {
    u_char text[NGX_TIME_T_LEN + 4];
    const u_char* end = ngx_snprintf(text, sizeof text, "%T.%03M", static_cast<time_t>(ms / 1000), ms % 1000);
    return view(copy_to_pool(r->pool, {reinterpret_cast<char*>(text), static_cast<std::size_t>(end - text)}));
}

std::string_view value_of(ngx_http_request_t* r, const RequestCtx* ctx, Variable variable) noexcept {
    const Principal none{};
    const Principal& principal = ctx->authenticated ? ctx->principal : none;
    switch (variable) {
        case Variable::kOrg:
            return view(principal.org);
        case Variable::kKeyId:
            return view(principal.key_id);
        case Variable::kKeyPrefix:
            return view(principal.key_prefix);
        case Variable::kSub:
            return view(principal.sub);
        case Variable::kIss:
            return view(principal.iss);
        case Variable::kScope:
            return view(principal.scope);
        case Variable::kPlan:
            return view(principal.plan);
        case Variable::kAuthStatus:
            return auth_status_name(ctx->auth_status);
        case Variable::kLimitStatus:
            return limit_status_name(ctx->limit_status);
        case Variable::kLimitRemaining:
        case Variable::kLimitReset: {
            TightestWindow tightest;
            if (!find_tightest(ctx, false, tightest)) {
                return "";
            }
            return number(r, variable == Variable::kLimitRemaining ? tightest.free : tightest.reset_seconds);
        }
        case Variable::kEventId:
            return ctx->published ? std::string_view(ctx->event.id, kEventIdBytes) : std::string_view();
        case Variable::kShard:
            return ctx->published ? number(r, ctx->event.shard) : "";
        case Variable::kRedisTime:
            break;
    }
    return ctx->redis_asked ? seconds(r, ctx->redis_time_ms()) : "";
}

ngx_int_t get_variable(ngx_http_request_t* r, ngx_http_variable_value_t* value, uintptr_t data) noexcept {
    return guarded_variable(r, value, [r, data] {
        const RequestCtx* ctx = find_request_ctx(r);
        return ctx == nullptr ? std::string_view() : value_of(r, ctx, static_cast<Variable>(data));
    });
}

}  // namespace

ngx_int_t add_variables(ngx_conf_t* cf) noexcept {
    for (const VariableName& entry : kVariables) {
        ngx_str_t name = borrowed(entry.name);
        ngx_http_variable_t* variable = ngx_http_add_variable(cf, &name, NGX_HTTP_VAR_NOCACHEABLE);
        if (variable == nullptr) {
            return NGX_ERROR;
        }
        variable->get_handler = get_variable;
        variable->data = static_cast<uintptr_t>(entry.variable);
    }
    ngx_str_t prefix = borrowed(kClaimPrefix);
    ngx_http_variable_t* claims = ngx_http_add_variable(cf, &prefix, NGX_HTTP_VAR_NOCACHEABLE | NGX_HTTP_VAR_PREFIX);
    if (claims == nullptr) {
        return NGX_ERROR;
    }
    claims->get_handler = get_claim_variable;
    return NGX_OK;
}

}  // namespace headgate::edge
