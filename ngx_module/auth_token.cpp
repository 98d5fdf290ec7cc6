// See auth_token.h.
#include "ngx_module/auth_token.h"

#include "ngx_module/token_keys.h"

namespace headgate::edge {

AuthStatus check_token(ngx_http_request_t* r, RequestCtx* ctx, const AuthConf& conf, std::string_view token) {
    const JwtVerification verified = verify_jwt(token, token_keys(r, conf).sources, conf.jwt.policy, ngx_time());
    if (verified.status == JwtStatus::kMissingClaim && verified.claim == "org") {
        return AuthStatus::kNoOrg;
    }
    if (verified.status != JwtStatus::kOk) {
        return auth_status_of(verified.status);
    }
    Principal& principal = ctx->principal;
    const JwtClaims& claims = verified.claims;
    for (auto [to, from] : {std::pair{&principal.org, &claims.org},
                            {&principal.key_id, &claims.key_id},
                            {&principal.sub, &claims.sub},
                            {&principal.iss, &claims.iss},
                            {&principal.scope, &claims.scope},
                            {&principal.plan, &claims.plan},
                            {&principal.allowed_ips, &claims.allowed_ips}}) {
        *to = copy_to_pool(r->pool, *from);
        if (to->data == nullptr) {
            return AuthStatus::kUnavailable;
        }
    }
    return AuthStatus::kOk;
}

}  // namespace headgate::edge
