// Stage 1, tokens: a JWT -> the principal.
#pragma once

#include "ngx_module/conf.h"
#include "ngx_module/request_ctx.h"

namespace headgate::edge {

// Finds the token among those that were verified, or verifies it under the location's keys and policy, and fills
// ctx->principal. kOk, or why it is refused. kPending: the request was suspended and runs again, with
// ctx->auth_reply_seen if Redis was asked about this token.
[[nodiscard]] AuthStatus check_token(ngx_http_request_t* r, RequestCtx* ctx, const AuthConf& conf,
                                     std::string_view token);

}  // namespace headgate::edge
