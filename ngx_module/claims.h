// Claims of the token that let a request in, as variables. Read from the token's payload when a variable is first
// asked for; empty before authentication has succeeded, and for API keys.
#pragma once

#include <span>

#include "ngx_module/request_ctx.h"

namespace headgate::edge {

// $headgate_claim_<name>: nginx hands the variable's name over as data.
inline constexpr std::string_view kClaimPrefix = "headgate_claim_";
[[nodiscard]] ngx_int_t get_claim_variable(ngx_http_request_t* r, ngx_http_variable_value_t* value,
                                           uintptr_t data) noexcept;

// headgate_jwt_claim_set: variable `name` is the claim at `path`, from object to object. False: the error is logged.
[[nodiscard]] bool add_claim_variable(ngx_conf_t* cf, ngx_str_t name, std::span<const ngx_str_t> path);

}  // namespace headgate::edge
