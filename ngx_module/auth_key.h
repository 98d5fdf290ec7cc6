// Stage 1, API keys: a key -> the principal.
#pragma once

#include "ngx_module/conf.h"
#include "ngx_module/request_ctx.h"

namespace headgate::edge {

// kPending: asked Redis and suspended the request; when it runs again ctx->auth_reply_seen is set and
// ctx->auth_status says what came of it. Else the verdict, from the zone.
[[nodiscard]] AuthStatus check_key(ngx_http_request_t* r, RequestCtx* ctx, const AuthConf& conf,
                                   std::string_view api_key);

}  // namespace headgate::edge
