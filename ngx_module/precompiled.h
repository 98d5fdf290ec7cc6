// What most files of the module include in the end: parsed once for all of them (config.make). Every file still
// includes what it uses.
#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ngx_module/ngx.h"
