// Stage 3, before the body: may this request publish at all? Runs in the precontent phase, before limits
// are charged. Next file: publish.h.
#pragma once

#include "common/batch_scanner.h"
#include "ngx_module/conf.h"

namespace headgate::edge {

// Method, content type, declared length. NGX_DECLINED: go on. Else: answered.
[[nodiscard]] ngx_int_t check_publish_request(ngx_http_request_t* r, const LocConf* conf);

// 413, also for a body whose length shows only when it has been read. Returns what finalizes the request.
[[nodiscard]] ngx_int_t respond_too_large(ngx_http_request_t* r, const LocConf* conf);

// Has the whole body arrived, though it may not have been read yet? Then limit and XADD can be one call.
[[nodiscard]] bool body_has_arrived(ngx_http_request_t* r) noexcept;

// The Idempotency-Key: 1 to 255 visible ASCII characters; empty without the header. False: it is anything else, or
// there are two.
[[nodiscard]] bool find_idempotency_key(ngx_http_request_t* r, std::string_view& key) noexcept;

// Of a batch whose Content-Type has been checked.
[[nodiscard]] BatchFormat batch_format(ngx_http_request_t* r);

// W3C Trace Context, version 00: 00-<32 hex>-<16 hex>-<2 hex>. Anything else is left out.
[[nodiscard]] ngx_str_t find_traceparent(ngx_http_request_t* r) noexcept;

}  // namespace headgate::edge
