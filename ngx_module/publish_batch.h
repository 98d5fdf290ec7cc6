// Stage 3 for POST /events/batch: an array or lines of events in one body, each with a verdict, a command and an answer
// of its own.
#pragma once

#include "ngx_module/request_ctx.h"

namespace headgate::edge {

// The body is there, as a whole. NGX_DONE: it will be answered. Else: what to finalize the request with.
[[nodiscard]] ngx_int_t publish_batch(ngx_http_request_t* r, RequestCtx* ctx);

}  // namespace headgate::edge
