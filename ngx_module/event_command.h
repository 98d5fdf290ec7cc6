// Stage 3, the command: a RESP command whose payload is the request's own memory, through shadow buffers.
#pragma once

#include "ngx_module/limit.h"
#include "ngx_module/redis_pipeline.h"
#include "ngx_module/request_ctx.h"

namespace headgate::edge {

// The XADD of a scanned event, alone or, with ctx->fused, behind that limiter's charge in one script call.
// Borrows the body's buffers or its file: the request must be pinned until released() is called.
// The caller sets asker, done, lender and released. nullptr when there is no memory. It may be built again for a
// resend: the request's own buffers are never advanced.
[[nodiscard]] RedisCommand* build_event_command(ngx_http_request_t* r, RequestCtx* ctx);

}  // namespace headgate::edge
