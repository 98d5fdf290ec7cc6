// Stage 3: body buffers -> XADD chain, without a copy of the payload. The content handler of
// `headgate_publish event`.
#pragma once

#include "ngx_module/conf.h"
#include "ngx_module/request_ctx.h"

namespace headgate::edge {

// Before limits are charged: method, content type, declared length. NGX_DECLINED: go on. Else: answered.
[[nodiscard]] ngx_int_t check_publish_request(ngx_http_request_t* r, RequestCtx* ctx, const LocConf* conf);

// Has the whole body arrived, though it may not have been read yet? Then limit and XADD can be one call.
[[nodiscard]] bool body_has_arrived(ngx_http_request_t* r) noexcept;

// nginx's content handler.
ngx_int_t publish_handler(ngx_http_request_t* r) noexcept;

}  // namespace headgate::edge
