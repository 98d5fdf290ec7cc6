// See respond.h.
#include "ngx_module/respond.h"

#include <algorithm>
#include <charconv>
#include <string>

#include "common/problem.h"

namespace headgate::edge {

ngx_table_elt_t* push_header(ngx_http_request_t* r, std::string_view name, std::string_view value) noexcept {
    auto* header = static_cast<ngx_table_elt_t*>(ngx_list_push(&r->headers_out.headers));
    if (header == nullptr) {
        return nullptr;
    }
    header->hash = 1;
    header->key = borrowed(name);
    header->value = borrowed(value);
    header->lowcase_key = nullptr;
#if (nginx_version >= 1023000)
    header->next = nullptr;
#endif
    return header;
}

ngx_table_elt_t* add_header(ngx_http_request_t* r, std::string_view name, std::string_view value) noexcept {
    // r is never null: NOLINTNEXTLINE(clang-analyzer-core.NullDereference)
    const ngx_str_t copy = copy_to_pool(r->pool, value);
    return copy.data == nullptr ? nullptr : push_header(r, name, view(copy));
}

ngx_int_t respond_body(ngx_http_request_t* r, ngx_uint_t status, std::string_view content_type, std::string_view body) {
    ngx_buf_t* buf = ngx_create_temp_buf(r->pool, body.size() + 1);
    if (buf == nullptr) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
    buf->last = ngx_cpymem(buf->last, body.data(), body.size());
    buf->last_buf = (r == r->main) ? 1 : 0;
    buf->last_in_chain = 1;

    r->headers_out.status = status;
    if (status == 422) {
        ngx_str_set(&r->headers_out.status_line, "422 Unprocessable Content");  // nginx 1.22 has no text for it
    }
    r->headers_out.content_length_n = static_cast<off_t>(body.size());
    r->headers_out.content_type = borrowed(content_type);
    r->headers_out.content_type_len = content_type.size();
    r->headers_out.content_type_lowcase = nullptr;
    const ngx_int_t rc = ngx_http_send_header(r);
    if (rc == NGX_ERROR || rc > NGX_OK || r->header_only) {
        return rc;
    }
    ngx_chain_t out{buf, nullptr};
    return ngx_http_output_filter(r, &out);
}

namespace {

bool has_error_page(ngx_http_request_t* r, ngx_uint_t status) noexcept {
    const auto* core = static_cast<ngx_http_core_loc_conf_t*>(ngx_http_get_module_loc_conf(r, ngx_http_core_module));
    if (core->error_pages == nullptr || r->error_page) {
        return false;
    }
    const auto* pages = static_cast<ngx_http_err_page_t*>(core->error_pages->elts);
    return std::any_of(pages, pages + core->error_pages->nelts, [status](const ngx_http_err_page_t& page) {
        return page.status == static_cast<ngx_int_t>(status);
    });
}

bool set_www_authenticate(ngx_http_request_t* r, RequestCtx* ctx, const ngx_str_t& realm, std::string_view error) {
    std::string value = "Bearer realm=\"";
    value.append(view(realm)).append("\"");
    if (!error.empty()) {
        value.append(", error=\"").append(error).append("\"");
    }
    if (ctx->challenge != nullptr) {
        ctx->challenge->hash = 0;  // of the location whose error_page this is
    }
    ctx->challenge = add_header(r, "WWW-Authenticate", value);
    if (ctx->challenge == nullptr) {
        return false;
    }
    r->headers_out.www_authenticate = ctx->challenge;
    return true;
}

struct Refusal {
    ngx_uint_t status;
    std::string_view error;   // RFC 6750, section 3.1; empty when no credential was sent
    std::string_view detail;  // no more than the client may know
};

Refusal refusal_of(const RequestCtx* ctx) noexcept {
    switch (ctx->auth_status) {
        case AuthStatus::kClaimRequired:
            if (ctx->require_status == NGX_HTTP_FORBIDDEN) {
                return {NGX_HTTP_FORBIDDEN, "", "The credential does not have what is required here"};
            }
            return {NGX_HTTP_UNAUTHORIZED, "invalid_token", "The credential is invalid"};
        case AuthStatus::kMissing:
            return {NGX_HTTP_UNAUTHORIZED, "", "Authentication is required"};
        case AuthStatus::kAmbiguous:
            return {NGX_HTTP_BAD_REQUEST, "invalid_request", "More than one credential was sent"};
        case AuthStatus::kExpired:
            return {NGX_HTTP_UNAUTHORIZED, "invalid_token", "Token expired"};
        case AuthStatus::kIpDenied:
            return {NGX_HTTP_FORBIDDEN, "", "This address may not use the credential"};
        case AuthStatus::kNoOrg:
            return {NGX_HTTP_FORBIDDEN, "", "The credential belongs to no organization"};
        case AuthStatus::kInsufficientScope:
            return {NGX_HTTP_FORBIDDEN, "insufficient_scope", "The credential lacks a scope that is required here"};
        default:
            return {NGX_HTTP_UNAUTHORIZED, "invalid_token", "The credential is invalid"};
    }
}

}  // namespace

ngx_int_t respond_problem(ngx_http_request_t* r, const Problem& problem) {
    if (has_error_page(r, problem.status)) {
        return static_cast<ngx_int_t>(problem.status);
    }
    // As ngx_http_special_response_handler() does: no 100 Continue before a refusal, and the refusal is sent even
    // where the rest of the body cannot be thrown away.
    r->expect_tested = 1;
    if (ngx_http_discard_request_body(r) != NGX_OK) {
        r->keepalive = 0;
    }
    return respond_body(r, problem.status, kProblemContentType,
                        problem_json(static_cast<int>(problem.status), problem.type, problem.detail, problem.extra));
}

ngx_int_t end_in_phase(ngx_http_request_t* r, ngx_int_t rc) noexcept {
    ngx_http_finalize_request(r, rc);
    return NGX_DONE;
}

ngx_int_t respond_unauthorized(ngx_http_request_t* r, RequestCtx* ctx, const LocConf* conf) {
    const Refusal refusal = refusal_of(ctx);
    const std::string_view reason = auth_status_name(ctx->auth_status);
    ngx_log_error(NGX_LOG_INFO, r->connection->log, 0, "headgate: refused: %*s", reason.size(), reason.data());
    if (refusal.status != NGX_HTTP_FORBIDDEN || !refusal.error.empty()) {
        if (!set_www_authenticate(r, ctx, conf->auth.realm, refusal.error)) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }
    }
    const auto* core = static_cast<ngx_http_core_loc_conf_t*>(ngx_http_get_module_loc_conf(r, ngx_http_core_module));
    if (core->satisfy == NGX_HTTP_SATISFY_ANY && refusal.status != NGX_HTTP_BAD_REQUEST) {
        return static_cast<ngx_int_t>(refusal.status);
    }
    const ngx_int_t rc = respond_problem(r, {refusal.status, refusal.detail});
    return rc == static_cast<ngx_int_t>(refusal.status) ? rc : end_in_phase(r, rc);
}

ngx_int_t respond_unavailable(ngx_http_request_t* r, std::string_view detail) {
    add_header(r, "Retry-After", "1");
    return respond_problem(r, {NGX_HTTP_SERVICE_UNAVAILABLE, detail});
}

}  // namespace headgate::edge
