// What the parts of the module that do no I/O need of nginx: its headers, and this one variable.
#include "ngx_module/ngx.h"

volatile ngx_msec_t ngx_current_msec = 0;
