// See claims.h.
#include "ngx_module/claims.h"

#include <vector>

#include "common/claim_text.h"
#include "ngx_module/conf_tools.h"

namespace headgate::edge {

namespace {

using ClaimPath = std::vector<std::string_view>;  // the names lie in the configuration

// The payload of the request's verified token, decoded once; empty without one.
std::string_view payload_of(RequestCtx* ctx) {
    if (ctx == nullptr || !ctx->authenticated || ctx->verified_token.empty()) {
        return {};
    }
    if (ctx->claims_of.data() != ctx->verified_token.data()) {
        const auto payload = jwt_payload(ctx->verified_token);
        const ngx_str_t copy = copy_to_pool(ctx->r->pool, payload ? std::string_view(*payload) : std::string_view());
        if (copy.data == nullptr) {
            return {};
        }
        ctx->claims_of = ctx->verified_token;
        ctx->claims_json = view(copy);
    }
    return ctx->claims_json;
}

ngx_int_t set_claim(ngx_http_request_t* r, ngx_http_variable_value_t* value,
                    std::span<const std::string_view> path) noexcept {
    return guarded_variable(r, value, [&]() -> std::string_view {
        const std::string_view payload = payload_of(find_request_ctx(r));
        const auto text = payload.empty() ? std::nullopt : claim_text(payload, path);
        return text ? view(copy_to_pool(r->pool, *text)) : std::string_view();
    });
}

ngx_int_t get_claim_at_path(ngx_http_request_t* r, ngx_http_variable_value_t* value, uintptr_t data) noexcept {
    return set_claim(r, value, *reinterpret_cast<const ClaimPath*>(data));
}

}  // namespace

ngx_int_t get_claim_variable(ngx_http_request_t* r, ngx_http_variable_value_t* value, uintptr_t data) noexcept {
    std::string_view name = view(*reinterpret_cast<const ngx_str_t*>(data));
    name.remove_prefix(kClaimPrefix.size());
    return set_claim(r, value, {&name, 1});
}

bool add_claim_variable(ngx_conf_t* cf, ngx_str_t name, std::span<const ngx_str_t> path) {
    auto* names = make_in_pool<ClaimPath>(cf->pool);
    if (names == nullptr) {
        return false;
    }
    for (const ngx_str_t& part : path) {
        names->push_back(view(part));
    }
    ngx_http_variable_t* variable = ngx_http_add_variable(cf, &name, NGX_HTTP_VAR_NOCACHEABLE);
    if (variable == nullptr) {
        return false;
    }
    if (variable->get_handler != nullptr) {
        conf_fail(cf, "variable \"$%V\" is already defined", &name);
        return false;
    }
    variable->get_handler = get_claim_at_path;
    variable->data = reinterpret_cast<uintptr_t>(names);
    return true;
}

}  // namespace headgate::edge
