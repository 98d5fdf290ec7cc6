// headgate_status: what all workers have counted, as JSON or for Prometheus.
#pragma once

#include "ngx_module/ngx.h"

namespace headgate::edge {

// nginx's content handler.
ngx_int_t status_handler(ngx_http_request_t* r) noexcept;

}  // namespace headgate::edge
