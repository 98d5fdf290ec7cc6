// Stage 1, tokens: a JWT -> the principal.
#pragma once

#include "ngx_module/conf.h"
#include "ngx_module/request_ctx.h"

namespace headgate::edge {

// Verifies the token under the location's keys and policy and fills ctx->principal. kOk, or why it is refused.
[[nodiscard]] AuthStatus check_token(ngx_http_request_t* r, RequestCtx* ctx, const AuthConf& conf,
                                     std::string_view token);

}  // namespace headgate::edge
