// Stage 3: body buffers -> XADD chain, without a copy of the payload. The content handler of
// `headgate_publish event`.
#pragma once

#include "ngx_module/conf.h"
#include "ngx_module/request_ctx.h"

namespace headgate::edge {

// nginx's content handler.
ngx_int_t publish_handler(ngx_http_request_t* r) noexcept;

}  // namespace headgate::edge
