// The variables $headgate_…: not cacheable, empty before the stage that sets them.
#pragma once

#include "ngx_module/ngx.h"

namespace headgate::edge {

// nginx's preconfiguration step.
[[nodiscard]] ngx_int_t add_variables(ngx_conf_t* cf) noexcept;

}  // namespace headgate::edge
