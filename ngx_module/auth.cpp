// See auth.h.
#include "ngx_module/auth.h"

#include "common/ip_network.h"
#include "common/scopes.h"
#include "ngx_module/auth_key.h"
#include "ngx_module/auth_token.h"
#include "ngx_module/credentials.h"
#include "ngx_module/jwks_wait.h"
#include "ngx_module/respond.h"
#include "ngx_module/worker.h"

namespace headgate::edge {

namespace {

// ---- the client's address -------------------------------------------------------------------

std::optional<IpAddress> client_address(ngx_http_request_t* r) noexcept {
    IpAddress address;
    const sockaddr* from = r->connection->sockaddr;  // realip has replaced it already, if it is there
    if (from->sa_family == AF_INET) {
        return ip_from_v4(ntohl(reinterpret_cast<const sockaddr_in*>(from)->sin_addr.s_addr));
    }
    if (from->sa_family == AF_INET6) {
        ngx_memcpy(address.bytes.data(), &reinterpret_cast<const sockaddr_in6*>(from)->sin6_addr, 16);
        return address;
    }
    return std::nullopt;  // a unix socket has none: a key that is bound to addresses does not fit it
}

bool address_allowed(ngx_http_request_t* r, std::string_view networks) noexcept {
    if (networks.empty()) {
        return true;
    }
    const auto address = client_address(r);
    return address && ip_in_list(*address, networks);
}

// ---- verdicts -------------------------------------------------------------------------------

ngx_int_t refuse(ngx_http_request_t* r, RequestCtx* ctx, const LocConf* conf, AuthStatus status) {
    ctx->auth_status = status;
    ctx->authenticated = false;
    ctx->open_refusal = status;
    const auto* core = static_cast<ngx_http_core_loc_conf_t*>(ngx_http_get_module_loc_conf(r, ngx_http_core_module));
    if (core->satisfy != NGX_HTTP_SATISFY_ANY) {
        settle_refusal(r, ctx, false);
    }
    if (status == AuthStatus::kUnavailable) {
        return end_in_phase(r, respond_unavailable(r, "Credentials cannot be checked now"));
    }
    return respond_unauthorized(r, ctx, conf);
}

// headgate_jwt_require: the status of the first that is not met, 0 when all are. Its variables see the principal.
ngx_uint_t unmet_requirement(ngx_http_request_t* r, const JwtConf& conf) noexcept {
    if (conf.requirements == nullptr) {
        return 0;
    }
    for (const JwtRequirement& requirement : *conf.requirements) {
        for (ngx_http_complex_value_t* value : requirement.values) {
            ngx_str_t text{};
            if (ngx_http_complex_value(r, value, &text) != NGX_OK || text.len == 0 || view(text) == "0") {
                return requirement.status;
            }
        }
    }
    return 0;
}

// What holds for tokens and keys alike, once they are known to be genuine.
ngx_int_t admit(ngx_http_request_t* r, RequestCtx* ctx, const LocConf* conf) {
    if (!address_allowed(r, view(ctx->principal.allowed_ips))) {
        return refuse(r, ctx, conf, AuthStatus::kIpDenied);
    }
    if (conf->auth.require_scopes != nullptr) {
        for (const std::string& scope : *conf->auth.require_scopes) {
            if (!scopes_allow(view(ctx->principal.scope), scope)) {
                return refuse(r, ctx, conf, AuthStatus::kInsufficientScope);
            }
        }
    }
    ctx->auth_status = AuthStatus::kOk;
    ctx->authenticated = true;
    if (const ngx_uint_t unmet = unmet_requirement(r, conf->auth.jwt); unmet != 0) {
        ctx->require_status = unmet;
        return refuse(r, ctx, conf, AuthStatus::kClaimRequired);
    }
    return NGX_OK;
}

}  // namespace

void settle_refusal(ngx_http_request_t* r, RequestCtx* ctx, bool let_in) noexcept {
    const AuthStatus status = std::exchange(ctx->open_refusal, AuthStatus::kOff);
    if (status == AuthStatus::kOff) {
        return;
    }
    if (!let_in) {
        // Once for a request, though its error_page may be refused like itself.
        if (!std::exchange(ctx->refusal_counted, true)) {
            count(current_worker(r).counters().refused[static_cast<std::size_t>(status)]);
        }
        return;
    }
    if (!ctx->authenticated) {
        ctx->principal = {};  // whose credential was refused is not who was let in: nothing is charged to it
    }
    if (ctx->challenge != nullptr) {
        ctx->challenge->hash = 0;  // nginx takes away only the one that was written last
    }
}

ngx_int_t authenticate(ngx_http_request_t* r, RequestCtx* ctx, const LocConf* conf) {
    if (ctx->waiting()) {
        return NGX_AGAIN;
    }
    if (std::exchange(ctx->auth_reply_seen, false)) {
        return ctx->auth_status == AuthStatus::kOk ? admit(r, ctx, conf) : refuse(r, ctx, conf, ctx->auth_status);
    }
    // A principal holds for the location that let it in, not for one that is reached by a redirect from there.
    ctx->authenticated = false;
    ctx->principal = {};
    ctx->verified_token = {};
    const Credentials found = find_credentials(r, conf->auth);
    AuthStatus status = AuthStatus::kMissing;
    if (found.ambiguous) {
        status = AuthStatus::kAmbiguous;
    } else if (!found.api_key.empty()) {
        status = check_key(r, ctx, conf->auth, found.api_key);
    } else if (!found.token.empty() && (conf->auth.kinds & kAuthJwt) != 0) {
        status = check_token(r, ctx, conf->auth, found.token);
        if (!conf->auth.jwt.remotes.empty()) {
            status = settle_token(r, ctx, conf->auth, status);
        }
    }
    if (status == AuthStatus::kPending) {
        return NGX_AGAIN;
    }
    return status == AuthStatus::kOk ? admit(r, ctx, conf) : refuse(r, ctx, conf, status);
}

}  // namespace headgate::edge
